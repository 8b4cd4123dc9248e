/* Users and groups of the node, read from its files: a statically linked program cannot load NSS modules. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "common.h"

#define MAX_GROUPS 256

static struct {
  uid_t uid;
  gid_t gid;
  gid_t groups[MAX_GROUPS];
  size_t group_count;
} user;

int parse_id(const char *text, unsigned *id) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value >= 0xffffffffUL) return 0;
  *id = (unsigned)value;
  return 1;
}

/* By number or by name; writes the login name, which is looked up in the group file. */
static int find_user(const char *requested, char *login, size_t size) {
  unsigned id = 0;
  int numeric = parse_id(requested, &id), found = 0;
  FILE *file = fopen("/etc/passwd", "re");
  for (struct passwd *entry; !found && file != NULL && (entry = fgetpwent(file)) != NULL;) {
    if (numeric ? entry->pw_uid != id : strcmp(entry->pw_name, requested) != 0) continue;
    user.uid = entry->pw_uid;
    user.gid = entry->pw_gid;
    snprintf(login, size, "%s", entry->pw_name);
    found = 1;
  }
  if (file != NULL) fclose(file);
  if (!found && numeric) user.uid = id;
  return found;
}

static int find_group(const char *requested, gid_t *gid) {
  int found = 0;
  FILE *file = fopen("/etc/group", "re");
  for (struct group *entry; !found && file != NULL && (entry = fgetgrent(file)) != NULL;) {
    if (strcmp(entry->gr_name, requested) != 0) continue;
    *gid = entry->gr_gid;
    found = 1;
  }
  if (file != NULL) fclose(file);
  return found;
}

static void add_group(gid_t gid) {
  for (size_t i = 0; i < user.group_count; i++)
    if (user.groups[i] == gid) return;
  if (user.group_count < MAX_GROUPS) user.groups[user.group_count++] = gid;
}

static void add_groups_of(const char *login) {
  FILE *file = fopen("/etc/group", "re");
  for (struct group *entry; file != NULL && (entry = fgetgrent(file)) != NULL;)
    for (char **member = entry->gr_mem; *member != NULL; member++)
      if (strcmp(*member, login) == 0) add_group(entry->gr_gid);
  if (file != NULL) fclose(file);
}

void resolve_user(const char *requested) {
  char name[256], login[256];
  unsigned id;
  if ((size_t)snprintf(name, sizeof name, "%s", requested) >= sizeof name) fail(0, "user", "the name is too long");
  char *group = strchr(name, ':');
  if (group != NULL) *group++ = '\0';
  int found = find_user(name, login, sizeof login);
  if (!found && !parse_id(name, &id)) fail(0, "user", "there is no user of this name on the node");
  if (group != NULL) { /* as Docker: a group given by hand is the only one */
    if (!parse_id(group, &user.gid) && !find_group(group, &user.gid))
      fail(0, "user", "there is no group of this name on the node");
    add_group(user.gid);
    return;
  }
  if (!found) fail(0, "user", "this uid has no passwd entry; give UID:GID");
  add_group(user.gid);
  add_groups_of(login);
}

void take_groups(void) {
  if (setgroups(user.group_count, user.groups) != 0) fail(errno, "user", "setgroups");
  if (setresgid(user.gid, user.gid, user.gid) != 0) fail(errno, "user", "setgid");
}

void take_user(void) {
  if (setresuid(user.uid, user.uid, user.uid) != 0) fail(errno, "user", "setuid");
}

void give_to_user(int fd) {
  if (fchown(fd, user.uid, user.gid) != 0) fail(errno, "user", "fchown");
}
