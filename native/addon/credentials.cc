#include "credentials.h"

#include <sys/socket.h>

#include <cerrno>
#include <vector>

#include "errors.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

namespace mesh {
namespace {

int IntegerOf(Napi::Env env, int fd, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  if (getsockopt(fd, SOL_SOCKET, option, &value, &length) != 0) throw SystemError(env, errno, "getsockopt");
  return value;
}

/// Supplementary groups; undefined before Linux 4.13, which has no SO_PEERGROUPS.
Napi::Value GroupsOf(Napi::Env env, int fd) {
  std::vector<gid_t> groups(32);
  socklen_t length = groups.size() * sizeof(gid_t);
  int result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
  if (result != 0 && errno == ERANGE) {  // the kernel has stored the required size in `length`
    groups.resize(length / sizeof(gid_t));
    result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
  }
  if (result != 0 && errno == ENOPROTOOPT) return env.Undefined();
  if (result != 0) throw SystemError(env, errno, "getsockopt", "SO_PEERGROUPS");
  Napi::Array list = Napi::Array::New(env);
  for (uint32_t i = 0; i < length / sizeof(gid_t); i++) list.Set(i, Napi::Number::New(env, groups[i]));
  return list;
}

/// peerCredentials(fd): {pid, uid, gid, groups?} of the process that connected (or listened), at that moment.
Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = info[0].ToNumber();
  // Other families return pid 0 and uid -1; a listening socket returns its own process (unix_listen).
  if (IntegerOf(env, fd, SO_DOMAIN) != AF_UNIX || IntegerOf(env, fd, SO_ACCEPTCONN) != 0)
    throw SystemError(env, EINVAL, "getsockopt", "SO_PEERCRED");
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
    throw SystemError(env, errno, "getsockopt", "SO_PEERCRED");
  if (peer.uid == static_cast<uid_t>(-1)) throw SystemError(env, ENOTCONN, "getsockopt", "SO_PEERCRED");
  Napi::Object result = Napi::Object::New(env);
  result.Set("pid", Napi::Number::New(env, peer.pid));
  result.Set("uid", Napi::Number::New(env, peer.uid));
  result.Set("gid", Napi::Number::New(env, peer.gid));
  Napi::Value groups = GroupsOf(env, fd);
  if (!groups.IsUndefined()) result.Set("groups", groups);
  return result;
}

}  // namespace

void RegisterCredentials(Napi::Env env, Napi::Object exports) {
  exports.Set("peerCredentials", Napi::Function::New(env, PeerCredentials, "peerCredentials"));
}

}  // namespace mesh
