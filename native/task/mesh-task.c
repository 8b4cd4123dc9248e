/*
 * mesh-task: starts one task in a network, mount and pid namespace, stays its
 * parent, and reports its end through a file. It survives the agent, so that
 * a restarted agent finds its tasks running and learns how they ended.
 *
 *   mesh-task --netns PATH --dir STATE_DIR [options] -- command [args...]
 *   mesh-task --probe ...   runs a health probe beside a task instead (probe.c)
 *
 * The task's environment is read from standard input (environment.c). Without
 * --capabilities the task has none.
 *
 * Three processes: this one, outside the pid namespace; a fork of it as process
 * 1 inside, which reaps orphans; the task. When process 1 ends, the kernel
 * kills all remaining processes of the namespace (zap_pid_ns_processes).
 *
 * Output of the task goes through a pipe to the log, which has a bound on its size (log.c).
 *
 * STATE_DIR/started  {"pid","startTime","shimPid","shimStartTime"}  once exec has succeeded
 * STATE_DIR/exit     {"code","signal","error","left","at"}          at the end; error begins with the failed step, left is
 *                    the name of a process that outlived the command, which ended with status 0
 * Start times are field 22 of /proc/PID/stat (clock ticks since boot), `at` is ms since 1970.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "log.h"

static struct {
  const char *netns, *dir, *resolv_conf, *hostname, *log;
  struct log_limits log_limits;
  int stop_signal;
  struct command command;
} opt = {.stop_signal = SIGTERM};

static int state_dir = -1;
/* The host's /proc: its path is covered by the task's. */
static int host_proc = -1;
/* In the forked child: reports a failed step here instead of the exit file. */
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

/* All of them but the code may be NULL. */
static void write_exit(const char *code, const char *signal_name, const char *error, const char *left) {
  char text[2048], quoted_error[1200] = "null", quoted_signal[40] = "null", quoted_left[160] = "null";
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (error != NULL) json_string(quoted_error, sizeof quoted_error, error);
  if (signal_name != NULL) json_string(quoted_signal, sizeof quoted_signal, signal_name);
  if (left != NULL) json_string(quoted_left, sizeof quoted_left, left);
  snprintf(text, sizeof text, "{\"code\":%s,\"signal\":%s,\"error\":%s,\"left\":%s,\"at\":%lld}\n", code, quoted_signal,
           quoted_error, quoted_left, (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
  write_state("exit", text);
}

static void report_in_shim(const char *text) {
  if (state_dir >= 0) write_exit("null", NULL, text, NULL);
}

static void report_in_child(const char *text) { _exit(write(report_pipe, text, strlen(text)) < 0 ? 126 : 127); }

/* ---- set-up, in the shim ---- */

static _Noreturn void usage(const char *reason) {
  dprintf(STDERR_FILENO,
          "mesh-task: %s\nusage: mesh-task --netns PATH --dir STATE_DIR [--resolv-conf FILE] [--hostname NAME]\n"
          "                 [--user UID:GID|NAME[:GROUP]] [--cwd DIR] [--stop-signal N]\n"
          "                 [--log FILE --log-size BYTES --log-files N]\n"
          "                 [--capabilities HEX] [--ambient HEX] [--new-privileges]\n"
          "                 -- command [args...] < environment\n",
          reason);
  exit(2);
}

static void parse_arguments(int argc, char **argv) {
  static const struct option options[] = {
      {"netns", 1, NULL, 'n'},    {"dir", 1, NULL, 'd'}, {"resolv-conf", 1, NULL, 'r'},
      {"hostname", 1, NULL, 'h'}, {"log", 1, NULL, 'l'}, {"log-size", 1, NULL, 'z'},
      {"log-files", 1, NULL, 'f'}, {"stop-signal", 1, NULL, 's'}, COMMAND_OPTIONS, {NULL, 0, NULL, 0}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
    const char *wrong = NULL;
    switch (c) {
      case 'n': opt.netns = optarg; break;
      case 'd': opt.dir = optarg; break;
      case 'r': opt.resolv_conf = optarg; break;
      case 'h': opt.hostname = optarg; break;
      case 'l': opt.log = optarg; break;
      case 'z': opt.log_limits.max_size = atoll(optarg); break;
      case 'f': opt.log_limits.max_files = (unsigned)atoi(optarg); break;
      case 's': opt.stop_signal = atoi(optarg); break;
      default: wrong = command_option(&opt.command, c, optarg);
    }
    if (wrong != NULL) usage(wrong);
  }
  if (opt.netns == NULL || opt.dir == NULL) usage("--netns and --dir are required");
  if (opt.log != NULL && (opt.log_limits.max_size < 1 || opt.log_limits.max_files < 1 || opt.log_limits.max_files > 1000))
    usage("--log requires --log-size BYTES and --log-files 1-1000");
  if (opt.stop_signal < 1 || opt.stop_signal > SIGRTMAX) usage("--stop-signal must be a signal number");
  if (optind >= argc) usage("no command given");
  opt.command.arguments = argv + optind;
}

static void redirect_output(void) {
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || dup2(null, STDIN_FILENO) < 0) fail(errno, "stdin", "/dev/null");
  if (opt.log != NULL) open_log(opt.log, &opt.log_limits);
}

static void enter_namespaces(void) {
  int netns = open(opt.netns, O_RDONLY | O_CLOEXEC);
  if (netns < 0) fail(errno, "netns", opt.netns);
  if (unshare(CLONE_NEWNS | (opt.hostname != NULL ? CLONE_NEWUTS : 0)) != 0) fail(errno, "unshare", "mount namespace");
  /* Slave, not private: the removal of a netns pin on the host must propagate,
   * otherwise this task would keep every deleted namespace of the node alive. */
  if (mount("", "/", "none", MS_SLAVE | MS_REC, NULL) != 0) fail(errno, "mount", "/");
  if (opt.hostname != NULL && sethostname(opt.hostname, strlen(opt.hostname)) != 0) fail(errno, "hostname", opt.hostname);
  if (setns(netns, CLONE_NEWNET) != 0) fail(errno, "netns", opt.netns);
  close(netns);
  if (unshare(CLONE_NEWPID) != 0) fail(errno, "unshare", "pid namespace"); /* of the children; we stay outside */
  if (opt.resolv_conf == NULL) return;
  if (access(opt.resolv_conf, R_OK) != 0) fail(errno, "resolv-conf", opt.resolv_conf);
  if (access("/etc/resolv.conf", F_OK) != 0)
    dprintf(STDERR_FILENO, "mesh-task: resolv-conf: this node has no /etc/resolv.conf to mount over; the task runs without one\n");
  else if (mount(opt.resolv_conf, "/etc/resolv.conf", NULL, MS_BIND, NULL) != 0)
    fail(errno, "resolv-conf", opt.resolv_conf);
}

/* ---- the task ---- */

/* Process 1 of the pid namespace. It ends with its shim, which holds the only other end of the pipe. */
static _Noreturn void run_init(int shim_alive) {
  char nothing;
  signal(SIGCHLD, SIG_IGN); /* the kernel reaps (do_notify_parent) */
  prctl(PR_SET_DUMPABLE, 0);
  dup2(shim_alive, STDIN_FILENO);
  close_from(STDIN_FILENO + 1);
  while (read(STDIN_FILENO, &nothing, 1) < 0 && errno == EINTR) continue;
  _exit(0);
}

static pid_t start_init(void) {
  int alive[2]; /* only we have the end that is written to; exec closes the task's copy */
  if (pipe2(alive, O_CLOEXEC) != 0) fail(errno, "pipe", "pid namespace");
  pid_t pid = fork();
  if (pid < 0) fail(errno, "fork", "pid namespace");
  if (pid == 0) {
    close(alive[1]);
    run_init(alive[0]);
  }
  close(alive[0]);
  return pid;
}

/* In the task, because a mounted /proc shows the pid namespace of the mounting process. */
static void mount_proc(void) {
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0) fail(errno, "mount", "/proc");
}

/* In the task. Its user owns the pipe, so that the task can open /dev/stdout and /dev/stderr by name. */
static void redirect_to_pipe(int output) {
  if (opt.command.user != NULL) give_to_user(output);
  if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0) fail(errno, "pipe", "log");
}

static pid_t start_task(void) {
  int pipe_fds[2];
  char error[512], text[256];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) fail(errno, "pipe", "exec report");
  int output = opt.log == NULL ? -1 : open_log_pipe();
  pid_t shim = getpid(), pid = fork();
  if (pid < 0) fail(errno, "fork", opt.command.arguments[0]);
  if (pid == 0) {
    report_pipe = pipe_fds[1];
    report_failure = report_in_child;
    if (output >= 0) redirect_to_pipe(output);
    mount_proc();
    run_command(&opt.command, 0);
  }
  close(pipe_fds[1]);
  if (output >= 0) close(output);
  ssize_t length;
  do length = read(pipe_fds[0], error, sizeof error - 1);
  while (length < 0 && errno == EINTR);
  close(pipe_fds[0]);
  if (length > 0) {
    error[length] = '\0';
    waitpid(pid, NULL, 0);
    write_exit("null", NULL, error, NULL);
    dprintf(STDERR_FILENO, "mesh-task: %s\n", error);
    exit(1);
  }
  snprintf(text, sizeof text, "{\"pid\":%d,\"startTime\":%lld,\"shimPid\":%d,\"shimStartTime\":%lld}\n", pid,
           stat_field(host_proc, pid, 22), shim, stat_field(host_proc, shim, 22));
  write_state("started", text);
  return pid;
}

/*
 * Writes its output to the log and forwards signals until the task is a zombie. It is not reaped yet, so that no signal can
 * reach a reused number.
 */
static siginfo_t wait_for_task(pid_t task, int signal_fd) {
  for (siginfo_t end;;) {
    struct pollfd fds[] = {{signal_fd, POLLIN, 0}, {log_pipe(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents != 0) take_log_output();
    struct signalfd_siginfo received;
    if (fds[0].revents == 0 || read(signal_fd, &received, sizeof received) != sizeof received) continue;
    int number = (int)received.ssi_signo;
    if (number != SIGCHLD) kill(task, number == SIGTERM ? opt.stop_signal : number);
    else if (has_ended(task, &end)) return end;
  }
}

/*
 * The name of a process that outlives the task; false if there is none. When the task ended, its children became those of
 * process 1 (kernel/exit.c, forget_original_parent), as those of a command that made itself a daemon did before.
 */
static int find_left_behind(pid_t init, char *name, size_t size) {
  char path[40];
  int proc_fd = openat(host_proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *proc = proc_fd < 0 ? NULL : fdopendir(proc_fd);
  if (proc == NULL) return 0;
  ssize_t length = 0;
  for (pid_t pid; length <= 0 && (pid = next_child(proc, init)) > 0;) {
    snprintf(path, sizeof path, "%d/comm", pid);
    int comm = openat(host_proc, path, O_RDONLY | O_CLOEXEC);
    if (comm < 0) continue; /* ended meanwhile */
    length = read(comm, name, size - 1);
    close(comm);
  }
  closedir(proc);
  if (length <= 0) return 0;
  name[name[length - 1] == '\n' ? length - 1 : length] = '\0';
  return 1;
}

/* Kills all remaining processes of the pid namespace. Process 1 waits for the task to be reaped, so reap it first. */
static void end_namespace(pid_t init, pid_t task) {
  kill(init, SIGKILL);
  waitpid(task, NULL, 0);
  for (int round = 0; round < LEFTOVER_ROUNDS && waitpid(init, NULL, WNOHANG) == 0; round++) leftover_pause();
}

int main(int argc, char **argv) {
  static const int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
  if (argc > 1 && strcmp(argv[1], "--probe") == 0) return probe_main(argc - 1, argv + 1);
  parse_arguments(argc, argv);
  report_failure = report_in_shim;
  close_inherited();
  state_dir = open(opt.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (state_dir < 0) fail(errno, "dir", opt.dir);
  unlinkat(state_dir, "started", 0); /* of an earlier run */
  unlinkat(state_dir, "exit", 0);

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++) sigaddset(&signals, forwarded[i]);
  take_signals(&signals);

  host_proc = open_proc();
  opt.command.environment = read_environment();
  redirect_output();
  if (getsid(0) != getpid() && setsid() < 0) fail(errno, "setsid", "start mesh-task as a child, not as a job of a shell");
  if (opt.command.user != NULL) resolve_user(opt.command.user);
  enter_namespaces();
  int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
  if (signal_fd < 0) fail(errno, "signalfd", opt.command.arguments[0]);

  pid_t init = start_init(), task = start_task();
  siginfo_t end = wait_for_task(task, signal_fd);
  char left[32];
  /* After any other end it is no surprise, and not why. */
  int has_left = end.si_code == CLD_EXITED && end.si_status == 0 && find_left_behind(init, left, sizeof left);
  end_namespace(init, task);
  drain_log_pipe(); /* before the end is reported: the log is complete then */

  char number[16], name[32];
  if (end.si_code == CLD_EXITED) {
    snprintf(number, sizeof number, "%d", end.si_status);
    write_exit(number, NULL, NULL, has_left ? left : NULL);
    return end.si_status;
  }
  signal_name(end.si_status, name, sizeof name);
  write_exit("null", name, NULL, NULL);
  return 128 + end.si_status;
}
