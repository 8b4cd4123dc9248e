/* What starting a task and probing it have in common (mesh-task.c, probe.c). */
#ifndef MESH_TASK_COMMON_H
#define MESH_TASK_COMMON_H

#include <signal.h>
#include <sys/types.h>

/* Tells a failed step to whoever waits for it; each mode, and each forked child, sets its own. May be NULL. */
extern void (*report_failure)(const char *text);

/* Ends this process with "step: detail: reason" told. */
_Noreturn void fail(int error, const char *step, const char *detail);

/* Reads one numeric field of /proc/PID/stat (4 = parent, 22 = start time); -1 when the process is gone. */
long long stat_field(pid_t pid, int field);

int parse_id(const char *text, unsigned *id);

/* 0-2 exist afterwards, and nothing else is open. */
void close_inherited(void);

/* Every signal to its default, and those of the set blocked. */
void take_signals(const sigset_t *blocked);

/* NAME, NAME:GROUP, UID:GID. Before namespaces are entered: NSS may need the host's network and files. */
void resolve_user(const char *name);

/* In the forked child: a process group of its own, user (NULL keeps it), death with its parent, directory; then exec. */
_Noreturn void run_command(pid_t parent, const char *user_name, const char *directory, char **command);

/* Kills the group of a child, and whatever it started: all of it comes to us, its subreaper, sooner or later. */
void kill_leftovers(pid_t child);

/* `SIGKILL` */
void signal_name(int number, char *name, size_t size);

/* mesh-task --probe (probe.c) */
int probe_main(int argc, char **argv);

#endif
