/* What starting a task and probing it have in common (mesh-task.c, probe.c). */
#ifndef MESH_TASK_COMMON_H
#define MESH_TASK_COMMON_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/* Tells a failed step to whoever waits for it; each mode, and each forked child, sets its own. May be NULL. */
extern void (*report_failure)(const char *text);

/* Ends this process with "step: detail: reason" told. */
_Noreturn void fail(int error, const char *step, const char *detail);

/* Reads one numeric field of PID/stat (4 = parent, 22 = start time) below an open /proc; -1 when the process is gone. */
long long stat_field(int proc, pid_t pid, int field);

/* A descriptor of the /proc that is mounted now. */
int open_proc(void);

int parse_id(const char *text, unsigned *id);

void close_from(int first);

/* 0-2 exist afterwards, and nothing else is open. */
void close_inherited(void);

/* Every signal to its default, and those of the set blocked. */
void take_signals(const sigset_t *blocked);

/* Reads NAME=VALUE variables, each ended by a NUL byte, from standard input to its end. */
char **read_environment(void);

/* NAME, NAME:GROUP, UID:GID of the node's /etc/passwd and /etc/group. */
void resolve_user(const char *name);

/* Become what resolve_user found. */
void take_groups(void);
void take_user(void);

/* Sets of capabilities: bit N is capability N (linux/capability.h). */
struct privileges {
  /* Bounding set; all of it when the command runs as uid 0. */
  uint64_t capabilities;
  /* What a command of another user gets. */
  uint64_t ambient;
  /* Programs with set-user-id or file capabilities work: no no_new_privs. */
  int new_privileges;
};

/* Limits this process and all it starts, and changes to the resolved user on the way. */
void take_privileges(const struct privileges *privileges, int change_user);

struct command {
  char **arguments;
  char **environment;
  /* NULL keeps the user. */
  const char *user;
  /* NULL keeps it. */
  const char *directory;
  struct privileges privileges;
};

/* Rows for getopt_long: how a command is to run, for tasks and probes alike. */
#define COMMAND_OPTIONS                                                                          \
  {"user", 1, NULL, 'u'}, {"cwd", 1, NULL, 'c'}, {"capabilities", 1, NULL, 'b'}, {"ambient", 1, NULL, 'a'}, \
  {"new-privileges", 0, NULL, 'p'}

/* Takes one of them; what is wrong with it, or NULL. */
const char *command_option(struct command *command, int option, const char *value);

/* In the forked child: a session of its own, user, privileges, directory; then exec. A parent that is not 0 takes it along when it dies. */
_Noreturn void run_command(const struct command *command, pid_t parent);

/* Kills the group of a child, and whatever it started: all of it comes to us, its subreaper, sooner or later. */
void kill_leftovers(pid_t child);

/* Between two looks at what is being killed, and how many there are: uninterruptible sleep must not keep the end from being told. */
#define LEFTOVER_ROUNDS 500
void leftover_pause(void);

/* `SIGKILL` */
void signal_name(int number, char *name, size_t size);

/* mesh-task --probe (probe.c) */
int probe_main(int argc, char **argv);

#endif
