#include "bpf-object.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bpf.h"
#include "errors.h"

namespace mesh {
namespace {

/// The end of the verifier log has the reason; the rest repeats the program.
constexpr size_t kLogTail = 2048;
constexpr char kConstants[] = ".rodata";

/// What libbpf reports during a call, the verifier log included; its default is stderr.
thread_local std::string messages;

int Print(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  va_list copy;
  va_copy(copy, arguments);
  int length = vsnprintf(nullptr, 0, format, copy);
  va_end(copy);
  if (length <= 0) return 0;
  size_t end = messages.size();
  messages.resize(end + static_cast<size_t>(length) + 1);
  vsnprintf(&messages[end], static_cast<size_t>(length) + 1, format, arguments);
  messages.pop_back();
  return length;
}

/// The verifier log of a rejected program, between the lines that libbpf puts around it; or all that it reported.
std::string Log() {
  const std::string begin = "-- BEGIN PROG LOAD LOG --\n", end = "-- END PROG LOAD LOG --";
  size_t from = messages.find(begin);
  size_t to = messages.find(end);
  std::string log = from == std::string::npos || to == std::string::npos
                        ? messages
                        : messages.substr(from + begin.size(), to - from - begin.size());
  return log.size() > kLogTail ? log.substr(log.size() - kLogTail) : log;
}

[[noreturn]] void Throw(Napi::Env env, int error, const std::string& what) {
  Napi::Error failure = SystemError(env, error, "bpf", what);
  failure.Set("log", Napi::String::New(env, Log()));
  throw failure;
}

struct CloseObject {
  void operator()(struct bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<struct bpf_object, CloseObject>;

/// Parses an object file. `name` is the prefix of its constants' map, as `bpftool map` shows it.
Object Open(Napi::Env env, Napi::Value elf, const char* name) {
  Napi::Uint8Array bytes = Bytes(elf);
  messages.clear();
  libbpf_set_print(Print);
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name);
  Object object(bpf_object__open_mem(bytes.Data(), bytes.ByteLength(), &options));
  if (libbpf_get_error(object.get()) == 0) return object;
  int error = static_cast<int>(-libbpf_get_error(object.release()));
  Throw(env, error, "open object");
}

/// Whether a map is of this object alone: variables are, except those of sections that programs share by their full name.
bool IsInternal(const struct bpf_map* map) {
  const char* dot = strchr(bpf_map__name(map), '.');
  return dot != nullptr && dot != bpf_map__name(map);
}

struct bpf_map* ConstantsOf(const Object& object) {
  struct bpf_map* map;
  bpf_object__for_each_map(map, object.get()) {
    const char* suffix = strrchr(bpf_map__name(map), '.');
    if (suffix != nullptr && strcmp(suffix, kConstants) == 0) return map;
  }
  return nullptr;
}

/// A value as the program reads it: a number in the machine's byte order, or bytes as they are.
void WriteConstant(Napi::Env env, const std::string& name, Napi::Value value, uint8_t* at, uint32_t size) {
  if (value.IsNumber()) {
    uint32_t number = value.As<Napi::Number>().Uint32Value();
    if (size != sizeof number) throw Napi::TypeError::New(env, name + " is not a 32-bit number");
    memcpy(at, &number, size);
    return;
  }
  Napi::Uint8Array bytes = Bytes(value);
  if (bytes.ByteLength() > size) throw Napi::RangeError::New(env, name + " has " + std::to_string(size) + " bytes");
  memcpy(at, bytes.Data(), bytes.ByteLength());
}

/// The object's `const volatile` variables with the values of `constants`; all names in it must exist.
std::vector<uint8_t> Constants(Napi::Env env, const Object& object, const Napi::Object& constants) {
  struct bpf_map* map = ConstantsOf(object);
  const struct btf* types = bpf_object__btf(object.get());
  int section = types == nullptr ? -ENOENT : btf__find_by_name_kind(types, kConstants, BTF_KIND_DATASEC);
  if (map == nullptr || section < 0) Throw(env, EINVAL, "object without constants");
  size_t size = 0;
  const void* initial = bpf_map__initial_value(map, &size);
  std::vector<uint8_t> values(size);
  memcpy(values.data(), initial, size);
  uint32_t found = 0;
  const struct btf_type* variables = btf__type_by_id(types, static_cast<uint32_t>(section));
  const struct btf_var_secinfo* variable = btf_var_secinfos(variables);
  for (int left = btf_vlen(variables); left > 0; left--, variable++) {
    std::string name = btf__name_by_offset(types, btf__type_by_id(types, variable->type)->name_off);
    if (!constants.Has(name)) continue;
    if (variable->offset + variable->size > size) Throw(env, EINVAL, name);
    WriteConstant(env, name, constants.Get(name), &values[variable->offset], variable->size);
    found++;
  }
  if (found != constants.GetPropertyNames().Length()) throw Napi::TypeError::New(env, "unknown constant");
  return values;
}

Napi::Value Duplicate(Napi::Env env, int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (copy.get() < 0) throw SystemError(env, errno, "fcntl", "F_DUPFD_CLOEXEC");
  return BpfHandle::Wrap(env, std::move(copy));
}

Napi::Value ObjectMaps(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Object object = Open(env, info[0], nullptr);
  Napi::Array result = Napi::Array::New(env);
  struct bpf_map* map;
  bpf_object__for_each_map(map, object.get()) {
    if (IsInternal(map)) continue;
    Napi::Object shape = Napi::Object::New(env);
    shape.Set("name", bpf_map__name(map));
    shape.Set("type", static_cast<uint32_t>(bpf_map__type(map)));
    shape.Set("keySize", bpf_map__key_size(map));
    shape.Set("valueSize", bpf_map__value_size(map));
    shape.Set("maxEntries", bpf_map__max_entries(map));
    result.Set(result.Length(), shape);
  }
  return result;
}

Napi::Value ObjectConstants(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::vector<uint8_t> values = Constants(env, Open(env, info[0], nullptr), info[1].As<Napi::Object>());
  return Napi::Buffer<uint8_t>::Copy(env, values.data(), values.size());
}

/// (elf, {name, constants?, maps}): creates the maps that `maps` lacks, and loads the programs if there are constants.
Napi::Value LoadObject(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options = info[1].As<Napi::Object>();
  std::string name = options.Get("name").ToString();
  bool withPrograms = options.Get("constants").IsObject();
  Napi::Object shared = options.Get("maps").As<Napi::Object>();
  Object object = Open(env, info[0], name.c_str());
  if (withPrograms) {
    std::vector<uint8_t> values = Constants(env, object, options.Get("constants").As<Napi::Object>());
    if (int error = bpf_map__set_initial_value(ConstantsOf(object), values.data(), values.size()))
      Throw(env, -error, "set constants of " + name);
  }
  struct bpf_map* map;
  bpf_object__for_each_map(map, object.get()) {
    if (IsInternal(map) || !shared.Has(bpf_map__name(map))) continue;
    int fd = DescriptorOf(shared.Get(bpf_map__name(map)));
    if (int error = bpf_map__reuse_fd(map, fd)) Throw(env, -error, std::string("use map ") + bpf_map__name(map));
  }
  struct bpf_program* program;
  bpf_object__for_each_program(program, object.get()) bpf_program__set_autoload(program, withPrograms);
  if (int error = bpf_object__load(object.get())) Throw(env, -error, "load object " + name);

  Napi::Object maps = Napi::Object::New(env);
  bpf_object__for_each_map(map, object.get()) {
    const char* key = bpf_map__name(map);
    if (!IsInternal(map)) maps.Set(key, shared.Has(key) ? shared.Get(key) : Duplicate(env, bpf_map__fd(map)));
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("maps", maps);
  if (withPrograms) {
    bpf_object__for_each_program(program, object.get())
        result.Set("program", Duplicate(env, bpf_program__fd(program)));
  }
  return result;
}

}  // namespace

void RegisterBpfObject(Napi::Env env, Napi::Object exports) {
  exports.Set("bpfObjectMaps", Napi::Function::New(env, ObjectMaps, "bpfObjectMaps"));
  exports.Set("bpfObjectConstants", Napi::Function::New(env, ObjectConstants, "bpfObjectConstants"));
  exports.Set("loadBpfObject", Napi::Function::New(env, LoadObject, "loadBpfObject"));
}

}  // namespace mesh
