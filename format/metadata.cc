#include "format/metadata.h"

#include <fmt/format.h>

#include <limits>
#include <type_traits>

#include "format/byte_codec.h"
#include "format/layout.h"
#include "format/utf8.h"

namespace sdq::format {
namespace {

constexpr const char* kTypeNames[] = {"bool",    "int",     "double", "string", "ints",
                                      "doubles", "strings", "floats", "uints"};
static_assert(std::size(kTypeNames) == std::variant_size_v<Metadata::Value>);

template <typename T, typename... Alternatives>
constexpr size_t IndexIn(const std::variant<Alternatives...>*) {
  size_t index = 0;
  (void)((std::is_same_v<T, Alternatives> ? false : (++index, true)) && ...);
  return index;
}

template <typename T>
Result<const T*> Typed(const Metadata& metadata, std::string_view key) {
  const Metadata::Value* value = metadata.Find(key);
  if (value == nullptr) return Status::NotFound(fmt::format("metadata key '{}' is missing", key));
  if (const T* typed = std::get_if<T>(value)) return typed;
  return Status::Corrupt(
      fmt::format("metadata key '{}' is of type {}, expected {}", key, kTypeNames[value->index()],
                  kTypeNames[IndexIn<T>(static_cast<Metadata::Value*>(nullptr))]));
}

template <typename T>
Result<T> Copied(const Metadata& metadata, std::string_view key) {
  SDQ_ASSIGN_OR_RETURN(const T* value, Typed<T>(metadata, key));
  return T(*value);
}

template <typename T>
Result<T> CopiedOr(const Metadata& metadata, std::string_view key, T fallback) {
  if (!metadata.Has(key)) return fallback;
  return Copied<T>(metadata, key);
}

Status CheckKey(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes) {
    return Status::InvalidArgument(
        fmt::format("a metadata key has {} bytes, allowed are 1 to {}", key.size(), kMaxKeyBytes));
  }
  if (!IsUtf8(key) || key.find('\0') != std::string_view::npos) {
    return Status::InvalidArgument("a metadata key is not UTF-8 text");
  }
  return Status::Ok();
}

struct Encoder {
  ByteSink* sink;

  void operator()(bool value) const { sink->Append(static_cast<uint8_t>(value)); }
  void operator()(int64_t value) const { sink->Append(value); }
  void operator()(double value) const { sink->Append(value); }
  void operator()(const std::string& value) const {
    sink->Append(uint64_t{value.size()});
    sink->AppendText(value);
  }
  void operator()(const std::vector<std::string>& values) const {
    sink->Append(uint64_t{values.size()});
    for (const std::string& value : values) {
      sink->Append(static_cast<uint32_t>(value.size()));
      sink->AppendText(value);
    }
  }
  template <typename T>
  void operator()(const std::vector<T>& values) const {
    sink->Append(uint64_t{values.size()});
    for (const T value : values) sink->Append(value);
  }
};

// Decodes one value of a known type at the cursor; false if the bytes do not hold one.
struct Decoder {
  ByteCursor* cursor;

  bool operator()(bool* value) const {
    uint8_t byte = 0;
    if (!cursor->Read(&byte) || byte > 1) return false;
    *value = byte == 1;
    return true;
  }
  bool operator()(int64_t* value) const { return cursor->Read(value); }
  bool operator()(double* value) const { return cursor->Read(value); }
  bool operator()(std::string* value) const {
    uint64_t size = 0;
    std::string_view text;
    if (!cursor->Read(&size) || !cursor->ReadText(size, &text)) return false;
    value->assign(text);
    return true;
  }
  bool operator()(std::vector<std::string>* values) const {
    uint64_t count = 0;
    if (!ReadCount(sizeof(uint32_t), &count)) return false;
    values->reserve(size_t(count));
    for (uint64_t i = 0; i < count; ++i) {
      uint32_t size = 0;
      std::string_view text;
      if (!cursor->Read(&size) || !cursor->ReadText(size, &text)) return false;
      values->emplace_back(text);
    }
    return true;
  }
  template <typename T>
  bool operator()(std::vector<T>* values) const {
    uint64_t count = 0;
    if (!ReadCount(sizeof(T), &count)) return false;
    values->resize(size_t(count));
    for (T& value : *values) {
      if (!cursor->Read(&value)) return false;
    }
    return true;
  }

 private:
  // An element count, bounded by the bytes that remain, so that it is safe to allocate for.
  bool ReadCount(size_t least_element_bytes, uint64_t* count) const {
    return cursor->Read(count) && *count <= cursor->remaining() / least_element_bytes;
  }
};

template <size_t kIndex = 0>
bool DecodeValue(uint32_t type, const Decoder& decoder, Metadata::Value* value) {
  if constexpr (kIndex < std::variant_size_v<Metadata::Value>) {
    if (type != kIndex + 1) return DecodeValue<kIndex + 1>(type, decoder, value);
    return decoder(&value->emplace<kIndex>());
  } else {
    return false;
  }
}

}  // namespace

const Metadata::Value* Metadata::Find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

Result<bool> Metadata::GetBool(std::string_view key) const { return Copied<bool>(*this, key); }
Result<int64_t> Metadata::GetInt(std::string_view key) const { return Copied<int64_t>(*this, key); }
Result<double> Metadata::GetDouble(std::string_view key) const {
  return Copied<double>(*this, key);
}
Result<std::string> Metadata::GetString(std::string_view key) const {
  return Copied<std::string>(*this, key);
}
Result<const std::vector<std::string>*> Metadata::GetStrings(std::string_view key) const {
  return Typed<std::vector<std::string>>(*this, key);
}
Result<const std::vector<float>*> Metadata::GetFloats(std::string_view key) const {
  return Typed<std::vector<float>>(*this, key);
}
Result<const std::vector<uint32_t>*> Metadata::GetUints(std::string_view key) const {
  return Typed<std::vector<uint32_t>>(*this, key);
}
Result<const std::vector<int64_t>*> Metadata::GetInts(std::string_view key) const {
  return Typed<std::vector<int64_t>>(*this, key);
}
Result<const std::vector<double>*> Metadata::GetDoubles(std::string_view key) const {
  return Typed<std::vector<double>>(*this, key);
}
Result<bool> Metadata::GetBoolOr(std::string_view key, bool fallback) const {
  return CopiedOr<bool>(*this, key, fallback);
}
Result<int64_t> Metadata::GetIntOr(std::string_view key, int64_t fallback) const {
  return CopiedOr<int64_t>(*this, key, fallback);
}
Result<double> Metadata::GetDoubleOr(std::string_view key, double fallback) const {
  return CopiedOr<double>(*this, key, fallback);
}
Result<std::string> Metadata::GetStringOr(std::string_view key, std::string fallback) const {
  return CopiedOr<std::string>(*this, key, std::move(fallback));
}

Status Metadata::Validate() const {
  if (values_.size() > std::numeric_limits<uint32_t>::max()) {
    return Status::InvalidArgument("too many metadata entries");
  }
  for (const auto& [key, value] : values_) {
    SDQ_RETURN_IF_ERROR(CheckKey(key));
    const auto* strings = std::get_if<std::vector<std::string>>(&value);
    if (strings == nullptr) continue;
    for (const std::string& text : *strings) {
      if (text.size() > std::numeric_limits<uint32_t>::max()) {
        return Status::InvalidArgument(fmt::format("metadata key '{}': element too long", key));
      }
    }
  }
  return Status::Ok();
}

std::vector<uint8_t> Metadata::Encode() const {
  ByteSink sink;
  sink.Append(static_cast<uint32_t>(values_.size()));
  for (const auto& [key, value] : values_) {
    sink.Append(static_cast<uint32_t>(key.size()));
    sink.AppendText(key);
    sink.Append(static_cast<uint32_t>(value.index() + 1));
    std::visit(Encoder{&sink}, value);
  }
  return std::move(sink).Take();
}

Result<Metadata> Metadata::Decode(std::span<const uint8_t> bytes) {
  ByteCursor cursor(bytes);
  uint32_t count = 0;
  if (!cursor.Read(&count)) return Status::Corrupt("metadata: cut short");
  Metadata metadata;
  std::string_view previous;
  for (uint32_t i = 0; i < count; ++i) {
    const size_t entry_at = cursor.offset();
    uint32_t key_bytes = 0;
    std::string_view key;
    uint32_t type = 0;
    if (!cursor.Read(&key_bytes) || !cursor.ReadText(key_bytes, &key) || !cursor.Read(&type)) {
      return Status::Corrupt(fmt::format("metadata entry {} of {} at byte {}: {} bytes remain", i,
                                         count, entry_at, bytes.size() - entry_at));
    }
    if (Status status = CheckKey(key); !status.ok()) {
      return Status::Corrupt(fmt::format("entry {}: {}", i, status.message()));
    }
    if (i > 0 && key <= previous) {
      return Status::Corrupt(fmt::format("metadata key '{}' is a duplicate or out of order", key));
    }
    previous = key;
    if (type < 1 || type > std::variant_size_v<Value>) {
      return Status::Unsupported(fmt::format("metadata key '{}': unknown type {}", key, type));
    }
    Value value;
    if (!DecodeValue(type, Decoder{&cursor}, &value)) {
      return Status::Corrupt(fmt::format(
          "metadata key '{}': the {} at byte {} is invalid or longer than the {} bytes that remain",
          key, kTypeNames[type - 1], cursor.offset(), cursor.remaining()));
    }
    metadata.values_.emplace_hint(metadata.values_.end(), key, std::move(value));
  }
  if (cursor.remaining() != 0) {
    return Status::Corrupt(
        fmt::format("metadata: {} bytes after the last entry", cursor.remaining()));
  }
  return metadata;
}

}  // namespace sdq::format
