#include "bpf.h"

#include <linux/bpf.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "addon.h"
#include "errors.h"

namespace mesh {
namespace {

constexpr uint32_t kMapsOfProgram = 64;

/// Every descriptor returned by bpf(2) is close-on-exec (O_CLOEXEC in kernel/bpf/syscall.c).
int Bpf(int command, union bpf_attr* attr) {
  int result;
  do result = static_cast<int>(syscall(SYS_bpf, command, attr, sizeof *attr));
  while (result < 0 && errno == EINTR);
  return result;
}

union bpf_attr Attributes() {
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  return attr;
}

uint64_t Pointer(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

struct bpf_map_info MapInfoOf(Napi::Env env, int fd) {
  struct bpf_map_info info {};
  union bpf_attr attr = Attributes();
  attr.info.bpf_fd = static_cast<uint32_t>(fd);
  attr.info.info_len = sizeof info;
  attr.info.info = Pointer(&info);
  if (Bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) != 0) throw SystemError(env, errno, "bpf", "map info");
  return info;
}

/// ENOENT is a result, not a failure: there is no such entry or id.
bool Absent(int result) { return result < 0 && errno == ENOENT; }

template <int kCommand>
Napi::Value OpenById(const Napi::CallbackInfo& info) {
  union bpf_attr attr = Attributes();
  attr.map_id = info[0].ToNumber().Uint32Value();
  UniqueFd fd(Bpf(kCommand, &attr));
  if (Absent(fd.get())) return info.Env().Undefined();
  if (fd.get() < 0) throw SystemError(info.Env(), errno, "bpf", "open number " + std::to_string(attr.map_id));
  return BpfHandle::Wrap(info.Env(), std::move(fd));
}

Napi::Value ProgramInfo(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint32_t maps[kMapsOfProgram] = {};
  struct bpf_prog_info program {};
  program.nr_map_ids = kMapsOfProgram;
  program.map_ids = Pointer(maps);
  union bpf_attr attr = Attributes();
  attr.info.bpf_fd = static_cast<uint32_t>(DescriptorOf(info[0]));
  attr.info.info_len = sizeof program;
  attr.info.info = Pointer(&program);
  if (Bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) != 0) throw SystemError(env, errno, "bpf", "program info");
  static const char* digits = "0123456789abcdef";
  std::string tag;
  for (uint8_t byte : program.tag) tag += {digits[byte >> 4], digits[byte & 15]};
  Napi::Array ids = Napi::Array::New(env);
  for (uint32_t index = 0; index < std::min(program.nr_map_ids, kMapsOfProgram); index++)
    ids.Set(index, Napi::Number::New(env, maps[index]));
  Napi::Object result = Napi::Object::New(env);
  result.Set("id", Napi::Number::New(env, program.id));
  result.Set("name", Napi::String::New(env, program.name, strnlen(program.name, sizeof program.name)));
  result.Set("tag", Napi::String::New(env, tag));
  result.Set("mapIds", ids);
  return result;
}

Napi::Value MapInfo(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  struct bpf_map_info map = MapInfoOf(env, DescriptorOf(info[0]));
  Napi::Object result = Napi::Object::New(env);
  result.Set("id", Napi::Number::New(env, map.id));
  result.Set("name", Napi::String::New(env, map.name, strnlen(map.name, sizeof map.name)));
  result.Set("type", Napi::Number::New(env, map.type));
  result.Set("keySize", Napi::Number::New(env, map.key_size));
  result.Set("valueSize", Napi::Number::New(env, map.value_size));
  result.Set("maxEntries", Napi::Number::New(env, map.max_entries));
  return result;
}

/// Sizes must match the map; the kernel would access memory beyond shorter buffers.
void CheckSize(Napi::Env env, const Napi::Uint8Array& bytes, uint32_t size, const char* what) {
  if (bytes.ByteLength() != size)
    throw Napi::RangeError::New(env, std::string(what) + " of this map has " + std::to_string(size) + " bytes");
}

Napi::Value LookUp(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = DescriptorOf(info[0]);
  struct bpf_map_info map = MapInfoOf(env, fd);
  Napi::Uint8Array key = Bytes(info[1]);
  CheckSize(env, key, map.key_size, "a key");
  Napi::Buffer<uint8_t> value = Napi::Buffer<uint8_t>::New(env, map.value_size);
  union bpf_attr attr = Attributes();
  attr.map_fd = static_cast<uint32_t>(fd);
  attr.key = Pointer(key.Data());
  attr.value = Pointer(value.Data());
  int result = Bpf(BPF_MAP_LOOKUP_ELEM, &attr);
  if (Absent(result)) return env.Undefined();
  if (result != 0) throw SystemError(env, errno, "bpf", "look up in map");
  return value;
}

Napi::Value Update(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = DescriptorOf(info[0]);
  struct bpf_map_info map = MapInfoOf(env, fd);
  Napi::Uint8Array key = Bytes(info[1]);
  Napi::Uint8Array value = Bytes(info[2]);
  CheckSize(env, key, map.key_size, "a key");
  CheckSize(env, value, map.value_size, "a value");
  union bpf_attr attr = Attributes();
  attr.map_fd = static_cast<uint32_t>(fd);
  attr.key = Pointer(key.Data());
  attr.value = Pointer(value.Data());
  attr.flags = BPF_ANY;
  if (Bpf(BPF_MAP_UPDATE_ELEM, &attr) != 0) throw SystemError(env, errno, "bpf", "update map");
  return env.Undefined();
}

Napi::Value Delete(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = DescriptorOf(info[0]);
  Napi::Uint8Array key = Bytes(info[1]);
  CheckSize(env, key, MapInfoOf(env, fd).key_size, "a key");
  union bpf_attr attr = Attributes();
  attr.map_fd = static_cast<uint32_t>(fd);
  attr.key = Pointer(key.Data());
  int result = Bpf(BPF_MAP_DELETE_ELEM, &attr);
  if (result != 0 && !Absent(result)) throw SystemError(env, errno, "bpf", "delete from map");
  return Napi::Boolean::New(env, result == 0);
}

/// All entries, many per call (BPF_MAP_LOOKUP_BATCH, 5.6); `keys` and
/// `values` are concatenated.
Napi::Value Entries(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = DescriptorOf(info[0]);
  struct bpf_map_info map = MapInfoOf(env, fd);
  std::vector<uint8_t> keys(size_t{map.max_entries} * map.key_size);
  std::vector<uint8_t> values(size_t{map.max_entries} * map.value_size);
  // Position at which the kernel continues: a key in arrays, a number in hashes.
  std::vector<uint8_t> place(std::max<size_t>(map.key_size, sizeof(uint32_t)));
  uint32_t count = 0;
  for (bool first = true, more = true; more && count < map.max_entries; first = false) {
    union bpf_attr attr = Attributes();
    attr.batch.map_fd = static_cast<uint32_t>(fd);
    attr.batch.in_batch = first ? 0 : Pointer(place.data());
    attr.batch.out_batch = Pointer(place.data());
    attr.batch.keys = Pointer(keys.data() + size_t{count} * map.key_size);
    attr.batch.values = Pointer(values.data() + size_t{count} * map.value_size);
    attr.batch.count = map.max_entries - count;
    int result = Bpf(BPF_MAP_LOOKUP_BATCH, &attr);
    if (result != 0 && errno != ENOENT) throw SystemError(env, errno, "bpf", "list map");
    count += attr.batch.count;
    more = result == 0;
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("count", Napi::Number::New(env, count));
  result.Set("keys", Napi::Buffer<uint8_t>::Copy(env, keys.data(), size_t{count} * map.key_size));
  result.Set("values", Napi::Buffer<uint8_t>::Copy(env, values.data(), size_t{count} * map.value_size));
  return result;
}

/// BPF_PROG_TEST_RUN: one packet, with or without a struct __sk_buff.
Napi::Value TestProgram(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Uint8Array packet = Bytes(info[1]);
  std::vector<uint8_t> out(packet.ByteLength() + 256);
  struct __sk_buff context {};
  context.mark = info[2].ToNumber().Uint32Value();
  union bpf_attr attr = Attributes();
  attr.test.prog_fd = static_cast<uint32_t>(DescriptorOf(info[0]));
  attr.test.data_in = Pointer(packet.Data());
  attr.test.data_size_in = static_cast<uint32_t>(packet.ByteLength());
  attr.test.data_out = Pointer(out.data());
  attr.test.data_size_out = static_cast<uint32_t>(out.size());
  attr.test.ctx_in = attr.test.ctx_out = Pointer(&context);
  attr.test.ctx_size_in = attr.test.ctx_size_out = sizeof context;
  attr.test.repeat = 1;
  if (Bpf(BPF_PROG_TEST_RUN, &attr) != 0) throw SystemError(env, errno, "bpf", "test program");
  Napi::Object result = Napi::Object::New(env);
  result.Set("action", Napi::Number::New(env, static_cast<int32_t>(attr.test.retval)));
  result.Set("mark", Napi::Number::New(env, context.mark));
  result.Set("packet", Napi::Buffer<uint8_t>::Copy(env, out.data(), attr.test.data_size_out));
  return result;
}

}  // namespace

int DescriptorOf(Napi::Value value) {
  Napi::Env env = value.Env();
  Napi::Function constructor = env.GetInstanceData<AddonData>()->bpfHandle.Value();
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(constructor))
    throw Napi::TypeError::New(env, "expected a BPF map or program");
  return BpfHandle::Unwrap(value.As<Napi::Object>())->Descriptor();
}

Napi::Uint8Array Bytes(Napi::Value value) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw Napi::TypeError::New(value.Env(), "expected bytes");
  return value.As<Napi::Uint8Array>();
}

void BpfHandle::Register(Napi::Env env, Napi::Object) {
  Napi::Function constructor = DefineClass(
      env, "BpfHandle", {InstanceMethod("close", &BpfHandle::Close), InstanceAccessor<&BpfHandle::Fd>("fd")});
  env.GetInstanceData<AddonData>()->bpfHandle = Napi::Persistent(constructor);
}

Napi::Value BpfHandle::Wrap(Napi::Env env, UniqueFd fd) {
  Napi::Object object = env.GetInstanceData<AddonData>()->bpfHandle.New({});
  BpfHandle::Unwrap(object)->fd_ = std::move(fd);
  return object;
}

BpfHandle::BpfHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<BpfHandle>(info) {}

int BpfHandle::Descriptor() {
  if (fd_.get() < 0) throw SystemError(Env(), EBADF, "bpf", "closed");
  return fd_.get();
}

Napi::Value BpfHandle::Fd(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), Descriptor()); }

Napi::Value BpfHandle::Close(const Napi::CallbackInfo& info) {
  fd_ = UniqueFd();
  return info.Env().Undefined();
}

void RegisterBpf(Napi::Env env, Napi::Object exports) {
  BpfHandle::Register(env, exports);
  exports.Set("bpfProgramById", Napi::Function::New(env, OpenById<BPF_PROG_GET_FD_BY_ID>, "bpfProgramById"));
  exports.Set("bpfMapById", Napi::Function::New(env, OpenById<BPF_MAP_GET_FD_BY_ID>, "bpfMapById"));
  exports.Set("bpfProgramInfo", Napi::Function::New(env, ProgramInfo, "bpfProgramInfo"));
  exports.Set("bpfMapInfo", Napi::Function::New(env, MapInfo, "bpfMapInfo"));
  exports.Set("lookUpBpfMap", Napi::Function::New(env, LookUp, "lookUpBpfMap"));
  exports.Set("updateBpfMap", Napi::Function::New(env, Update, "updateBpfMap"));
  exports.Set("deleteFromBpfMap", Napi::Function::New(env, Delete, "deleteFromBpfMap"));
  exports.Set("bpfMapEntries", Napi::Function::New(env, Entries, "bpfMapEntries"));
  exports.Set("testBpfProgram", Napi::Function::New(env, TestProgram, "testBpfProgram"));
}

}  // namespace mesh
