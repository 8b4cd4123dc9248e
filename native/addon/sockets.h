#pragma once
#include <napi.h>

namespace mesh {

/// openSocket, bindSocket and sendUnixDatagram.
void RegisterSockets(Napi::Env env, Napi::Object exports);

}  // namespace mesh
