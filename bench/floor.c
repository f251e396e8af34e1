/* The floor: the least work that still is "a container with an overlay root", done with raw system calls and nothing
 * else. What a container engine takes beyond this is its own.
 *
 *   floor LOWER [net] PROGRAM ...     LOWER is a directory with a root file system in it
 *
 * One clone3 into new pid, mount, uts, ipc and cgroup namespaces (and a network one, left empty, with `net`); the child
 * mounts an overlay of LOWER, /proc, /dev with its four mounts, /sys; changes its root and executes PROGRAM, which should
 * be static. The parent waits and removes the upper directory. No cgroup limits, no seccomp filter, no veth.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(long result, const char *what) {
  if (result < 0) {
    perror(what);
    _exit(125);
  }
}

static void enter(const char *lower, const char *scratch, char **program) {
  char options[3072];
  snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work,volatile", lower, scratch, scratch);
  must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make / private");
  must(chdir(scratch), "chdir");
  must(mount("overlay", "root", "overlay", 0, options), "mount overlay");
  must(chdir("root"), "chdir root");
  must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount proc");
  must(mount("sysfs", "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount sysfs");
  must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k"), "mount /dev");
  must(mknod("dev/null", S_IFCHR | 0666, makedev(1, 3)), "mknod null");
  mkdir("dev/pts", 0755);
  mkdir("dev/shm", 01777);
  mkdir("dev/mqueue", 0755);
  must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "mount devpts");
  must(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m"), "mount shm");
  must(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount mqueue");
  must(sethostname("floor", 5), "sethostname");
  must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
  must(umount2(".", MNT_DETACH), "umount the old root");
  must(chdir("/"), "chdir /");
  char *none[] = {NULL};
  execve(program[0], program, none);
  perror(program[0]);
  _exit(127);
}

int main(int argc, char **argv) {
  int net = argc > 2 && strcmp(argv[2], "net") == 0;
  if (argc < 3 + net) {
    fprintf(stderr, "usage: floor LOWER [net] PROGRAM ...\n");
    return 125;
  }
  const char *base = getenv("FLOOR_DIR");
  char scratch[1024], path[1100];
  snprintf(scratch, sizeof scratch, "%s/floor.XXXXXX", base ? base : "/var/tmp");
  if (!mkdtemp(scratch)) {
    perror(scratch);
    return 125;
  }
  const char *made[] = {"upper", "work", "root"};
  for (int i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "%s/%s", scratch, made[i]);
    must(mkdir(path, 0755), path);
  }
  struct clone_args args = {
      .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | (net ? CLONE_NEWNET : 0),
      .exit_signal = SIGCHLD,
  };
  long child = syscall(SYS_clone3, &args, sizeof args);
  must(child, "clone3");
  if (child == 0) enter(argv[1], scratch, argv + 2 + net);
  int status = 0;
  must(waitpid((pid_t)child, &status, 0), "waitpid");
  /* Of the work directory the kernel leaves work/ and, for a volatile mount, incompat/volatile. */
  snprintf(path, sizeof path, "%s/work/work/incompat/volatile/dirty", scratch);
  unlink(path);
  const char *left[] = {"work/work/incompat/volatile", "work/work/incompat", "work/work", "work", "root", "upper", ""};
  for (int i = 0; i < 7; i++) {
    snprintf(path, sizeof path, "%s/%s", scratch, left[i]);
    rmdir(path);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
