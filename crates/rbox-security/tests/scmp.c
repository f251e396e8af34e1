/* Feeds libseccomp with rules read from stdin, the way runc does, and writes its BPF program to stdout.
 *   default ACTION ERRNO | arch ARCH | rule NAME ACTION ERRNO NARGS (INDEX OP VALUE VALUE2)*
 * With an architecture as argument: writes the number and the name of each call of it instead.
 * The first arch takes the place of the machine's own. Names libseccomp does not know are told on stderr. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint32_t action(const char *name, unsigned value)
{
	if (!strcmp(name, "SCMP_ACT_ALLOW")) return SCMP_ACT_ALLOW;
	if (!strcmp(name, "SCMP_ACT_LOG")) return SCMP_ACT_LOG;
	if (!strcmp(name, "SCMP_ACT_ERRNO")) return SCMP_ACT_ERRNO(value);
	if (!strcmp(name, "SCMP_ACT_TRACE")) return SCMP_ACT_TRACE(value);
	if (!strcmp(name, "SCMP_ACT_TRAP")) return SCMP_ACT_TRAP;
	if (!strcmp(name, "SCMP_ACT_KILL_PROCESS")) return SCMP_ACT_KILL_PROCESS;
	if (!strcmp(name, "SCMP_ACT_KILL_THREAD")) return SCMP_ACT_KILL_THREAD;
	fprintf(stderr, "no action %s\n", name);
	exit(2);
}

static enum scmp_compare compare(const char *name)
{
	static const char *const names[] = { "", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ" };
	for (int at = 1; at < 8; at++)
		if (!strcmp(name + strlen("SCMP_CMP_"), names[at])) return (enum scmp_compare)at;
	fprintf(stderr, "no operator %s\n", name);
	exit(2);
}

static uint32_t arch(const char *name)
{
	char lower[32] = { 0 };
	name += strlen("SCMP_ARCH_");
	for (int at = 0; name[at] && at < 31; at++) lower[at] = (name[at] >= 'A' && name[at] <= 'Z') ? name[at] + 32 : name[at];
	return seccomp_arch_resolve_name(lower);
}

static void add(scmp_filter_ctx ctx, uint32_t act, int call, unsigned count, const struct scmp_arg_cmp *args, const char *name)
{
	int failed = seccomp_rule_add_array(ctx, act, call, count, args);
	if (failed && failed != -EEXIST) {
		fprintf(stderr, "rule for %s: %s\n", name, strerror(-failed));
		exit(2);
	}
}

static int list(uint32_t token)
{
	static const unsigned starts[] = { 0, 0x40000000, 0x0f0000 };
	for (int range = 0; range < 3; range++)
		for (unsigned at = starts[range]; at < starts[range] + 1024; at++) {
			char *name = seccomp_syscall_resolve_num_arch(token, (int)at);
			if (name && seccomp_syscall_resolve_name_arch(token, name) == (int)at) printf("%u %s\n", at, name);
			free(name);
		}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1) return list(arch(argv[1]));
	char word[64], name[64];
	uint32_t default_action = 0;
	unsigned value;
	int first = 1;
	scmp_filter_ctx ctx = NULL;
	while (scanf("%63s", word) == 1) {
		if (!strcmp(word, "default")) {
			if (scanf("%63s %u", name, &value) != 2) return 2;
			default_action = action(name, value);
			if (!(ctx = seccomp_init(default_action))) return 2;
			seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
		} else if (!strcmp(word, "arch")) {
			if (scanf("%63s", name) != 1) return 2;
			uint32_t token = arch(name);
			if (first && token != seccomp_arch_native()) {
				if (seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE)) return 2;
			}
			int failed = seccomp_arch_add(ctx, token);
			if (failed && failed != -EEXIST) return 2;
			first = 0;
		} else if (!strcmp(word, "rule")) {
			char act[64], op[64];
			unsigned count, index, same = 0;
			unsigned long long one, two;
			struct scmp_arg_cmp args[32];
			if (scanf("%63s %63s %u %u", name, act, &value, &count) != 4 || count > 32) return 2;
			for (unsigned at = 0; at < count; at++) {
				if (scanf("%u %63s %llu %llu", &index, op, &one, &two) != 4) return 2;
				args[at] = (struct scmp_arg_cmp){ index, compare(op), one, two };
				for (unsigned before = 0; before < at; before++) same |= args[before].arg == index;
			}
			int call = seccomp_syscall_resolve_name(name);
			if (call == __NR_SCMP_ERROR) {
				fprintf(stderr, "unknown %s\n", name);
				continue;
			}
			if (action(act, value) == default_action) continue;
			if (same) {
				for (unsigned at = 0; at < count; at++) add(ctx, action(act, value), call, 1, &args[at], name);
			} else {
				add(ctx, action(act, value), call, count, args, name);
			}
		} else {
			return 2;
		}
	}
	return seccomp_export_bpf(ctx, STDOUT_FILENO) ? 2 : 0;
}
