#include "sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "errors.h"
#include "netns.h"

namespace mesh {
namespace {

int IntegerOption(const Napi::Object& options, const char* name, int otherwise) {
  Napi::Value value = options.Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().Int32Value() : otherwise;
}

Napi::Value OpenSocket(const Napi::CallbackInfo& info) {
  if (!info[0].IsObject()) throw Napi::TypeError::New(info.Env(), "expected options");
  Napi::Object options = info[0].As<Napi::Object>();
  Napi::Value nonblock = options.Get("nonblock");
  int flags = SOCK_CLOEXEC | (nonblock.IsUndefined() || nonblock.ToBoolean() ? SOCK_NONBLOCK : 0);
  NetnsScope scope(options.Get("netns"));
  int fd = socket(IntegerOption(options, "family", AF_INET), IntegerOption(options, "type", SOCK_STREAM) | flags,
                  IntegerOption(options, "protocol", 0));
  if (fd < 0) throw SystemError(info.Env(), errno, "socket");
  return Napi::Number::New(info.Env(), fd);
}

Napi::Value BindSocket(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = info[0].ToNumber();
  std::string text = info[1].ToString();
  uint16_t port = htons(static_cast<uint16_t>(info[2].ToNumber().Uint32Value()));
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  int result;
  if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = port;
    result = bind(fd, reinterpret_cast<sockaddr*>(&v4), sizeof v4);
  } else if (inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = port;
    result = bind(fd, reinterpret_cast<sockaddr*>(&v6), sizeof v6);
  } else {
    throw SystemError(env, EINVAL, "bind", text);
  }
  if (result != 0) throw SystemError(env, errno, "bind", text);
  return env.Undefined();
}

Napi::Value SetSocketOption(const Napi::CallbackInfo& info) {
  int value = info[3].ToNumber();
  if (setsockopt(info[0].ToNumber(), info[1].ToNumber(), info[2].ToNumber(), &value, sizeof value) != 0)
    throw SystemError(info.Env(), errno, "setsockopt");
  return info.Env().Undefined();
}

/// getsockopt(2) into a buffer, which may also contain input for the kernel.
Napi::Value GetSocketOption(const Napi::CallbackInfo& info) {
  if (!info[3].IsTypedArray()) throw Napi::TypeError::New(info.Env(), "expected a buffer");
  Napi::Uint8Array buffer = info[3].As<Napi::Uint8Array>();
  socklen_t length = buffer.ByteLength();
  if (getsockopt(info[0].ToNumber(), info[1].ToNumber(), info[2].ToNumber(), buffer.Data(), &length) != 0)
    throw SystemError(info.Env(), errno, "getsockopt");
  return info.Env().Undefined();
}

Napi::Value SendUnixDatagram(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path = info[0].ToString();
  std::string payload = info[1].ToString();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) throw SystemError(env, EINVAL, "connect", path);
  memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // abstract; its length is part of the name
  socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path[0] == '@' ? 0 : 1));
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) throw SystemError(env, errno, "socket");
  if (sendto(fd.get(), payload.data(), payload.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<sockaddr*>(&address), length) < 0)
    throw SystemError(env, errno, "sendto", path);
  return env.Undefined();
}

}  // namespace

void RegisterSockets(Napi::Env env, Napi::Object exports) {
  exports.Set("openSocket", Napi::Function::New(env, OpenSocket, "openSocket"));
  exports.Set("bindSocket", Napi::Function::New(env, BindSocket, "bindSocket"));
  exports.Set("setSocketOption", Napi::Function::New(env, SetSocketOption, "setSocketOption"));
  exports.Set("getSocketOption", Napi::Function::New(env, GetSocketOption, "getSocketOption"));
  exports.Set("sendUnixDatagram", Napi::Function::New(env, SendUnixDatagram, "sendUnixDatagram"));
}

}  // namespace mesh
