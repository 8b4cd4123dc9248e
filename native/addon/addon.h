#pragma once
#include <napi.h>

#include <cstddef>
#include <cstdint>

namespace mesh {

/// What one JavaScript environment (the main thread or a worker) owns.
/// There is no other mutable state in the addon, so that any number of
/// environments can load the same binary.
struct AddonData {
  explicit AddonData(Napi::Env env) : async(env, "meshd") {}
  ~AddonData();

  Napi::AsyncContext async;
  Napi::FunctionReference netlinkSocket;
  Napi::FunctionReference processWatch;
  Napi::FunctionReference bpfHandle;
  /// Receive area shared by all netlink sockets of the thread; made at first use.
  uint8_t* receiveArea = nullptr;
  bool threadPoolStarted = false;
};

/// Calls `function` from the event loop as Node calls its own handlers
/// (ticks and microtasks run afterwards). What the function throws becomes an
/// uncaughtException; in an environment that is ending nothing happens.
void CallFromLoop(napi_env env, napi_value receiver, napi_value function, size_t argc, const napi_value* argv);

}  // namespace mesh
