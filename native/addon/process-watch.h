#pragma once
#include <napi.h>

#include "poll-handle.h"

namespace mesh {

/// A process held by a pidfd: tells its end once, child of ours or not, and
/// signals it and never a successor with the same number.
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
