// The key-value pairs at the head of a GGUF file.
#ifndef SDQ_CONVERTER_GGUF_METADATA_H_
#define SDQ_CONVERTER_GGUF_METADATA_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/status.h"

namespace sdq::converter {

// As files number them.
enum class GgufValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Bytes of a value of a fixed size; 0 for strings and arrays.
size_t GgufValueBytes(GgufValueType type);
const char* GgufValueTypeName(GgufValueType type);

// A scalar, or an array of scalars (arrays of arrays are refused by the parser).
struct GgufValue {
  GgufValueType type = GgufValueType::kUint8;  // of the elements
  bool is_array = false;
  uint64_t count = 1;
  std::span<const uint8_t> bytes;         // fixed size: `count` values, little endian
  std::vector<std::string_view> strings;  // strings: `count` of them
};

// What a file says about the model; views into the file. Every Get is kNotFound for an absent key
// and kCorrupt, with the key and both types, for a value of another type (integers of any width
// are integers, floats of either width reals; an integer is no real).
class GgufMetadata {
 public:
  explicit GgufMetadata(std::string name = "") : name_(std::move(name)) {}

  // kCorrupt if the key is there already.
  Status Add(std::string_view key, GgufValue value);

  bool Has(std::string_view key) const { return values_.contains(key); }
  size_t size() const { return values_.size(); }
  const std::string& name() const { return name_; }  // of the file, for messages

  Status Get(std::string_view key, int64_t* out) const;
  Status Get(std::string_view key, double* out) const;
  Status Get(std::string_view key, bool* out) const;
  Status Get(std::string_view key, std::string* out) const;
  Status Get(std::string_view key, std::vector<int64_t>* out) const;
  Status Get(std::string_view key, std::vector<float>* out) const;
  Status Get(std::string_view key, std::vector<std::string_view>* out) const;

  // Leaves *out as it is if there is no such key.
  template <typename T>
  Status GetIfPresent(std::string_view key, T* out) const {
    return Has(key) ? Get(key, out) : Status::Ok();
  }

 private:
  Result<const GgufValue*> Find(std::string_view key, bool array) const;
  Status WrongType(std::string_view key, const GgufValue& value, const char* expected) const;

  std::string name_;
  std::map<std::string, GgufValue, std::less<>> values_;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_GGUF_METADATA_H_
