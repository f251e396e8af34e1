#include <stdio.h>
const char *word(void);
int main(void) { printf("%s\n", word()); }
