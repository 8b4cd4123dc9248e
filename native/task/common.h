/* Shared by starting a task (mesh-task.c) and probing it (probe.c). */
#ifndef MESH_TASK_COMMON_H
#define MESH_TASK_COMMON_H

#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/* Reports a failed step; each mode, and each forked child, sets its own handler. May be NULL. */
extern void (*report_failure)(const char *text);

/* Reports "step: detail: reason" and ends this process. */
_Noreturn void fail(int error, const char *step, const char *detail);

/* Reads one numeric field of PID/stat (4 = parent, 22 = start time) below an open /proc; -1 if the process does not exist. */
long long stat_field(int proc, pid_t pid, int field);

/* The next process of this parent in an open /proc; 0 at its end. */
pid_t next_child(DIR *proc, pid_t parent);

/* A descriptor of the currently mounted /proc. */
int open_proc(void);

int parse_id(const char *text, unsigned *id);

void close_from(int first);

/* Opens 0-2 if missing and closes all other descriptors. */
void close_inherited(void);

/* Resets every signal to its default and blocks those in the set. */
void take_signals(const sigset_t *blocked);

/* Reads NAME=VALUE variables, each terminated by a NUL byte, from standard input to its end. */
char **read_environment(void);

/* Resolves NAME, NAME:GROUP or UID:GID by the node's /etc/passwd and /etc/group. */
void resolve_user(const char *name);

/* Changes to the user found by resolve_user. */
void take_groups(void);
void take_user(void);

/* Makes the user found by resolve_user the owner of an open file. */
void give_to_user(int fd);

/* Sets of capabilities: bit N is capability N (linux/capability.h). */
struct privileges {
  /* Bounding set; a command of uid 0 has all of it. */
  uint64_t capabilities;
  /* Capabilities of a command of another user. */
  uint64_t ambient;
  /* Set-user-id and file capabilities take effect: no_new_privs is not set. */
  int new_privileges;
};

/* Limits this process and its children, and changes to the resolved user in between. */
void take_privileges(const struct privileges *privileges, int change_user);

/* Keeps this process and its children from creating and entering namespaces. Needs no_new_privs. */
void forbid_namespaces(void);

struct command {
  char **arguments;
  char **environment;
  /* NULL keeps the user. */
  const char *user;
  /* NULL keeps the directory. */
  const char *directory;
  struct privileges privileges;
};

/* Rows for getopt_long: how to run a command, for tasks and probes alike. */
#define COMMAND_OPTIONS                                                                          \
  {"user", 1, NULL, 'u'}, {"cwd", 1, NULL, 'c'}, {"capabilities", 1, NULL, 'b'}, {"ambient", 1, NULL, 'a'}, \
  {"new-privileges", 0, NULL, 'p'}

/* Handles one of these options; returns an error text, or NULL. */
const char *command_option(struct command *command, int option, const char *value);

/* In the forked child: new session, user, privileges, directory; then exec. If parent is not 0, the child dies with it. */
_Noreturn void run_command(const struct command *command, pid_t parent);

/* Reaps orphans; true if the command itself is a zombie, which is not reaped: its number must not be reused yet. */
int has_ended(pid_t command, siginfo_t *end);

/* Kills the group of a child and all its descendants: they are all reparented to us, their subreaper, sooner or later. */
void kill_leftovers(pid_t child);

/* Interval and number of checks of killed processes: one in uninterruptible sleep must not delay the report forever. */
#define LEFTOVER_ROUNDS 500
void leftover_pause(void);

/* `SIGKILL` */
void signal_name(int number, char *name, size_t size);

/* mesh-task --probe (probe.c) */
int probe_main(int argc, char **argv);

#endif
