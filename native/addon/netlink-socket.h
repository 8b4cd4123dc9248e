#pragma once
#include <napi.h>

#include <cstddef>

#include "poll-handle.h"

namespace mesh {

/// A netlink socket in a given network namespace; does not interpret messages.
class NetlinkSocket : public Napi::ObjectWrap<NetlinkSocket>, public PollOwner {
 public:
  /// Datagrams read by one recvmmsg().
  static constexpr size_t kBatch = 8;
  /// KMALLOC_MAX_SIZE: no message of the kernel can be longer. Only touched
  /// pages use memory, and dumps are split into at most 32 KiB.
  static constexpr size_t kDatagramBytes = 4u << 20;
  static constexpr size_t kReceiveAreaBytes = kBatch * kDatagramBytes;

  static void Register(Napi::Env env, Napi::Object exports);
  explicit NetlinkSocket(const Napi::CallbackInfo& info);
  ~NetlinkSocket() override;

  void OnReadable() override;
  void OnEnvironmentEnd() override;

 private:
  struct Wakeup;
  int Descriptor();
  void SetOption(int option, int value, const char* name);
  void Receive(Wakeup* wakeup);
  void Deliver(const Wakeup& wakeup);

  Napi::Value Send(const Napi::CallbackInfo& info);
  Napi::Value ReceiveNow(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);
  Napi::Value RefHandle(const Napi::CallbackInfo& info);
  Napi::Value UnrefHandle(const Napi::CallbackInfo& info);
  Napi::Value AddMembership(const Napi::CallbackInfo& info);
  Napi::Value DropMembership(const Napi::CallbackInfo& info);
  Napi::Value ListenAllNsid(const Napi::CallbackInfo& info);
  Napi::Value PortId(const Napi::CallbackInfo& info);
  Napi::Value ReceiveBufferBytes(const Napi::CallbackInfo& info);

  PollHandle* poll_ = nullptr;
  uint32_t portId_ = 0;
  bool strong_ = false;
  bool overrun_ = false;
};

}  // namespace mesh
