#pragma once
#include <napi.h>

namespace mesh {

/// bpfObjectMaps, bpfObjectConstants and loadBpfObject: the object files of native/bpf, through libbpf.
void RegisterBpfObject(Napi::Env env, Napi::Object exports);

}  // namespace mesh
