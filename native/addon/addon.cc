#include "addon.h"

#include <sys/mman.h>

#include "bpf-object.h"
#include "bpf.h"
#include "credentials.h"
#include "netlink-socket.h"
#include "netns.h"
#include "process-watch.h"
#include "sockets.h"
#include "spawn.h"

namespace mesh {

AddonData::~AddonData() {
  if (receiveArea != nullptr) munmap(receiveArea, NetlinkSocket::kReceiveAreaBytes);
}

// Plain C calls: while an environment is shutting down any of them may fail,
// and the C++ wrapper aborts if it cannot create its Error object.
void CallFromLoop(napi_env env, napi_value receiver, napi_value function, size_t argc, const napi_value* argv) {
  void* data = nullptr;
  if (napi_get_instance_data(env, &data) != napi_ok || data == nullptr) return;
  napi_async_context context = static_cast<AddonData*>(data)->async;
  napi_callback_scope scope;
  if (napi_open_callback_scope(env, receiver, context, &scope) != napi_ok) return;
  napi_value result;
  if (napi_call_function(env, receiver, function, argc, argv, &result) == napi_pending_exception) {
    napi_value thrown;
    bool pending = false;
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
        napi_get_and_clear_last_exception(env, &thrown) == napi_ok) {
      napi_fatal_exception(env, thrown);
    }
  }
  napi_close_callback_scope(env, scope);
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new AddonData(env));
  NetlinkSocket::Register(env, exports);
  ProcessWatch::Register(env, exports);
  RegisterNetns(env, exports);
  RegisterSockets(env, exports);
  RegisterBpf(env, exports);
  RegisterBpfObject(env, exports);
  RegisterSpawn(env, exports);
  RegisterCredentials(env, exports);
  return exports;
}

NODE_API_MODULE(mesh, Init)

}  // namespace mesh
