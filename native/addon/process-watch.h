#pragma once
#include <napi.h>

#include "poll-handle.h"

namespace mesh {

/// A process held by a pidfd: reports its end once, whether or not it is our
/// child, and never signals another process that reuses its number.
class ProcessWatch : public Napi::ObjectWrap<ProcessWatch>, public PollOwner {
 public:
  static void Register(Napi::Env env, Napi::Object exports);
  explicit ProcessWatch(const Napi::CallbackInfo& info);
  ~ProcessWatch() override;

  void OnReadable() override;
  void OnEnvironmentEnd() override;

 private:
  void Stop();
  Napi::Value Close(const Napi::CallbackInfo& info);
  Napi::Value Signal(const Napi::CallbackInfo& info);
  Napi::Value RefHandle(const Napi::CallbackInfo& info);
  Napi::Value UnrefHandle(const Napi::CallbackInfo& info);
  Napi::Value Pid(const Napi::CallbackInfo& info);

  PollHandle* poll_ = nullptr;
  int pid_ = 0;
};

}  // namespace mesh
