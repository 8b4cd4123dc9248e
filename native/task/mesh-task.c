/*
 * mesh-task: starts one task in a network namespace, stays its parent, and
 * tells its end through a file. It lives on when the agent dies, so that a
 * restarted agent finds its tasks running and learns how they ended.
 *
 *   mesh-task --netns PATH --dir STATE_DIR [options] -- command [args...]
 *
 * STATE_DIR/started  {"pid","startTime","shimPid","shimStartTime"}  once exec has succeeded
 * STATE_DIR/exit     {"code","signal","error","at"}                 at the end; error begins with the failed step
 * Start times are field 22 of /proc/PID/stat (clock ticks since boot), `at` is ms since 1970.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
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
/* A process in uninterruptible sleep must not keep the exit from being told. */
#define LEFTOVER_ROUNDS 500
#define LEFTOVER_PAUSE_NS 20000000L

static struct {
  const char *netns, *dir, *resolv_conf, *hostname, *user, *cwd, *log;
  int stop_signal;
} opt = {.stop_signal = SIGTERM};

static struct {
  uid_t uid;
  gid_t gid;
  gid_t groups[MAX_GROUPS];
  int group_count;
} user;

static int state_dir = -1;
/* In the forked child: where to report a failed step instead of the exit file. */
static int report_pipe = -1;

/* ---- reports ---- */

static void write_state(const char *name, const char *text) {
  char temporary[64];
  snprintf(temporary, sizeof temporary, ".%s.%d", name, getpid());
  int fd = openat(state_dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return;
  ssize_t length = (ssize_t)strlen(text);
  ssize_t written = write(fd, text, (size_t)length);
  if (close(fd) == 0 && written == length && renameat(state_dir, temporary, state_dir, name) == 0) return;
  unlinkat(state_dir, temporary, 0);
}

static void json_string(char *out, size_t size, const char *text) {
  size_t n = 0;
  out[n++] = '"';
  for (; *text != '\0' && n + 9 < size; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\') out[n++] = '\\';
    if (c < 0x20) n += (size_t)snprintf(out + n, size - n, "\\u%04x", c);
    else out[n++] = (char)c;
  }
  out[n++] = '"';
  out[n] = '\0';
}

static void write_exit(const char *code, const char *signal_name, const char *error) {
  char text[2048], quoted_error[1200] = "null", quoted_signal[40] = "null";
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (error != NULL) json_string(quoted_error, sizeof quoted_error, error);
  if (signal_name != NULL) json_string(quoted_signal, sizeof quoted_signal, signal_name);
  snprintf(text, sizeof text, "{\"code\":%s,\"signal\":%s,\"error\":%s,\"at\":%lld}\n", code, quoted_signal,
           quoted_error, (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
  write_state("exit", text);
}

/* Ends this process with "step: detail: reason" told to whoever waits for it. */
static _Noreturn void fail(int error, const char *step, const char *detail) {
  char text[512];
  snprintf(text, sizeof text, "%s: %s%s%s", step, detail, error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
  if (report_pipe >= 0) {
    if (write(report_pipe, text, strlen(text)) < 0) _exit(126);
    _exit(127);
  }
  if (state_dir >= 0) write_exit("null", NULL, text);
  dprintf(STDERR_FILENO, "mesh-task: %s\n", text);
  exit(1);
}

/* ---- /proc/PID/stat ---- */

/* Reads one numeric field (4 = parent, 22 = start time); -1 when the process is gone. */
static long long stat_field(pid_t pid, int field) {
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

/* ---- set-up, in the shim ---- */

static _Noreturn void usage(const char *reason) {
  dprintf(STDERR_FILENO,
          "mesh-task: %s\nusage: mesh-task --netns PATH --dir STATE_DIR [--resolv-conf FILE] [--hostname NAME]\n"
          "                 [--user UID:GID|NAME[:GROUP]] [--cwd DIR] [--log FILE] [--stop-signal N]\n"
          "                 -- command [args...]\n",
          reason);
  exit(2);
}

static char **parse_arguments(int argc, char **argv) {
  static const struct option options[] = {
      {"netns", 1, NULL, 'n'}, {"dir", 1, NULL, 'd'},  {"resolv-conf", 1, NULL, 'r'}, {"hostname", 1, NULL, 'h'},
      {"user", 1, NULL, 'u'},  {"cwd", 1, NULL, 'c'},  {"log", 1, NULL, 'l'},         {"stop-signal", 1, NULL, 's'},
      {NULL, 0, NULL, 0}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
    switch (c) {
      case 'n': opt.netns = optarg; break;
      case 'd': opt.dir = optarg; break;
      case 'r': opt.resolv_conf = optarg; break;
      case 'h': opt.hostname = optarg; break;
      case 'u': opt.user = optarg; break;
      case 'c': opt.cwd = optarg; break;
      case 'l': opt.log = optarg; break;
      case 's': opt.stop_signal = atoi(optarg); break;
      default: usage("unknown option, or an option without its value");
    }
  }
  if (opt.netns == NULL || opt.dir == NULL) usage("--netns and --dir are required");
  if (opt.stop_signal < 1 || opt.stop_signal > SIGRTMAX) usage("--stop-signal must be a signal number");
  if (optind >= argc) usage("no command given");
  return argv + optind;
}

static int parse_id(const char *text, unsigned *id) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value >= 0xffffffffUL) return 0;
  *id = (unsigned)value;
  return 1;
}

/* Before the namespaces are entered: NSS may need the host's network and files. */
static void resolve_user(void) {
  char name[256];
  if ((size_t)snprintf(name, sizeof name, "%s", opt.user) >= sizeof name) fail(0, "user", "the name is too long");
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

static void close_inherited(void) {
  int null;
  do null = open("/dev/null", O_RDWR);
  while (null >= 0 && null <= STDERR_FILENO); /* 0-2 exist from here on */
  if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0) return;
  for (int fd = 3, last = (int)sysconf(_SC_OPEN_MAX); fd < last; fd++) close(fd); /* Linux < 5.9 */
}

static void redirect_output(void) {
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || dup2(null, STDIN_FILENO) < 0) fail(errno, "stdin", "/dev/null");
  if (opt.log == NULL) return;
  int log = open(opt.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  if (log < 0 || dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0) fail(errno, "log", opt.log);
}

static void enter_namespaces(void) {
  int netns = open(opt.netns, O_RDONLY | O_CLOEXEC);
  if (netns < 0) fail(errno, "netns", opt.netns);
  if (unshare(CLONE_NEWNS | (opt.hostname != NULL ? CLONE_NEWUTS : 0)) != 0) fail(errno, "unshare", "mount namespace");
  /* Slave, not private: a netns pin removed on the host must go here as well,
   * else this task would keep every deleted namespace of the node alive. */
  if (mount("", "/", "none", MS_SLAVE | MS_REC, NULL) != 0) fail(errno, "mount", "/");
  if (opt.hostname != NULL && sethostname(opt.hostname, strlen(opt.hostname)) != 0) fail(errno, "hostname", opt.hostname);
  if (setns(netns, CLONE_NEWNET) != 0) fail(errno, "netns", opt.netns);
  close(netns);
  if (opt.resolv_conf == NULL) return;
  if (access(opt.resolv_conf, R_OK) != 0) fail(errno, "resolv-conf", opt.resolv_conf);
  if (access("/etc/resolv.conf", F_OK) != 0)
    dprintf(STDERR_FILENO, "mesh-task: resolv-conf: this node has no /etc/resolv.conf to cover; the task runs without it\n");
  else if (mount(opt.resolv_conf, "/etc/resolv.conf", NULL, MS_BIND, NULL) != 0)
    fail(errno, "resolv-conf", opt.resolv_conf);
}

/* ---- the task ---- */

static _Noreturn void run_command(pid_t shim, char **command) {
  setpgid(0, 0);
  umask(022);
  if (opt.user != NULL) {
    if (setgroups((size_t)user.group_count, user.groups) != 0) fail(errno, "user", "setgroups");
    if (setresgid(user.gid, user.gid, user.gid) != 0) fail(errno, "user", "setgid");
    if (setresuid(user.uid, user.uid, user.uid) != 0) fail(errno, "user", "setuid");
  }
  /* After the change of user, which clears it (kernel/cred.c, commit_creds). */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail(errno, "prctl", "PR_SET_PDEATHSIG");
  if (getppid() != shim) _exit(126); /* the shim died before that */
  if (opt.cwd != NULL && chdir(opt.cwd) != 0) fail(errno, "cwd", opt.cwd);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execvp(command[0], command);
  fail(errno, "exec", command[0]);
}

static pid_t start(char **command) {
  int pipe_fds[2];
  char error[512], text[256];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) fail(errno, "pipe", "exec report");
  pid_t shim = getpid(), pid = fork();
  if (pid < 0) fail(errno, "fork", command[0]);
  if (pid == 0) {
    report_pipe = pipe_fds[1];
    run_command(shim, command);
  }
  close(pipe_fds[1]);
  ssize_t length;
  do length = read(pipe_fds[0], error, sizeof error - 1);
  while (length < 0 && errno == EINTR);
  close(pipe_fds[0]);
  if (length > 0) {
    error[length] = '\0';
    waitpid(pid, NULL, 0);
    write_exit("null", NULL, error);
    dprintf(STDERR_FILENO, "mesh-task: %s\n", error);
    exit(1);
  }
  snprintf(text, sizeof text, "{\"pid\":%d,\"startTime\":%lld,\"shimPid\":%d,\"shimStartTime\":%lld}\n", pid,
           stat_field(pid, 22), shim, stat_field(shim, 22));
  write_state("started", text);
  return pid;
}

/* Reaps orphans and forwards signals until the task is a zombie. It is left
 * one, so that its number cannot be reused before its group is killed. */
static siginfo_t wait_for_task(pid_t task, const sigset_t *signals) {
  for (;;) {
    siginfo_t child = {0};
    while (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) == 0 && child.si_pid != 0) {
      if (child.si_pid == task) return child;
      waitpid(child.si_pid, NULL, WNOHANG);
      child.si_pid = 0;
    }
    int signal_number = sigwaitinfo(signals, NULL);
    if (signal_number > 0 && signal_number != SIGCHLD)
      kill(task, signal_number == SIGTERM ? opt.stop_signal : signal_number);
  }
}

/* Whatever the task started comes to the shim, its subreaper, sooner or later. */
static void kill_leftovers(pid_t task) {
  kill(-task, SIGKILL);
  waitpid(task, NULL, 0);
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

int main(int argc, char **argv) {
  static const int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
  char **command = parse_arguments(argc, argv);
  close_inherited();
  state_dir = open(opt.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (state_dir < 0) fail(errno, "dir", opt.dir);
  unlinkat(state_dir, "started", 0); /* of an earlier run */
  unlinkat(state_dir, "exit", 0);

  /* By system call: libc keeps 32 and 33 to itself, yet ignoring them is inherited as well. */
  static const unsigned char by_default[64];
  for (int n = 1; n <= SIGRTMAX; n++) syscall(SYS_rt_sigaction, n, by_default, NULL, 8);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++) sigaddset(&signals, forwarded[i]);
  sigprocmask(SIG_SETMASK, &signals, NULL);

  redirect_output();
  if (getsid(0) != getpid() && setsid() < 0) fail(errno, "setsid", "start mesh-task as a child, not as a job of a shell");
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) fail(errno, "prctl", "PR_SET_CHILD_SUBREAPER");
  if (opt.user != NULL) resolve_user();
  enter_namespaces();

  pid_t task = start(command);
  siginfo_t end = wait_for_task(task, &signals);
  kill_leftovers(task);

  char number[16], name[32];
  if (end.si_code == CLD_EXITED) {
    snprintf(number, sizeof number, "%d", end.si_status);
    write_exit(number, NULL, NULL);
    return end.si_status;
  }
  const char *abbreviation = sigabbrev_np(end.si_status);
  if (abbreviation != NULL) snprintf(name, sizeof name, "SIG%s", abbreviation);
  else snprintf(name, sizeof name, "SIG%d", end.si_status);
  write_exit("null", name, NULL);
  return 128 + end.si_status;
}
