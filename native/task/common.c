#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define LEFTOVER_PAUSE_NS 20000000L

void (*report_failure)(const char *text);

_Noreturn void fail(int error, const char *step, const char *detail) {
  char text[512];
  snprintf(text, sizeof text, "%s: %s%s%s", step, detail, error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
  if (report_failure != NULL) report_failure(text);
  dprintf(STDERR_FILENO, "mesh-task: %s\n", text);
  exit(1);
}

int open_proc(void) {
  int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (proc < 0) fail(errno, "proc", "/proc");
  return proc;
}

long long stat_field(int proc, pid_t pid, int field) {
  char path[40], text[1024];
  snprintf(path, sizeof path, "%d/stat", pid);
  int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return -1;
  text[length] = '\0';
  char *at = strrchr(text, ')'); /* the name before it may hold spaces and brackets */
  for (int n = 2; at != NULL && n < field; n++) at = strchr(at + 1, ' ');
  return at == NULL ? -1 : strtoll(at + 1, NULL, 10);
}

pid_t next_child(DIR *proc, pid_t parent) {
  for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
    unsigned pid;
    if (parse_id(entry->d_name, &pid) && stat_field(dirfd(proc), (pid_t)pid, 4) == parent) return (pid_t)pid;
  }
  return 0;
}

void close_from(int first) {
  if (syscall(SYS_close_range, (unsigned)first, ~0U, 0U) == 0) return;
  for (int fd = first, last = (int)sysconf(_SC_OPEN_MAX); fd < last; fd++) close(fd); /* Linux < 5.9 */
}

void close_inherited(void) {
  int null;
  do null = open("/dev/null", O_RDWR);
  while (null >= 0 && null <= STDERR_FILENO); /* 0-2 exist from here on */
  close_from(STDERR_FILENO + 1);
}

void take_signals(const sigset_t *blocked) {
  /* By system call: libc reserves 32 and 33 for itself, but an ignored disposition is inherited for them as well. */
  static const unsigned char by_default[64];
  for (int n = 1; n <= SIGRTMAX; n++) syscall(SYS_rt_sigaction, n, by_default, NULL, 8);
  sigprocmask(SIG_SETMASK, blocked, NULL);
}

_Noreturn void run_command(const struct command *command, pid_t parent) {
  setsid();
  umask(022);
  if (command->user != NULL) take_groups();
  take_privileges(&command->privileges, command->user != NULL);
  /* After the change of user, which clears it (kernel/cred.c, commit_creds). */
  if (parent != 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail(errno, "prctl", "PR_SET_PDEATHSIG");
  if (parent != 0 && getppid() != parent) _exit(126); /* it died before that */
  if (command->directory != NULL && chdir(command->directory) != 0) fail(errno, "cwd", command->directory);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  environ = command->environment; /* searched for PATH */
  execvp(command->arguments[0], command->arguments);
  fail(errno, "exec", command->arguments[0]);
}

int has_ended(pid_t command, siginfo_t *end) {
  *end = (siginfo_t){0};
  while (waitid(P_ALL, 0, end, WEXITED | WNOHANG | WNOWAIT) == 0 && end->si_pid != 0) {
    if (end->si_pid == command) return 1;
    waitpid(end->si_pid, NULL, WNOHANG);
    end->si_pid = 0;
  }
  return 0;
}

void leftover_pause(void) { nanosleep(&(struct timespec){.tv_nsec = LEFTOVER_PAUSE_NS}, NULL); }

void kill_leftovers(pid_t child) {
  kill(-child, SIGKILL);
  waitpid(child, NULL, 0);
  for (int round = 0; round < LEFTOVER_ROUNDS; round++) {
    pid_t reaped;
    while ((reaped = waitpid(-1, NULL, WNOHANG)) > 0) continue;
    if (reaped < 0 && errno == ECHILD) break;
    DIR *proc = opendir("/proc");
    for (pid_t pid; proc != NULL && (pid = next_child(proc, getpid())) > 0;) kill(pid, SIGKILL);
    if (proc != NULL) closedir(proc);
    leftover_pause();
  }
}

void signal_name(int number, char *name, size_t size) {
  const char *abbreviation = sigabbrev_np(number);
  if (abbreviation != NULL) snprintf(name, size, "SIG%s", abbreviation);
  else snprintf(name, size, "SIG%d", number);
}
