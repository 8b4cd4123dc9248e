#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
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

#define MAX_GROUPS 256
/* A process in uninterruptible sleep must not keep the end from being told. */
#define LEFTOVER_ROUNDS 500
#define LEFTOVER_PAUSE_NS 20000000L

void (*report_failure)(const char *text);

static struct {
  uid_t uid;
  gid_t gid;
  gid_t groups[MAX_GROUPS];
  int group_count;
} user;

_Noreturn void fail(int error, const char *step, const char *detail) {
  char text[512];
  snprintf(text, sizeof text, "%s: %s%s%s", step, detail, error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
  if (report_failure != NULL) report_failure(text);
  dprintf(STDERR_FILENO, "mesh-task: %s\n", text);
  exit(1);
}

long long stat_field(pid_t pid, int field) {
  char path[40], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return -1;
  text[length] = '\0';
  char *at = strrchr(text, ')'); /* the name before it may hold spaces and brackets */
  for (int n = 2; at != NULL && n < field; n++) at = strchr(at + 1, ' ');
  return at == NULL ? -1 : strtoll(at + 1, NULL, 10);
}

int parse_id(const char *text, unsigned *id) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value >= 0xffffffffUL) return 0;
  *id = (unsigned)value;
  return 1;
}

void resolve_user(const char *wanted) {
  char name[256];
  if ((size_t)snprintf(name, sizeof name, "%s", wanted) >= sizeof name) fail(0, "user", "the name is too long");
  char *group = strchr(name, ':');
  if (group != NULL) *group++ = '\0';
  struct passwd *entry = parse_id(name, &user.uid) ? getpwuid(user.uid) : getpwnam(name);
  if (entry != NULL) {
    user.uid = entry->pw_uid;
    user.gid = entry->pw_gid;
  } else if (!parse_id(name, &user.uid)) {
    fail(0, "user", "there is no user of this name on the node");
  }
  if (group != NULL) { /* as Docker: a group given by hand is the only one */
    struct group *found = parse_id(group, &user.gid) ? NULL : getgrnam(group);
    if (found != NULL) user.gid = found->gr_gid;
    else if (!parse_id(group, &user.gid)) fail(0, "user", "there is no group of this name on the node");
    user.groups[0] = user.gid;
    user.group_count = 1;
    return;
  }
  if (entry == NULL) fail(0, "user", "this uid has no passwd entry; give UID:GID");
  user.group_count = MAX_GROUPS;
  if (getgrouplist(entry->pw_name, user.gid, user.groups, &user.group_count) < 0) user.group_count = MAX_GROUPS;
}

void close_inherited(void) {
  int null;
  do null = open("/dev/null", O_RDWR);
  while (null >= 0 && null <= STDERR_FILENO); /* 0-2 exist from here on */
  if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0) return;
  for (int fd = 3, last = (int)sysconf(_SC_OPEN_MAX); fd < last; fd++) close(fd); /* Linux < 5.9 */
}

void take_signals(const sigset_t *blocked) {
  /* By system call: libc keeps 32 and 33 to itself, yet ignoring them is inherited as well. */
  static const unsigned char by_default[64];
  for (int n = 1; n <= SIGRTMAX; n++) syscall(SYS_rt_sigaction, n, by_default, NULL, 8);
  sigprocmask(SIG_SETMASK, blocked, NULL);
}

_Noreturn void run_command(pid_t parent, const char *user_name, const char *directory, char **command) {
  setpgid(0, 0);
  umask(022);
  if (user_name != NULL) {
    if (setgroups((size_t)user.group_count, user.groups) != 0) fail(errno, "user", "setgroups");
    if (setresgid(user.gid, user.gid, user.gid) != 0) fail(errno, "user", "setgid");
    if (setresuid(user.uid, user.uid, user.uid) != 0) fail(errno, "user", "setuid");
  }
  /* After the change of user, which clears it (kernel/cred.c, commit_creds). */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail(errno, "prctl", "PR_SET_PDEATHSIG");
  if (getppid() != parent) _exit(126); /* it died before that */
  if (directory != NULL && chdir(directory) != 0) fail(errno, "cwd", directory);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execvp(command[0], command);
  fail(errno, "exec", command[0]);
}

void kill_leftovers(pid_t child) {
  kill(-child, SIGKILL);
  waitpid(child, NULL, 0);
  for (int round = 0; round < LEFTOVER_ROUNDS; round++) {
    pid_t gone;
    while ((gone = waitpid(-1, NULL, WNOHANG)) > 0) continue;
    if (gone < 0 && errno == ECHILD) return;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc != NULL && (entry = readdir(proc)) != NULL;) {
      unsigned pid;
      if (parse_id(entry->d_name, &pid) && stat_field((pid_t)pid, 4) == getpid()) kill((pid_t)pid, SIGKILL);
    }
    if (proc != NULL) closedir(proc);
    nanosleep(&(struct timespec){.tv_nsec = LEFTOVER_PAUSE_NS}, NULL);
  }
}

void signal_name(int number, char *name, size_t size) {
  const char *abbreviation = sigabbrev_np(number);
  if (abbreviation != NULL) snprintf(name, size, "SIG%s", abbreviation);
  else snprintf(name, size, "SIG%d", number);
}
