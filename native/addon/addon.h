#pragma once
#include <napi.h>

#include <cstddef>
#include <cstdint>

namespace mesh {

/// State of one JavaScript environment (the main thread or a worker).
/// There is no other mutable state in the addon, so that any number of
/// environments can load the same binary.
struct AddonData {
  explicit AddonData(Napi::Env env) : async(env, "meshd") {}
  ~AddonData();

  Napi::AsyncContext async;
  Napi::FunctionReference netlinkSocket;
  Napi::FunctionReference processWatch;
  Napi::FunctionReference bpfHandle;
  /// Receive buffer shared by all netlink sockets of the thread; allocated at first use.
  uint8_t* receiveArea = nullptr;
  bool threadPoolStarted = false;
};

/// Calls `function` from the event loop as Node calls its own handlers
/// (ticks and microtasks run afterwards). An exception becomes an
/// uncaughtException; in an environment that is shutting down nothing happens.
void CallFromLoop(napi_env env, napi_value receiver, napi_value function, size_t argc, const napi_value* argv);

}  // namespace mesh
