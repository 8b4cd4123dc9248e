/* The log of a task (log.c). */
#ifndef MESH_TASK_LOG_H
#define MESH_TASK_LOG_H

#include <sys/types.h>

/* FILE has at most max_size bytes, as has each of FILE.1 to FILE.(max_files - 1), the older ones. */
struct log_limits {
  off_t max_size;
  unsigned max_files;
};

/* Opens the log as standard output and error of this process, which stay the current file from then on. */
void open_log(const char *path, const struct log_limits *limits);

/* Creates the pipe for the output of the command; returns its write end. Close it here once the command has it. */
int open_log_pipe(void);

/* The read end, for poll; -1 without a log or when every writer has closed it. */
int log_pipe(void);

/* Moves available output from the pipe to the log. Does not block, whatever the command does. */
void take_log_output(void);

/* The same for all that is in the pipe now. */
void drain_log_pipe(void);

#endif
