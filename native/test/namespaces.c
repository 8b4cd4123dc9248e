/* Tries every way to a new or another namespace, and what must keep working; one line each: NAME RESULT. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int unshare(int flags);
int setns(int fd, int kind);

/* In a child, because a success would change what follows. */
#define TRY(name, call)                                                             \
  do {                                                                              \
    fflush(stdout);                                                                 \
    if (fork() == 0) {                                                              \
      long result = (call);                                                         \
      if (result == 0 || result == -1) printf("%s %s\n", name, result == 0 ? "ok" : strerrorname_np(errno)); \
      fflush(stdout);                                                               \
      _exit(0);                                                                     \
    }                                                                               \
    while (wait(NULL) > 0) continue;                                                \
  } while (0)

const char *strerrorname_np(int error);

/* Zero in the parent as well, so that it reports. */
static long spawned(long pid) {
  if (pid == 0) _exit(0);
  return pid < 0 ? pid : 0;
}

static long clone3_with(unsigned long long flags) {
  struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
  return spawned(syscall(SYS_clone3, &args, sizeof args));
}

#ifdef __x86_64__
/* A system call by its 32-bit number. */
static long call32(int number, int argument) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(argument), "c"(0), "d"(0), "S"(0), "D"(0) : "memory", "r8", "r9", "r10", "r11");
  if (result >= 0) return result;
  errno = -result;
  return -1;
}
#endif

static void *in_thread(void *unused) { return unused; }

static long thread(void) {
  pthread_t started;
  return pthread_create(&started, NULL, in_thread, NULL) == 0 ? pthread_join(started, NULL) : -1;
}

int main(void) {
  TRY("unshare-user", unshare(CLONE_NEWUSER));
  TRY("unshare-user-mount", unshare(CLONE_NEWUSER | CLONE_NEWNS));
  TRY("unshare-time", unshare(CLONE_NEWTIME));
  TRY("clone-user", spawned(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)));
  TRY("clone3-user", clone3_with(CLONE_NEWUSER));
  TRY("setns", setns(open("/proc/self/ns/uts", O_RDONLY), 0));
  TRY("mount", mount("none", "/mnt", "tmpfs", 0, NULL));
#ifdef __x86_64__
  TRY("unshare-user-32", call32(310, CLONE_NEWUSER));
  TRY("clone-user-32", spawned(call32(120, CLONE_NEWUSER | SIGCHLD)));
  TRY("getppid-32", call32(64, 0) > 0 ? 0 : -1);
#endif
  TRY("unshare-files", unshare(CLONE_FILES));
  TRY("fork", spawned(fork()));
  TRY("thread", thread());
  return 0;
}
