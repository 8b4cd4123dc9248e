/*
 * The log of a task: the command writes to a pipe, and the shim from there to files of bounded size. The bound holds at
 * every moment, however much the command writes; a command that writes faster than the disk waits in write(2).
 *
 * Output that cannot be stored, because the disk is full, is dropped: the command must not hang for that. The log names
 * the number of bytes that are missing as soon as something can be written again.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

/* One read takes at most this much, as a pipe holds by default (pipe(7)). */
#define CHUNK (1U << 16)

static struct log_limits limits;
/* Held open: mounts of the task may cover the path. */
static int directory = -1;
static char file_name[NAME_MAX + 1];
static int at_line_start = 1;
static int read_end = -1;
/* Bytes dropped since the last successful write, and why. */
static unsigned long long dropped;
static int drop_error;

/* The current file is standard output and standard error, so that messages of the shim itself go there, too. */
static int use_file(int file) {
  int done = dup2(file, STDOUT_FILENO) >= 0 && dup2(file, STDERR_FILENO) >= 0;
  close(file);
  return done;
}

static int open_file(void) {
  int file = openat(directory, file_name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  return file >= 0 && use_file(file);
}

void open_log(const char *path, const struct log_limits *requested) {
  char copy[PATH_MAX];
  limits = *requested;
  if ((size_t)snprintf(copy, sizeof copy, "%s", path) >= sizeof copy) fail(ENAMETOOLONG, "log", path);
  if ((size_t)snprintf(file_name, sizeof file_name, "%s", basename(copy)) >= sizeof file_name)
    fail(ENAMETOOLONG, "log", path);
  directory = open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) fail(errno, "log", path);
  if (!open_file()) fail(errno, "log", path);
}

/*
 * The size of the current file, as the kernel knows it: another program may have truncated the file. If it was removed or
 * renamed, a new one takes its place, so that no output is written where it cannot be found.
 */
static off_t current_size(void) {
  struct stat open_one, named;
  if (fstat(STDOUT_FILENO, &open_one) != 0) return 0;
  int is_named = fstatat(directory, file_name, &named, AT_SYMLINK_NOFOLLOW) == 0;
  if (is_named && named.st_ino == open_one.st_ino && named.st_dev == open_one.st_dev) return open_one.st_size;
  /* Something else than a file in its place, or a removed directory: the open file is as good as any. */
  if ((is_named && !S_ISREG(named.st_mode)) || !open_file()) return open_one.st_size;
  return fstat(STDOUT_FILENO, &open_one) == 0 ? open_one.st_size : 0;
}

/* FILE, FILE.1, FILE.2 …; `number` 0 is the current file. */
static void numbered_name(char *name, size_t size, unsigned number) {
  if (number == 0) snprintf(name, size, "%s", file_name);
  else snprintf(name, size, "%s.%u", file_name, number);
}

/* Begins a new file. Nothing changes if it cannot be created, so that no older one is lost for it. */
static int rotate(void) {
  char from[sizeof file_name + 16], to[sizeof from], new_name[sizeof from];
  snprintf(new_name, sizeof new_name, "%s.new", file_name);
  int file = openat(directory, new_name, O_WRONLY | O_APPEND | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (file < 0) return 0;
  for (unsigned number = limits.max_files - 1; number > 0; number--) {
    numbered_name(from, sizeof from, number - 1);
    numbered_name(to, sizeof to, number);
    renameat(directory, from, directory, to); /* may be missing: not that many yet, or removed by hand */
  }
  if (renameat(directory, new_name, directory, file_name) == 0) return use_file(file);
  int error = errno;
  close(file);
  errno = error;
  return 0;
}

/* How much of the text the current file can take: up to the end of a line if possible; 0 if it belongs into the next file. */
static size_t fitting_length(const char *text, size_t length, off_t used) {
  off_t space = limits.max_size - used;
  if (space >= (off_t)length) return length;
  if (space <= 0) return 0;
  const char *newline = memrchr(text, '\n', (size_t)space);
  if (newline != NULL) return (size_t)(newline - text) + 1;
  /* A line that is longer than a file, or began in this one, is cut. */
  return used > 0 && at_line_start ? 0 : (size_t)space;
}

/* Returns how much was written; less than `length` if the disk is full or the like, with errno. */
static size_t write_bounded(const char *text, size_t length) {
  size_t done = 0;
  while (done < length) {
    size_t part = fitting_length(text + done, length - done, current_size());
    if (part == 0 && !rotate()) break;
    ssize_t written = part == 0 ? 0 : write(STDOUT_FILENO, text + done, part);
    if (written < 0 && errno != EINTR) break;
    if (written <= 0) continue;
    done += (size_t)written;
    at_line_start = text[done - 1] == '\n';
  }
  return done;
}

static int report_dropped(void) {
  char text[160];
  int length = snprintf(text, sizeof text, "mesh-task: %llu bytes of output are missing here: %s\n", dropped,
                        strerror(drop_error));
  return write_bounded(text, (size_t)length) == (size_t)length;
}

static void write_output(const char *text, size_t length) {
  size_t done = 0;
  if (dropped > 0 && report_dropped()) dropped = 0;
  if (dropped == 0) done = write_bounded(text, length);
  if (done == length) return;
  drop_error = errno;
  dropped += length - done;
}

int open_log_pipe(void) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail(errno, "pipe", "log");
  /* Of this end only: the command expects a blocking one. */
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) fail(errno, "fcntl", "log");
  read_end = ends[0];
  return ends[1];
}

int log_pipe(void) { return read_end; }

/* Returns the number of bytes taken, 0 if there are none. */
static size_t take_chunk(void) {
  static char text[CHUNK];
  if (read_end < 0) return 0;
  ssize_t length = read(read_end, text, sizeof text);
  if (length > 0) {
    write_output(text, (size_t)length);
    return (size_t)length;
  }
  if (length == 0) {
    close(read_end);
    read_end = -1;
  }
  return 0;
}

void take_log_output(void) { take_chunk(); }

void drain_log_pipe(void) {
  int available = 0;
  /* Not until its end: a process outside of the task may hold the other end and write forever. */
  if (read_end < 0 || ioctl(read_end, FIONREAD, &available) != 0) return;
  for (size_t taken; available > 0 && (taken = take_chunk()) > 0;) available -= (int)taken;
}
