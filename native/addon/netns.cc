#include "netns.h"

#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "addon.h"
#include "errors.h"

#ifndef NS_GET_NSTYPE
#define NS_GET_NSTYPE _IO(0xb7, 0x3)  // linux/nsfs.h, since 4.11
#endif

namespace mesh {
namespace {

/// Failure of one step, recorded outside the JavaScript thread.
struct Failure {
  int error = 0;
  const char* syscall = "";
};

std::string Describe(Napi::Value ref) {
  if (ref.IsString()) return ref.As<Napi::String>();
  if (ref.IsNumber()) return "fd " + std::to_string(ref.As<Napi::Number>().Int32Value());
  if (ref.IsObject() && ref.As<Napi::Object>().Get("pid").IsNumber())
    return "/proc/" + std::to_string(ref.As<Napi::Object>().Get("pid").As<Napi::Number>().Int64Value()) + "/ns/net";
  throw Napi::TypeError::New(ref.Env(), "a network namespace is a path, a file descriptor or {pid}");
}

std::string PathArgument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsString()) throw Napi::TypeError::New(info.Env(), "expected a path");
  return info[index].As<Napi::String>();
}

/// As `ip netns add`: the directory becomes a shared mount, so that pins
/// created or removed in one mount namespace propagate to the others.
/// Otherwise a deleted namespace would stay alive in every task's mount namespace.
/// iproute2: ip/ipnetns.c, on_netns_add / create_netns_dir.
Failure MakeSharedDirectory(const std::string& directory) {
  if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) return {errno, "mkdir"};
  UniqueFd lock(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.get() < 0) return {errno, "open"};
  // iproute2 takes the same lock, so that only one process binds.
  if (flock(lock.get(), LOCK_EX) != 0) return {errno, "flock"};
  bool bound = false;
  while (mount("", directory.c_str(), "none", MS_SHARED | MS_REC, nullptr) != 0) {
    if (errno != EINVAL || bound) return {errno, "mount"};  // EINVAL: not a mount point yet
    if (mount(directory.c_str(), directory.c_str(), "none", MS_BIND | MS_REC, nullptr) != 0) return {errno, "mount"};
    bound = true;
  }
  return {};
}

/// Creates `path` and calls `bind` to mount a namespace over it.
template <typename Bind>
void Pin(Napi::Env env, const std::string& path, Bind bind) {
  std::string copy = path;
  Failure failure = MakeSharedDirectory(dirname(copy.data()));
  if (failure.error == 0) {
    UniqueFd file(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
    if (file.get() < 0) {
      failure = {errno, "open"};
    } else {
      failure = bind();
      if (failure.error != 0) unlink(path.c_str());
    }
  }
  if (failure.error != 0) throw SystemError(env, failure.error, failure.syscall, path);
}

Napi::Value CreateNetns(const Napi::CallbackInfo& info) {
  std::string path = PathArgument(info, 0);
  Pin(info.Env(), path, [&path] {
    Failure failure;
    // In a separate thread: a failing unshare() does not affect the caller, and
    // the mount alone keeps the new namespace alive.
    std::thread([&failure, &path] {
      if (unshare(CLONE_NEWNET) != 0)
        failure = {errno, "unshare"};
      else if (mount("/proc/thread-self/ns/net", path.c_str(), "none", MS_BIND, nullptr) != 0)
        failure = {errno, "mount"};
    }).join();
    return failure;
  });
  return info.Env().Undefined();
}

Napi::Value PinNetns(const Napi::CallbackInfo& info) {
  UniqueFd source = OpenNetns(info[0]);
  std::string path = PathArgument(info, 1);
  Pin(info.Env(), path, [&] {
    std::string from = "/proc/self/fd/" + std::to_string(source.get());
    if (mount(from.c_str(), path.c_str(), "none", MS_BIND, nullptr) != 0) return Failure{errno, "mount"};
    return Failure{};
  });
  return info.Env().Undefined();
}

Napi::Value DeleteNetns(const Napi::CallbackInfo& info) {
  std::string path = PathArgument(info, 0);
  struct statfs where {};
  struct stat file {};
  if (statfs(path.c_str(), &where) != 0 || lstat(path.c_str(), &file) != 0)
    throw SystemError(info.Env(), errno, "stat", path);
  // Only a pin, or the empty file of an interrupted pin, is removed.
  if (where.f_type != NSFS_MAGIC && !(S_ISREG(file.st_mode) && file.st_size == 0))
    throw SystemError(info.Env(), EINVAL, "umount2", path);
  for (int layers = 0; layers < 16 && umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0; layers++) {
  }
  if (unlink(path.c_str()) != 0) throw SystemError(info.Env(), errno, "unlink", path);
  return info.Env().Undefined();
}

Napi::Value OpenNetnsFd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), OpenNetns(info[0]).Release());
}

Napi::Value NetnsIdentity(const Napi::CallbackInfo& info) {
  UniqueFd fd = OpenNetns(info[0]);
  struct stat file {};
  if (fstat(fd.get(), &file) != 0) throw SystemError(info.Env(), errno, "fstat", Describe(info[0]));
  Napi::Object identity = Napi::Object::New(info.Env());
  identity.Set("dev", Napi::Number::New(info.Env(), static_cast<double>(file.st_dev)));
  identity.Set("ino", Napi::Number::New(info.Env(), static_cast<double>(file.st_ino)));
  return identity;
}

/// Threads inherit the namespace of their creator, and libuv creates its
/// pool at the first use. If that happened inside inNetns(), every later
/// getaddrinfo() of the process would run in that namespace.
void StartThreadPool(Napi::Env env) {
  auto* data = env.GetInstanceData<AddonData>();
  if (data->threadPoolStarted) return;
  struct Warmup : Napi::AsyncWorker {
    explicit Warmup(Napi::Env env) : Napi::AsyncWorker(env, "meshd") {}
    void Execute() override {}
  };
  (new Warmup(env))->Queue();
  data->threadPoolStarted = true;
}

Napi::Value InNetns(const Napi::CallbackInfo& info) {
  if (!info[1].IsFunction()) throw Napi::TypeError::New(info.Env(), "expected a function");
  StartThreadPool(info.Env());
  NetnsScope scope(info[0]);
  return info[1].As<Napi::Function>().Call({});
}

}  // namespace

UniqueFd OpenNetns(Napi::Value ref) {
  std::string subject = Describe(ref);
  UniqueFd fd(ref.IsNumber() ? fcntl(ref.As<Napi::Number>().Int32Value(), F_DUPFD_CLOEXEC, 3)
                             : open(subject.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) throw SystemError(ref.Env(), errno, ref.IsNumber() ? "fcntl" : "open", subject);
  if (ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) throw SystemError(ref.Env(), EINVAL, "ioctl", subject);
  return fd;
}

NetnsScope::NetnsScope(Napi::Value ref) {
  if (ref.IsUndefined()) return;
  UniqueFd target = OpenNetns(ref);
  UniqueFd home(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (home.get() < 0) throw SystemError(ref.Env(), errno, "open", "/proc/thread-self/ns/net");
  if (setns(target.get(), CLONE_NEWNET) != 0) throw SystemError(ref.Env(), errno, "setns", Describe(ref));
  home_ = std::move(home);
}

NetnsScope::~NetnsScope() {
  // A thread left in another namespace would silently program the wrong
  // kernel tables with every later call. Exiting is safe: the kernel keeps
  // forwarding, and the next start adopts the existing state.
  if (home_.get() >= 0 && setns(home_.get(), CLONE_NEWNET) != 0) {
    perror("meshd: cannot return to the network namespace this thread came from");
    abort();
  }
}

void RegisterNetns(Napi::Env env, Napi::Object exports) {
  exports.Set("createNetns", Napi::Function::New(env, CreateNetns, "createNetns"));
  exports.Set("pinNetns", Napi::Function::New(env, PinNetns, "pinNetns"));
  exports.Set("deleteNetns", Napi::Function::New(env, DeleteNetns, "deleteNetns"));
  exports.Set("openNetns", Napi::Function::New(env, OpenNetnsFd, "openNetns"));
  exports.Set("netnsIdentity", Napi::Function::New(env, NetnsIdentity, "netnsIdentity"));
  exports.Set("inNetns", Napi::Function::New(env, InNetns, "inNetns"));
}

}  // namespace mesh
