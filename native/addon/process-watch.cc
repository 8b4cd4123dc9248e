#include "process-watch.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "addon.h"
#include "errors.h"

// Same system call numbers on all architectures (asm-generic/unistd.h).
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

namespace mesh {

void ProcessWatch::Register(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(
      env, "ProcessWatch",
      {InstanceMethod("close", &ProcessWatch::Close), InstanceMethod("signal", &ProcessWatch::Signal),
       InstanceMethod("ref", &ProcessWatch::RefHandle), InstanceMethod("unref", &ProcessWatch::UnrefHandle),
       InstanceAccessor<&ProcessWatch::Pid>("pid")});
  env.GetInstanceData<AddonData>()->processWatch = Napi::Persistent(constructor);
  exports.Set("watchProcess", Napi::Function::New(
                                  env,
                                  [](const Napi::CallbackInfo& info) -> Napi::Value {
                                    return info.Env().GetInstanceData<AddonData>()->processWatch.New(
                                        {info[0], info[1]});
                                  },
                                  "watchProcess"));
}

ProcessWatch::ProcessWatch(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ProcessWatch>(info) {
  Napi::Env env = info.Env();
  if (!info[0].IsNumber() || !info[1].IsFunction())
    throw Napi::TypeError::New(env, "expected a process id and a callback");
  pid_ = info[0].As<Napi::Number>();
  int fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));  // always close-on-exec
  if (fd < 0) throw SystemError(env, errno, "pidfd_open", std::to_string(pid_));
  info.This().As<Napi::Object>().DefineProperty(Napi::PropertyDescriptor::Value("onExit", info[1], napi_default));
  poll_ = PollHandle::Start(env, fd, this);
  // Strong reference until the process ends or close(): a watch without other
  // references must still report. The lifetime of the process bounds it.
  Ref();
}

ProcessWatch::~ProcessWatch() {
  if (poll_ != nullptr) poll_->Close();
}

void ProcessWatch::Stop() {
  if (poll_ == nullptr) return;
  poll_->Close();
  poll_ = nullptr;
  Unref();
}

void ProcessWatch::OnReadable() {
  napi_env env = Env();
  napi_value self = Value(), callback;
  if (self == nullptr || napi_get_named_property(env, self, "onExit", &callback) != napi_ok) return;
  Stop();
  CallFromLoop(env, self, callback, 0, nullptr);
}

void ProcessWatch::OnEnvironmentEnd() { poll_ = nullptr; }

Napi::Value ProcessWatch::Close(const Napi::CallbackInfo& info) {
  Stop();
  return info.Env().Undefined();
}

Napi::Value ProcessWatch::Signal(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) throw Napi::TypeError::New(info.Env(), "expected a signal number");
  int error = poll_ == nullptr ? ESRCH : 0;
  if (error == 0 && syscall(SYS_pidfd_send_signal, poll_->fd(), info[0].As<Napi::Number>().Int32Value(), nullptr, 0) != 0)
    error = errno;
  if (error != 0) throw SystemError(info.Env(), error, "pidfd_send_signal", std::to_string(pid_));
  return info.Env().Undefined();
}

Napi::Value ProcessWatch::RefHandle(const Napi::CallbackInfo& info) {
  if (poll_ != nullptr) poll_->Ref();
  return info.This();
}

Napi::Value ProcessWatch::UnrefHandle(const Napi::CallbackInfo& info) {
  if (poll_ != nullptr) poll_->Unref();
  return info.This();
}

Napi::Value ProcessWatch::Pid(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), pid_); }

}  // namespace mesh
