#include "poll-handle.h"

#include <unistd.h>

#include "errors.h"

namespace mesh {

PollHandle* PollHandle::Start(Napi::Env env, int fd, PollOwner* owner) {
  auto* self = new PollHandle(env, fd, owner);
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  int error = uv_poll_init(loop, &self->poll_, fd);
  if (error != 0) {
    delete self;
    close(fd);
    throw SystemError(env, -error, "uv_poll_init");
  }
  self->poll_.data = self;
  self->Unref();
  napi_add_async_cleanup_hook(env, OnCleanup, self, &self->hook_);
  uv_poll_start(&self->poll_, UV_READABLE, OnPoll);
  return self;
}

void PollHandle::Close() {
  if (owner_ == nullptr) return;
  owner_ = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), [](uv_handle_t* handle) {
    auto* self = static_cast<PollHandle*>(handle->data);
    // An environment that is shutting down waits for this callback.
    napi_remove_async_cleanup_hook(self->hook_);
    delete self;
  });
  close(fd_);
  fd_ = -1;
}

void PollHandle::OnPoll(uv_poll_t* poll, int status, int) {
  auto* self = static_cast<PollHandle*>(poll->data);
  if (self->owner_ == nullptr) return;
  Napi::HandleScope scope(self->env_);
  self->owner_->OnReadable();
  // libuv stops a handle after EPOLLERR and reports EBADF (uv__poll_io);
  // on a netlink socket that is only an overrun, already read and cleared.
  if (status < 0 && self->owner_ != nullptr) uv_poll_start(poll, UV_READABLE, OnPoll);
}

void PollHandle::OnCleanup(napi_async_cleanup_hook_handle, void* data) {
  auto* self = static_cast<PollHandle*>(data);
  if (self->owner_ == nullptr) return;  // already closing; the close callback finishes it
  self->owner_->OnEnvironmentEnd();
  self->Close();
}

}  // namespace mesh
