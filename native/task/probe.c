/*
 * mesh-task --probe: runs one command in the namespaces of a task, with a timeout, and reports how it ended.
 *
 *   mesh-task --probe --like PID:START --agent PID --timeout MS [options] -- command [args...]
 *
 * PID:START is the shim of the task and its start time, so that a reused number is detected. The options for user,
 * directory and privileges, and the environment on standard input, are those of a task (mesh-task.c).
 * Standard output gets one line and then the output of the command, its first 4096 bytes:
 *   exit CODE | signal NAME | timeout | error STEP: DETAIL: REASON
 * No process of the probe is left when that is written, nor shortly after the agent has died.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

#define OUTPUT_LIMIT 4096

static struct {
  unsigned like, agent, timeout;
  long long like_start;
  struct command command;
} opt;

static int report_pipe = -1;

static char output[OUTPUT_LIMIT];
static size_t output_length;

static void write_all(const char *text, size_t length) {
  while (length > 0) {
    ssize_t written = write(STDOUT_FILENO, text, length);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return; /* the agent has exited */
    text += written;
    length -= (size_t)written;
  }
}

static void print_verdict(const char *verdict) {
  write_all(verdict, strlen(verdict));
  write_all("\n", 1);
  write_all(output, output_length);
}

static void report_in_probe(const char *text) {
  char line[600];
  snprintf(line, sizeof line, "error %s", text);
  print_verdict(line);
}

static void report_in_child(const char *text) { _exit(write(report_pipe, text, strlen(text)) < 0 ? 126 : 127); }

static _Noreturn void usage(const char *reason) {
  dprintf(STDERR_FILENO,
          "mesh-task: %s\nusage: mesh-task --probe --like PID:START --agent PID --timeout MS [--user USER] [--cwd DIR]\n"
          "                 [--capabilities HEX] [--ambient HEX] [--new-privileges]\n"
          "                 -- command [args...] < environment\n",
          reason);
  exit(2);
}

static void parse_arguments(int argc, char **argv) {
  static const struct option options[] = {{"like", 1, NULL, 'l'}, {"agent", 1, NULL, 'g'}, {"timeout", 1, NULL, 't'},
                                          COMMAND_OPTIONS, {NULL, 0, NULL, 0}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
    const char *wrong = NULL;
    switch (c) {
      case 'l': {
        char *colon = strchr(optarg, ':');
        if (colon == NULL) usage("--like must be PID:START");
        *colon = '\0';
        opt.like_start = strtoll(colon + 1, NULL, 10);
        if (!parse_id(optarg, &opt.like)) usage("--like must be PID:START");
        break;
      }
      case 'g':
        if (!parse_id(optarg, &opt.agent)) usage("--agent must be a process number");
        break;
      case 't':
        if (!parse_id(optarg, &opt.timeout)) usage("--timeout must be milliseconds");
        break;
      default: wrong = command_option(&opt.command, c, optarg);
    }
    if (wrong != NULL) usage(wrong);
  }
  if (opt.like == 0 || opt.agent == 0 || opt.timeout == 0) usage("--like, --agent and --timeout are required");
  if (optind >= argc) usage("no command given");
  opt.command.arguments = argv + optind;
}

/* The mount namespace is opened last: the paths of the others are in ours. The pid namespace is that of our children. */
static void enter_namespaces(void) {
  static const struct { const char *name; int flag; } kinds[] = {
      {"net", CLONE_NEWNET}, {"uts", CLONE_NEWUTS}, {"pid_for_children", CLONE_NEWPID}, {"mnt", CLONE_NEWNS}};
  enum { KINDS = sizeof kinds / sizeof *kinds };
  int fds[KINDS], proc = open_proc();
  char path[48];
  for (int i = 0; i < KINDS; i++) {
    snprintf(path, sizeof path, "%u/ns/%s", opt.like, kinds[i].name);
    fds[i] = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fds[i] < 0) fail(errno, "namespace", "the task has ended");
  }
  /* The descriptors pin the namespaces of the process with this number now; only after that is the start time check reliable. */
  if (stat_field(proc, (pid_t)opt.like, 22) != opt.like_start) fail(0, "namespace", "the task has ended");
  for (int i = 0; i < KINDS; i++) {
    if (setns(fds[i], kinds[i].flag) != 0) fail(errno, "namespace", kinds[i].name);
    close(fds[i]);
  }
  close(proc);
}

static long long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Reads available output; 0 at its end. Output beyond the limit is read and discarded, otherwise the command would block. */
static int take_output(int fd) {
  char more[4096];
  for (;;) {
    ssize_t length = read(fd, more, sizeof more);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno == EAGAIN;
    if (length == 0) return 0;
    size_t space = OUTPUT_LIMIT - output_length, kept = (size_t)length < space ? (size_t)length : space;
    memcpy(output + output_length, more, kept);
    output_length += kept;
    if (length < (ssize_t)sizeof more) return 1; /* a command that never stops writing must not keep us from the clock */
  }
}

static pid_t start(int *output_fd, int *error_fd) {
  int out[2], error[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(error, O_CLOEXEC) != 0) fail(errno, "pipe", opt.command.arguments[0]);
  pid_t self = getpid(), pid = fork();
  if (pid < 0) fail(errno, "fork", opt.command.arguments[0]);
  if (pid == 0) {
    report_pipe = error[1];
    report_failure = report_in_child;
    if (dup2(out[1], STDOUT_FILENO) < 0 || dup2(out[1], STDERR_FILENO) < 0) fail(errno, "pipe", "output");
    run_command(&opt.command, self);
  }
  close(out[1]);
  close(error[1]);
  fcntl(out[0], F_SETFL, O_NONBLOCK);
  *output_fd = out[0];
  *error_fd = error[0];
  return pid;
}

static void end_verdict(const siginfo_t *end, char *verdict, size_t size) {
  char name[32];
  if (end->si_code == CLD_EXITED) {
    snprintf(verdict, size, "exit %d", end->si_status);
    return;
  }
  signal_name(end->si_status, name, sizeof name);
  snprintf(verdict, size, "signal %s", name);
}

/* Reads the failed step reported by the child; 0 if the command runs. */
static int failure_verdict(int error_fd, char *verdict, size_t size) {
  char error[512];
  ssize_t length = read(error_fd, error, sizeof error - 1);
  if (length <= 0) return 0;
  error[length] = '\0';
  snprintf(verdict, size, "error %s", error);
  return 1;
}

/* Runs the command until its end, its timeout or a signal; returns the exit status. */
static int probe(long long deadline, const sigset_t *signals) {
  int signal_fd = signalfd(-1, signals, SFD_CLOEXEC), output_fd, error_fd;
  if (signal_fd < 0) fail(errno, "signalfd", opt.command.arguments[0]);
  pid_t pid = start(&output_fd, &error_fd);
  char verdict[600] = "timeout";
  for (int ended = 0; !ended;) {
    long long left = deadline - now_ms();
    if (left <= 0) break;
    struct pollfd fds[] = {{signal_fd, POLLIN, 0}, {output_fd, POLLIN, 0}, {error_fd, POLLIN, 0}};
    if (poll(fds, 3, (int)left) < 0 && errno != EINTR) fail(errno, "poll", opt.command.arguments[0]);
    if (fds[1].revents != 0 && !take_output(output_fd)) output_fd = -1; /* poll passes over it */
    if (fds[2].revents != 0) {
      ended = failure_verdict(error_fd, verdict, sizeof verdict);
      error_fd = -1;
    }
    if (fds[0].revents == 0) continue;
    struct signalfd_siginfo received;
    if (read(signal_fd, &received, sizeof received) < 0) continue;
    if (received.ssi_signo != SIGCHLD) { /* the probe was cancelled */
      kill_leftovers(pid);
      return 1;
    }
    siginfo_t end;
    /* A failed exec is reported with more detail by its pipe, which is read before the loop ends. */
    if (ended || error_fd >= 0 || !has_ended(pid, &end)) continue;
    ended = 1;
    end_verdict(&end, verdict, sizeof verdict);
  }
  if (output_fd >= 0) take_output(output_fd);
  kill_leftovers(pid);
  print_verdict(verdict);
  return 0;
}

/* For the process inside the namespace. `alive` is a pipe held open only by the process outside, which may already have died. */
static void die_with_prober(int alive) {
  struct pollfd end = {alive, POLLIN, 0};
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) fail(errno, "prctl", "PR_SET_PDEATHSIG");
  if (poll(&end, 1, 0) != 0) _exit(1);
}

/* Forwards signals to the process in the pid namespace until it has ended. */
static void wait_for(pid_t inner, const sigset_t *signals) {
  while (waitpid(inner, NULL, WNOHANG) == 0) {
    int number = sigwaitinfo(signals, NULL);
    if (number > 0 && number != SIGCHLD) kill(inner, number);
  }
}

int probe_main(int argc, char **argv) {
  parse_arguments(argc, argv);
  long long deadline = now_ms() + opt.timeout;
  report_failure = report_in_probe;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  take_signals(&signals);
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) fail(errno, "prctl", "PR_SET_PDEATHSIG");
  if (getppid() != (pid_t)opt.agent) return 1; /* it died before that */
  close_inherited();
  opt.command.environment = read_environment();
  if (opt.command.user != NULL) resolve_user(opt.command.user);
  enter_namespaces();

  /* setns does not move this process into the pid namespace; orphans are reparented to a subreaper inside it only (find_new_reaper). */
  int alive[2];
  if (pipe2(alive, O_CLOEXEC) != 0) fail(errno, "pipe", "prober");
  pid_t inner = fork();
  if (inner < 0) fail(errno, "fork", "the task has ended");
  if (inner > 0) {
    close(alive[0]);
    wait_for(inner, &signals);
    return 0;
  }
  close(alive[1]);
  die_with_prober(alive[0]);
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) fail(errno, "prctl", "PR_SET_CHILD_SUBREAPER");
  _exit(probe(deadline, &signals));
}
