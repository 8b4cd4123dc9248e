// on NODE COMMAND ARGUMENT…: runs COMMAND in the network, mount and UTS namespaces of a mesh host, in the same
// working directory. In C because scripts call it in loops: a shell with nsenter is five times slower under
// emulation, and nsenter before util-linux 2.39 cannot keep the working directory.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODES "/run/testhost/nodes/"

static int fail(const char *what, const char *name) {
  fprintf(stderr, "on: %s %s: %s\n", what, name, strerror(errno));
  return 125;
}

int main(int argc, char **argv) {
  static const char *kinds[] = {"net", "uts", "mnt"};
  char path[PATH_MAX], cwd[PATH_MAX];
  int fds[3], pid = 0;

  if (argc < 3 || strchr(argv[1], '/')) {
    fprintf(stderr, "usage: on NODE COMMAND [ARGUMENT…]   (NODE: node1, node2, … or client)\n");
    return 125;
  }
  snprintf(path, sizeof path, NODES "%s/pid", argv[1]);
  FILE *file = fopen(path, "r");
  if (!file || fscanf(file, "%d", &pid) != 1) {
    fprintf(stderr, "on: there is no host named %s here; see ls " NODES "\n", argv[1]);
    return 125;
  }
  fclose(file);
  // All are opened before the first is entered: /proc may differ afterwards.
  for (int i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, kinds[i]);
    fds[i] = open(path, O_RDONLY | O_CLOEXEC);
    if (fds[i] < 0) return fail("cannot open", path);
  }
  if (!getcwd(cwd, sizeof cwd)) strcpy(cwd, "/");
  for (int i = 0; i < 3; i++)
    if (setns(fds[i], 0)) return fail("cannot enter the namespaces of", argv[1]);
  // Entering a mount namespace changes to its root directory.
  if (chdir(cwd) && chdir("/")) return fail("cannot return to", cwd);
  execvp(argv[2], argv + 2);
  fail("cannot run", argv[2]);
  return errno == ENOENT ? 127 : 126;
}
