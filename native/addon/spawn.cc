#include "spawn.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <vector>

#include "errors.h"
#include "unique-fd.h"

/*
 * posix_spawn() instead of libuv's fork(): glibc creates the child with CLONE_VM | CLONE_VFORK. A fork copies the page
 * tables of the whole daemon and then every page written to, while the event loop is blocked.
 */

namespace mesh {
namespace {

std::vector<std::string> Strings(Napi::Value value) {
  if (!value.IsArray()) throw Napi::TypeError::New(value.Env(), "expected a list of strings");
  Napi::Array list = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < list.Length(); i++) {
    std::string text = list.Get(i).ToString();
    if (text.find('\0') != std::string::npos) throw Napi::TypeError::New(value.Env(), "a string holds a NUL byte");
    strings.push_back(std::move(text));
  }
  return strings;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

struct Actions {
  Actions() { posix_spawn_file_actions_init(&actions); }
  ~Actions() { posix_spawn_file_actions_destroy(&actions); }
  posix_spawn_file_actions_t actions;
};

struct Attributes {
  explicit Attributes(bool session) {
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    // Node ignores SIGPIPE; its children must not inherit that.
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (session) flags |= POSIX_SPAWN_SETSID;
    posix_spawnattr_setflags(&attributes, flags);
  }
  ~Attributes() { posix_spawnattr_destroy(&attributes); }
  posix_spawnattr_t attributes;
};

/// A memory file that contains the bytes, positioned at its start.
UniqueFd MemoryFile(Napi::Env env, const Napi::Uint8Array& bytes) {
  UniqueFd file(memfd_create("input", MFD_CLOEXEC));
  if (file.get() < 0) throw SystemError(env, errno, "memfd_create");
  for (size_t done = 0; done < bytes.ByteLength();) {
    ssize_t written = pwrite(file.get(), bytes.Data() + done, bytes.ByteLength() - done, done);
    if (written < 0 && errno != EINTR) throw SystemError(env, errno, "pwrite", "memory file");
    if (written > 0) done += written;
  }
  return file;
}

/// spawnProcess(path, argv, env, directory, session, [pipe for 0, 1, 2], input?):
/// [pid, our end of each pipe, -1 for streams without one]
Napi::Value Spawn(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path = info[0].ToString(), directory = info[3].ToString();
  std::vector<std::string> arguments = Strings(info[1]), environment = Strings(info[2]);
  Napi::Array pipes = info[5].As<Napi::Array>();
  Actions actions;
  UniqueFd ours[3], theirs[3];
  for (int number = 0; number < 3; number++) {
    bool input = number == 0;
    if (input && info[6].IsTypedArray()) {
      theirs[number] = MemoryFile(env, info[6].As<Napi::Uint8Array>());
      posix_spawn_file_actions_adddup2(&actions.actions, theirs[number].get(), number);
      continue;
    }
    if (!pipes.Get(number).ToBoolean()) {
      posix_spawn_file_actions_addopen(&actions.actions, number, "/dev/null", input ? O_RDONLY : O_WRONLY, 0);
      continue;
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw SystemError(env, errno, "pipe2", path);
    ours[number] = UniqueFd(ends[input ? 1 : 0]);
    theirs[number] = UniqueFd(ends[input ? 0 : 1]);
    fcntl(ours[number].get(), F_SETFL, O_NONBLOCK);
    posix_spawn_file_actions_adddup2(&actions.actions, theirs[number].get(), number);
  }
  posix_spawn_file_actions_addchdir_np(&actions.actions, directory.c_str());
  Attributes attributes(info[4].ToBoolean());
  pid_t pid = -1;
  int error = posix_spawn(&pid, path.c_str(), &actions.actions, &attributes.attributes, Pointers(arguments).data(),
                          Pointers(environment).data());
  if (error != 0) throw SystemError(env, error, "posix_spawn", path);
  Napi::Array result = Napi::Array::New(env);
  result.Set(0u, pid);
  for (uint32_t number = 0; number < 3; number++) result.Set(number + 1, ours[number].Release());
  return result;
}

/// reapProcess(pid): wait(2) status of an ended child; undefined while it runs. libuv only reaps its own children.
Napi::Value Reap(const Napi::CallbackInfo& info) {
  int status = 0;
  pid_t pid = info[0].ToNumber().Int32Value();
  pid_t ended = waitpid(pid, &status, WNOHANG);
  if (ended < 0) throw SystemError(info.Env(), errno, "waitpid", std::to_string(pid));
  return ended == 0 ? info.Env().Undefined() : Napi::Number::New(info.Env(), status);
}

}  // namespace

void RegisterSpawn(Napi::Env env, Napi::Object exports) {
  exports.Set("spawnProcess", Napi::Function::New(env, Spawn, "spawnProcess"));
  exports.Set("reapProcess", Napi::Function::New(env, Reap, "reapProcess"));
}

}  // namespace mesh
