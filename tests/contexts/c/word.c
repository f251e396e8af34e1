const char *word(void) { return "compiled"; }
