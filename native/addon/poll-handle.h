#pragma once
#include <napi.h>
#include <uv.h>

namespace mesh {

/// Owner of a descriptor; called when it becomes readable.
class PollOwner {
 public:
  virtual ~PollOwner() = default;
  virtual void OnReadable() = 0;
  /// The environment is shutting down: drop the PollHandle, it closes itself.
  virtual void OnEnvironmentEnd() = 0;
};

/// A descriptor watched by the event loop. It survives its JavaScript object
/// until libuv has closed the handle, and holds an environment cleanup hook so
/// that a worker or process with open handles exits cleanly. Starts unref()ed.
class PollHandle {
 public:
  /// Takes ownership of `fd`. Throws a JavaScript error if libuv rejects it.
  static PollHandle* Start(Napi::Env env, int fd, PollOwner* owner);
  /// Closes handle and descriptor; the owner is not called any more and the
  /// object deletes itself asynchronously.
  void Close();
  void Ref() { uv_ref(reinterpret_cast<uv_handle_t*>(&poll_)); }
  void Unref() { uv_unref(reinterpret_cast<uv_handle_t*>(&poll_)); }
  int fd() const { return fd_; }

 private:
  PollHandle(napi_env env, int fd, PollOwner* owner) : env_(env), fd_(fd), owner_(owner) {}
  static void OnPoll(uv_poll_t* poll, int status, int events);
  static void OnCleanup(napi_async_cleanup_hook_handle hook, void* self);

  uv_poll_t poll_{};
  napi_env env_;
  int fd_;
  PollOwner* owner_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
};

}  // namespace mesh
