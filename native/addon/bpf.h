#pragma once
#include <napi.h>

#include "unique-fd.h"

namespace mesh {

/// A BPF map or program; owns the descriptor until closed or collected.
class BpfHandle : public Napi::ObjectWrap<BpfHandle> {
 public:
  static void Register(Napi::Env env, Napi::Object exports);
  static Napi::Value Wrap(Napi::Env env, UniqueFd fd);
  explicit BpfHandle(const Napi::CallbackInfo& info);

  /// The descriptor; throws when closed.
  int Descriptor();

 private:
  Napi::Value Fd(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  UniqueFd fd_;
};

/// The descriptor of a value that must be a BpfHandle.
int DescriptorOf(Napi::Value value);

/// A value that must be bytes.
Napi::Uint8Array Bytes(Napi::Value value);

/// Maps and programs by id, and the entries of maps: bpf(2).
void RegisterBpf(Napi::Env env, Napi::Object exports);

}  // namespace mesh
