#include "netlink-socket.h"

#include <linux/netlink.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <uv.h>

#include <cerrno>
#include <vector>

#include "addon.h"
#include "errors.h"
#include "netns.h"

namespace mesh {
namespace {

constexpr int kDefaultReceiveBuffer = 4 << 20;
constexpr int kSendBuffer = 1 << 20;
// Per wake-up, so that a flood on one socket does not starve the event loop.
constexpr size_t kMaxDatagramsPerWakeup = 256;
constexpr size_t kMaxBytesPerWakeup = 2u << 20;

int BufferOption(const Napi::Object& options) {
  Napi::Value bytes = options.Get("receiveBufferBytes");
  return bytes.IsNumber() ? bytes.As<Napi::Number>().Int32Value() : kDefaultReceiveBuffer;
}

/// The forced variant ignores net.core.{r,w}mem_max but needs CAP_NET_ADMIN.
void SetBuffer(int fd, int forced, int plain, int bytes) {
  if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof bytes) != 0)
    setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
}

UniqueFd Open(const Napi::Object& options) {
  Napi::Env env = options.Env();
  if (!options.Get("protocol").IsNumber()) throw Napi::TypeError::New(env, "protocol must be a number");
  int protocol = options.Get("protocol").As<Napi::Number>();
  UniqueFd fd;
  {
    NetnsScope scope(options.Get("netns"));
    fd = UniqueFd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
    if (fd.get() < 0) throw SystemError(env, errno, "socket");
  }
  SetBuffer(fd.get(), SO_RCVBUFFORCE, SO_RCVBUF, BufferOption(options));
  SetBuffer(fd.get(), SO_SNDBUFFORCE, SO_SNDBUF, kSendBuffer);
  return fd;
}

/// {type, ...}; nullptr when the environment is ending.
napi_value Event(napi_env env, const char* type) {
  napi_value event, name;
  if (napi_create_object(env, &event) != napi_ok ||
      napi_create_string_utf8(env, type, NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_set_named_property(env, event, "type", name) != napi_ok)
    return nullptr;
  return event;
}

}  // namespace

/// Result of one wake-up, in order: datagrams, then errors.
struct NetlinkSocket::Wakeup {
  napi_value messages = nullptr;
  uint32_t count = 0;
  size_t bytes = 0;
  bool overrun = false;
  int error = 0;
};

void NetlinkSocket::Register(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(
      env, "NetlinkSocket",
      {InstanceMethod("send", &NetlinkSocket::Send), InstanceMethod("receive", &NetlinkSocket::ReceiveNow),
       InstanceMethod("close", &NetlinkSocket::Close),
       InstanceMethod("ref", &NetlinkSocket::RefHandle), InstanceMethod("unref", &NetlinkSocket::UnrefHandle),
       InstanceMethod("addMembership", &NetlinkSocket::AddMembership),
       InstanceMethod("dropMembership", &NetlinkSocket::DropMembership),
       InstanceMethod("setListenAllNsid", &NetlinkSocket::ListenAllNsid),
       InstanceAccessor<&NetlinkSocket::PortId>("portId"),
       InstanceAccessor<&NetlinkSocket::ReceiveBufferBytes>("receiveBufferBytes")});
  env.GetInstanceData<AddonData>()->netlinkSocket = Napi::Persistent(constructor);
  exports.Set("openNetlink", Napi::Function::New(
                                 env,
                                 [](const Napi::CallbackInfo& info) -> Napi::Value {
                                   return info.Env().GetInstanceData<AddonData>()->netlinkSocket.New(
                                       {info[0], info[1]});
                                 },
                                 "openNetlink"));
}

NetlinkSocket::NetlinkSocket(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NetlinkSocket>(info) {
  Napi::Env env = info.Env();
  if (!info[0].IsObject() || !info[1].IsFunction())
    throw Napi::TypeError::New(env, "expected options and an event callback");
  Napi::Object options = info[0].As<Napi::Object>();

  auto* data = env.GetInstanceData<AddonData>();
  if (data->receiveArea == nullptr) {
    void* area = mmap(nullptr, kReceiveAreaBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) throw SystemError(env, errno, "mmap");
    data->receiveArea = static_cast<uint8_t*>(area);
  }

  UniqueFd fd = Open(options);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  socklen_t length = sizeof address;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) throw SystemError(env, errno, "bind");
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
    throw SystemError(env, errno, "getsockname");
  portId_ = address.nl_pid;

  // A property of the object instead of a persistent reference: a callback that
  // closes over the socket must not keep both alive.
  info.This().As<Napi::Object>().DefineProperty(Napi::PropertyDescriptor::Value("onEvent", info[1], napi_default));

  poll_ = PollHandle::Start(env, fd.Release(), this);
  try {
    SetOption(NETLINK_EXT_ACK, 1, "setsockopt NETLINK_EXT_ACK");
    SetOption(NETLINK_CAP_ACK, 1, "setsockopt NETLINK_CAP_ACK");
    Napi::Value strict = options.Get("strict");
    if (strict.IsUndefined() || strict.ToBoolean().Value())
      SetOption(NETLINK_GET_STRICT_CHK, 1, "setsockopt NETLINK_GET_STRICT_CHK");
    if (options.Get("groups").IsArray()) {
      auto groups = options.Get("groups").As<Napi::Array>();
      for (uint32_t i = 0; i < groups.Length(); i++)
        SetOption(NETLINK_ADD_MEMBERSHIP, groups.Get(i).ToNumber(), "setsockopt NETLINK_ADD_MEMBERSHIP");
    }
  } catch (...) {
    poll_->Close();
    poll_ = nullptr;
    throw;
  }
}

NetlinkSocket::~NetlinkSocket() {
  if (poll_ != nullptr) poll_->Close();
}

int NetlinkSocket::Descriptor() {
  if (poll_ == nullptr) throw SystemError(Env(), EBADF, "netlink", "the socket is closed");
  return poll_->fd();
}

void NetlinkSocket::SetOption(int option, int value, const char* name) {
  if (setsockopt(Descriptor(), SOL_NETLINK, option, &value, sizeof value) != 0) throw SystemError(Env(), errno, name);
}

void NetlinkSocket::OnReadable() {
  Wakeup wakeup;
  Receive(&wakeup);
  Deliver(wakeup);
}

void NetlinkSocket::Receive(Wakeup* wakeup) {
  napi_env env = Env();
  uint8_t* area = Napi::Env(env).GetInstanceData<AddonData>()->receiveArea;
  mmsghdr headers[kBatch];
  iovec vectors[kBatch];
  sockaddr_nl senders[kBatch];
  for (size_t reads = 0;;) {
    // The rest is read at the next wake-up. Only a pending overrun needs this
    // check, because an empty queue causes no wake-up.
    bool enough = reads >= kMaxDatagramsPerWakeup || wakeup->bytes >= kMaxBytesPerWakeup;
    if (enough && (!overrun_ || recv(poll_->fd(), area, 0, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN)) return;
    for (size_t i = 0; i < kBatch; i++) {
      vectors[i] = {area + i * kDatagramBytes, kDatagramBytes};
      headers[i] = {};
      headers[i].msg_hdr.msg_name = &senders[i];
      headers[i].msg_hdr.msg_namelen = sizeof senders[i];
      headers[i].msg_hdr.msg_iov = &vectors[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
    int received = recvmmsg(poll_->fd(), headers, kBatch, MSG_DONTWAIT, nullptr);
    if (received < 0) {
      if (errno == EINTR) continue;
      if (errno == ENOBUFS) {
        overrun_ = true;
        continue;
      }
      if (errno != EAGAIN) {
        wakeup->error = errno;
        return;
      }
      // The kernel keeps dropping messages until the queue is empty, without another
      // ENOBUFS (af_netlink.c, netlink_overrun and netlink_rcv_wake). If reported
      // earlier, a listener could resynchronise and still miss later messages.
      wakeup->overrun = overrun_;
      overrun_ = false;
      return;
    }
    reads += received;
    // Data that arrives later, or an error behind these datagrams, causes another wake-up.
    bool empty = static_cast<size_t>(received) < kBatch && !overrun_;
    for (int i = 0; i < received; i++) {
      // Any user may send to our port on NETLINK_GENERIC; only port 0 is the kernel.
      if (senders[i].nl_pid != 0) continue;
      if ((headers[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
        wakeup->error = EMSGSIZE;
        continue;
      }
      napi_value buffer;
      if (wakeup->messages == nullptr && napi_create_array(env, &wakeup->messages) != napi_ok) return;
      if (napi_create_buffer_copy(env, headers[i].msg_len, vectors[i].iov_base, nullptr, &buffer) != napi_ok ||
          napi_set_element(env, wakeup->messages, wakeup->count, buffer) != napi_ok)
        return;
      wakeup->count++;
      wakeup->bytes += headers[i].msg_len;
    }
    if (empty) return;
  }
}

void NetlinkSocket::Deliver(const Wakeup& wakeup) {
  napi_env env = Env();
  napi_value self = Value(), callback;
  // Collected but not finalised yet, or the environment is shutting down.
  if (self == nullptr || napi_get_named_property(env, self, "onEvent", &callback) != napi_ok) return;
  auto emit = [&](napi_value event) {
    // A callback may close the socket; no event follows then.
    if (event != nullptr && poll_ != nullptr) CallFromLoop(env, self, callback, 1, &event);
  };
  if (wakeup.count > 0) {
    napi_value event = Event(env, "data");
    if (event != nullptr && napi_set_named_property(env, event, "messages", wakeup.messages) == napi_ok) emit(event);
  }
  if (wakeup.overrun) emit(Event(env, "overrun"));
  if (wakeup.error != 0) {
    napi_value event = Event(env, "error"), number, code;
    if (event != nullptr && napi_create_int32(env, -wakeup.error, &number) == napi_ok &&
        napi_create_string_utf8(env, uv_err_name(-wakeup.error), NAPI_AUTO_LENGTH, &code) == napi_ok &&
        napi_set_named_property(env, event, "errno", number) == napi_ok &&
        napi_set_named_property(env, event, "code", code) == napi_ok)
      emit(event);
  }
}

void NetlinkSocket::OnEnvironmentEnd() { poll_ = nullptr; }

Napi::Value NetlinkSocket::Send(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw Napi::TypeError::New(info.Env(), "expected a Uint8Array");
  auto bytes = info[0].As<Napi::Uint8Array>();
  int fd = Descriptor();
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  iovec vector{bytes.Data(), bytes.ByteLength()};
  msghdr message{};
  message.msg_name = &kernel;
  message.msg_namelen = sizeof kernel;
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  ssize_t sent;
  do sent = sendmsg(fd, &message, 0);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) throw SystemError(info.Env(), errno, "sendmsg");
  return info.Env().Undefined();
}

Napi::Value NetlinkSocket::ReceiveNow(const Napi::CallbackInfo& info) {
  Descriptor();
  OnReadable();
  return info.Env().Undefined();
}

Napi::Value NetlinkSocket::Close(const Napi::CallbackInfo& info) {
  UnrefHandle(info);
  if (poll_ != nullptr) poll_->Close();
  poll_ = nullptr;
  return info.Env().Undefined();
}

Napi::Value NetlinkSocket::RefHandle(const Napi::CallbackInfo& info) {
  if (poll_ != nullptr && !strong_) {
    poll_->Ref();
    Ref();
    strong_ = true;
  }
  return info.This();
}

Napi::Value NetlinkSocket::UnrefHandle(const Napi::CallbackInfo& info) {
  if (poll_ != nullptr && strong_) {
    poll_->Unref();
    Unref();
    strong_ = false;
  }
  return info.This();
}

Napi::Value NetlinkSocket::AddMembership(const Napi::CallbackInfo& info) {
  SetOption(NETLINK_ADD_MEMBERSHIP, info[0].ToNumber(), "setsockopt NETLINK_ADD_MEMBERSHIP");
  return info.Env().Undefined();
}

Napi::Value NetlinkSocket::DropMembership(const Napi::CallbackInfo& info) {
  SetOption(NETLINK_DROP_MEMBERSHIP, info[0].ToNumber(), "setsockopt NETLINK_DROP_MEMBERSHIP");
  return info.Env().Undefined();
}

Napi::Value NetlinkSocket::ListenAllNsid(const Napi::CallbackInfo& info) {
  SetOption(NETLINK_LISTEN_ALL_NSID, info[0].ToBoolean() ? 1 : 0, "setsockopt NETLINK_LISTEN_ALL_NSID");
  return info.Env().Undefined();
}

Napi::Value NetlinkSocket::PortId(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), portId_); }

Napi::Value NetlinkSocket::ReceiveBufferBytes(const Napi::CallbackInfo& info) {
  int bytes = 0;
  socklen_t length = sizeof bytes;
  if (getsockopt(Descriptor(), SOL_SOCKET, SO_RCVBUF, &bytes, &length) != 0)
    throw SystemError(info.Env(), errno, "getsockopt");
  return Napi::Number::New(info.Env(), bytes);
}

}  // namespace mesh
