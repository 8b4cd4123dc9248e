#pragma once
#include <napi.h>

#include <string>

namespace mesh {

/// An Error like Node's own: `code` ("EEXIST"), `errno` (negative), `syscall`,
/// and a message "EEXIST: file already exists, mount '/run/netns/x'".
Napi::Error SystemError(Napi::Env env, int error, const char* syscall, const std::string& subject = "");

}  // namespace mesh
