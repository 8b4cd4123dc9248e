#pragma once
#include <napi.h>

namespace mesh {

void RegisterSpawn(Napi::Env env, Napi::Object exports);

}  // namespace mesh
