#pragma once
#include <napi.h>

#include "unique-fd.h"

namespace mesh {

/// Opens the network namespace a JavaScript value names: a path (string), an
/// open descriptor (number, duplicated) or `{pid}`. Throws a system error;
/// EINVAL when it is something else than a network namespace.
UniqueFd OpenNetns(Napi::Value ref);

/// The calling thread is in another network namespace while this lives.
class NetnsScope {
 public:
  /// Stays where it is when `ref` is undefined.
  explicit NetnsScope(Napi::Value ref);
  NetnsScope(const NetnsScope&) = delete;
  NetnsScope& operator=(const NetnsScope&) = delete;
  ~NetnsScope();

 private:
  UniqueFd home_;
};

void RegisterNetns(Napi::Env env, Napi::Object exports);

}  // namespace mesh
