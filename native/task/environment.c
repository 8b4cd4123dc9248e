/* The environment of the command, read from standard input: that of mesh-task itself is not the task's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

#define LIMIT (8U << 20)

static char *read_input(size_t *length) {
  size_t size = 1U << 16;
  char *text = malloc(size);
  *length = 0;
  for (;;) {
    if (text == NULL) fail(ENOMEM, "environment", "read");
    ssize_t more = read(STDIN_FILENO, text + *length, size - *length);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) fail(errno, "environment", "read");
    if (more == 0) return text;
    *length += (size_t)more;
    if (*length < size) continue;
    if (size >= LIMIT) fail(0, "environment", "more than 8 MiB");
    text = realloc(text, size *= 2);
  }
}

char **read_environment(void) {
  size_t length, count = 0, at = 0;
  char *text = read_input(&length);
  if (length > 0 && text[length - 1] != '\0') fail(0, "environment", "the last variable is cut short");
  for (size_t i = 0; i < length; i++) count += text[i] == '\0';
  char **variables = calloc(count + 1, sizeof *variables);
  if (variables == NULL) fail(ENOMEM, "environment", "read");
  for (char *variable = text; variable < text + length; variable += strlen(variable) + 1) variables[at++] = variable;
  return variables;
}
