/* Privileges of a command: bounding set, capabilities, whether exec may add to them (capabilities(7)), and namespaces. */
#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

#define CAPABILITIES 64

/* Hexadecimal. */
static int parse_set(const char *text, uint64_t *set) {
  char *end;
  errno = 0;
  *set = strtoull(text, &end, 16);
  return *text != '\0' && *text != '-' && *end == '\0' && errno == 0;
}

const char *command_option(struct command *command, int option, const char *value) {
  switch (option) {
    case 'u': command->user = value; return NULL;
    case 'c': command->directory = value; return NULL;
    case 'b': return parse_set(value, &command->privileges.capabilities) ? NULL : "--capabilities must be hexadecimal";
    case 'a': return parse_set(value, &command->privileges.ambient) ? NULL : "--ambient must be hexadecimal";
    case 'p': command->privileges.new_privileges = 1; return NULL;
    default: return "unknown option, or an option without its value";
  }
}

/* Needs CAP_SETPCAP, so it precedes the change of user. */
static void limit_bounding_set(uint64_t allowed) {
  for (int n = 0; n < CAPABILITIES && prctl(PR_CAPBSET_READ, n) >= 0; n++) {
    if ((allowed >> n & 1) == 0 && prctl(PR_CAPBSET_DROP, n) != 0) fail(errno, "capabilities", "PR_CAPBSET_DROP");
  }
}

static void limit_own_set(uint64_t allowed, uint64_t inheritable) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) != 0) fail(errno, "capabilities", "capget");
  for (int half = 0; half < 2; half++) {
    data[half].permitted &= (uint32_t)(allowed >> (32 * half));
    data[half].effective = data[half].permitted;
    data[half].inheritable = data[half].permitted & (uint32_t)(inheritable >> (32 * half));
  }
  if (syscall(SYS_capset, &header, data) != 0) fail(errno, "capabilities", "capset");
}

static void set_ambient(uint64_t ambient) {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) fail(errno, "capabilities", "ambient set");
  for (int n = 0; n < CAPABILITIES && prctl(PR_CAPBSET_READ, n) >= 0; n++) {
    if ((ambient >> n & 1) != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, n, 0, 0) != 0)
      fail(errno, "capabilities", "PR_CAP_AMBIENT_RAISE");
  }
}

void take_privileges(const struct privileges *privileges, int change_user) {
  limit_bounding_set(privileges->capabilities);
  /* Otherwise the change of user clears the permitted set. */
  if (prctl(PR_SET_KEEPCAPS, 1) != 0) fail(errno, "capabilities", "PR_SET_KEEPCAPS");
  if (change_user) take_user();
  /* On exec uid 0 gains its whole bounding set; others keep only the ambient set. */
  uint64_t ambient = geteuid() == 0 ? 0 : privileges->ambient;
  limit_own_set(geteuid() == 0 ? privileges->capabilities : ambient, ambient);
  set_ambient(ambient);
  if (privileges->new_privileges) return;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(errno, "prctl", "no_new_privs");
  if ((privileges->capabilities >> CAP_SYS_ADMIN & 1) == 0) forbid_namespaces();
}
