#include "converter/gguf_metadata.h"

#include <fmt/format.h>

#include <bit>
#include <limits>

namespace sdq::converter {
namespace {

using Type = GgufValueType;

uint64_t Load(const uint8_t* p, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= uint64_t(p[i]) << (8 * i);
  return value;
}

bool IsInteger(Type type) {
  return GgufValueBytes(type) != 0 && type != Type::kFloat32 && type != Type::kFloat64 &&
         type != Type::kBool;
}

bool IsSigned(Type type) {
  return type == Type::kInt8 || type == Type::kInt16 || type == Type::kInt32 ||
         type == Type::kInt64;
}

// Sign-extended; uint64 beyond int64 become the largest int64, which every range check refuses.
int64_t LoadInteger(Type type, const uint8_t* p) {
  const size_t bytes = GgufValueBytes(type);
  const uint64_t raw = Load(p, bytes);
  if (!IsSigned(type)) {
    constexpr auto kMax = uint64_t(std::numeric_limits<int64_t>::max());
    return int64_t(raw < kMax ? raw : kMax);
  }
  const auto shift = int(64 - 8 * bytes);
  return std::bit_cast<int64_t>(raw << shift) >> shift;
}

}  // namespace

size_t GgufValueBytes(GgufValueType type) {
  switch (type) {
    case Type::kUint8:
    case Type::kInt8:
    case Type::kBool:
      return 1;
    case Type::kUint16:
    case Type::kInt16:
      return 2;
    case Type::kUint32:
    case Type::kInt32:
    case Type::kFloat32:
      return 4;
    case Type::kUint64:
    case Type::kInt64:
    case Type::kFloat64:
      return 8;
    case Type::kString:
    case Type::kArray:
      break;
  }
  return 0;
}

const char* GgufValueTypeName(GgufValueType type) {
  constexpr const char* kNames[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                    "int32",  "float32", "bool",   "string", "array",
                                    "uint64", "int64",   "float64"};
  return kNames[size_t(type)];
}

Status GgufMetadata::Add(std::string_view key, GgufValue value) {
  if (values_.emplace(std::string(key), std::move(value)).second) return Status::Ok();
  return Status::Corrupt(fmt::format("{}: two values of '{}'", name_, key));
}

Status GgufMetadata::WrongType(std::string_view key, const GgufValue& value,
                               const char* expected) const {
  return Status::Corrupt(fmt::format("{}: '{}' is {}{}, expected {}", name_, key,
                                     value.is_array ? "an array of " : "",
                                     GgufValueTypeName(value.type), expected));
}

Result<const GgufValue*> GgufMetadata::Find(std::string_view key, bool array) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return Status::NotFound(fmt::format("{}: no '{}'", name_, key));
  if (found->second.is_array == array) return &found->second;
  return WrongType(key, found->second, array ? "an array" : "a single value");
}

Status GgufMetadata::Get(std::string_view key, int64_t* out) const {
  SDQ_ASSIGN_OR_RETURN(const GgufValue* value, Find(key, false));
  if (!IsInteger(value->type)) return WrongType(key, *value, "an integer");
  *out = LoadInteger(value->type, value->bytes.data());
  return Status::Ok();
}

Status GgufMetadata::Get(std::string_view key, double* out) const {
  SDQ_ASSIGN_OR_RETURN(const GgufValue* value, Find(key, false));
  if (value->type == Type::kFloat32) {
    *out = double(std::bit_cast<float>(uint32_t(Load(value->bytes.data(), 4))));
  } else if (value->type == Type::kFloat64) {
    *out = std::bit_cast<double>(Load(value->bytes.data(), 8));
  } else {
    return WrongType(key, *value, "a real number");
  }
  return Status::Ok();
}

Status GgufMetadata::Get(std::string_view key, bool* out) const {
  SDQ_ASSIGN_OR_RETURN(const GgufValue* value, Find(key, false));
  if (value->type != Type::kBool) return WrongType(key, *value, "true or false");
  *out = value->bytes.front() != 0;
  return Status::Ok();
}

Status GgufMetadata::Get(std::string_view key, std::string* out) const {
  SDQ_ASSIGN_OR_RETURN(const GgufValue* value, Find(key, false));
  if (value->type != Type::kString) return WrongType(key, *value, "a string");
  *out = value->strings.front();
  return Status::Ok();
}

Status GgufMetadata::Get(std::string_view key, std::vector<int64_t>* out) const {
  SDQ_ASSIGN_OR_RETURN(const GgufValue* value, Find(key, true));
  if (!IsInteger(value->type)) return WrongType(key, *value, "an array of integers");
  const size_t width = GgufValueBytes(value->type);
  out->clear();
  for (size_t i = 0; i < value->count; ++i) {
    out->push_back(LoadInteger(value->type, value->bytes.data() + i * width));
  }
  return Status::Ok();
}

Status GgufMetadata::Get(std::string_view key, std::vector<float>* out) const {
  SDQ_ASSIGN_OR_RETURN(const GgufValue* value, Find(key, true));
  if (value->type != Type::kFloat32) return WrongType(key, *value, "an array of float32");
  out->clear();
  for (size_t i = 0; i < value->count; ++i) {
    out->push_back(std::bit_cast<float>(uint32_t(Load(value->bytes.data() + 4 * i, 4))));
  }
  return Status::Ok();
}

Status GgufMetadata::Get(std::string_view key, std::vector<std::string_view>* out) const {
  SDQ_ASSIGN_OR_RETURN(const GgufValue* value, Find(key, true));
  if (value->type != Type::kString) return WrongType(key, *value, "an array of strings");
  *out = value->strings;
  return Status::Ok();
}

}  // namespace sdq::converter
