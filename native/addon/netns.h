#pragma once
#include <napi.h>

#include "unique-fd.h"

namespace mesh {

/// Opens the network namespace that a JavaScript value identifies: a path
/// (string), an open descriptor (number, duplicated) or `{pid}`. Throws a
/// system error; EINVAL if it is not a network namespace.
UniqueFd OpenNetns(Napi::Value ref);

/// Keeps the calling thread in another network namespace during its lifetime.
class NetnsScope {
 public:
  /// Does not switch if `ref` is undefined.
  explicit NetnsScope(Napi::Value ref);
  NetnsScope(const NetnsScope&) = delete;
  NetnsScope& operator=(const NetnsScope&) = delete;
  ~NetnsScope();

 private:
  UniqueFd home_;
};

void RegisterNetns(Napi::Env env, Napi::Object exports);

}  // namespace mesh
