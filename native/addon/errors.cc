#include "errors.h"

#include <uv.h>

namespace mesh {

Napi::Error SystemError(Napi::Env env, int error, const char* syscall, const std::string& subject) {
  const char* code = uv_err_name(-error);
  std::string message = std::string(code) + ": " + uv_strerror(-error) + ", " + syscall;
  if (!subject.empty()) message += " '" + subject + "'";
  Napi::Error failure = Napi::Error::New(env, message);
  failure.Set("errno", Napi::Number::New(env, -error));
  failure.Set("code", Napi::String::New(env, code));
  failure.Set("syscall", Napi::String::New(env, syscall));
  return failure;
}

}  // namespace mesh
