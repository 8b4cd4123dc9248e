#pragma once
#include <napi.h>

namespace mesh {

void RegisterCredentials(Napi::Env env, Napi::Object exports);

}  // namespace mesh
