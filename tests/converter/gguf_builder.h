// Makes GGUF files, good and bad, for tests.
#ifndef SDQ_TESTS_CONVERTER_GGUF_BUILDER_H_
#define SDQ_TESTS_CONVERTER_GGUF_BUILDER_H_

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "converter/gguf_metadata.h"

namespace sdq::test {

// Bytes, little endian.
class GgufBytes {
 public:
  template <typename T>
  GgufBytes& Number(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(uint8_t(uint64_t(value) >> (8 * i)));
    return *this;
  }
  GgufBytes& Text(std::string_view text) {
    Number(uint64_t(text.size()));
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    return *this;
  }
  GgufBytes& Append(const std::vector<uint8_t>& more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
    return *this;
  }
  void PadTo(size_t alignment) {
    while (bytes_.size() % alignment != 0) bytes_.push_back(0);
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

struct GgufTestTensor {
  std::string name;
  std::vector<uint64_t> dimensions;  // fastest first
  uint32_t type = 0;
  uint64_t offset = 0;
  std::vector<uint8_t> bytes;
};

// A file that a test can spoil before it is made.
class GgufBuilder {
 public:
  using Type = converter::GgufValueType;

  uint32_t version = 3;
  uint64_t extra_tensors = 0;  // added to the counts that the header states
  uint64_t extra_keys = 0;
  size_t alignment = 32;
  std::vector<std::pair<std::string, std::vector<uint8_t>>> keys;  // type and value, as in the file
  std::vector<GgufTestTensor> tensors;

  template <typename T>
  void Set(std::string_view key, Type type, T value) {
    Put(key, GgufBytes().Number(uint32_t(type)).Number(value));
  }
  void SetInt(std::string_view key, uint32_t value) { Set(key, Type::kUint32, value); }
  void SetReal(std::string_view key, float value) {
    Set(key, Type::kFloat32, std::bit_cast<uint32_t>(value));
  }
  void SetBool(std::string_view key, bool value) { Set(key, Type::kBool, uint8_t(value)); }
  void SetText(std::string_view key, std::string_view value) {
    Put(key, GgufBytes().Number(uint32_t(Type::kString)).Text(value));
  }
  void SetTexts(std::string_view key, const std::vector<std::string>& values) {
    GgufBytes bytes = Array(Type::kString, values.size());
    for (const std::string& value : values) bytes.Text(value);
    Put(key, bytes);
  }
  template <typename T>
  void SetArray(std::string_view key, Type type, const std::vector<T>& values) {
    GgufBytes bytes = Array(type, values.size());
    for (const T value : values) bytes.Number(value);
    Put(key, bytes);
  }
  void SetReals(std::string_view key, const std::vector<float>& values) {
    GgufBytes bytes = Array(Type::kFloat32, values.size());
    for (const float value : values) bytes.Number(std::bit_cast<uint32_t>(value));
    Put(key, bytes);
  }
  static GgufBytes Array(Type type, uint64_t count) {
    return GgufBytes().Number(uint32_t(Type::kArray)).Number(uint32_t(type)).Number(count);
  }
  // Replaces an earlier value.
  void Put(std::string_view key, const GgufBytes& value) {
    Remove(key);
    keys.emplace_back(key, value.bytes());
  }
  void Remove(std::string_view key) {
    std::erase_if(keys, [key](const auto& entry) { return entry.first == key; });
  }

  // An f32 tensor behind all others.
  void AddF32(const std::string& name, const std::vector<uint64_t>& dimensions,
              const std::vector<float>& values) {
    GgufBytes bytes;
    for (const float value : values) bytes.Number(std::bit_cast<uint32_t>(value));
    uint64_t offset = 0;
    if (!tensors.empty()) offset = Aligned(tensors.back().offset + tensors.back().bytes.size());
    tensors.push_back({name, dimensions, 0, offset, bytes.bytes()});
  }

  std::vector<uint8_t> Bytes() const {
    GgufBytes file;
    file.Append({'G', 'G', 'U', 'F'}).Number(version);
    file.Number(tensors.size() + extra_tensors).Number(keys.size() + extra_keys);
    for (const auto& [key, value] : keys) file.Text(key).Append(value);
    for (const GgufTestTensor& tensor : tensors) {
      file.Text(tensor.name).Number(uint32_t(tensor.dimensions.size()));
      for (const uint64_t size : tensor.dimensions) file.Number(size);
      file.Number(tensor.type).Number(tensor.offset);
    }
    for (const GgufTestTensor& tensor : tensors) {
      file.PadTo(alignment);
      file.Append(tensor.bytes);
    }
    return file.bytes();
  }

 private:
  uint64_t Aligned(uint64_t at) const { return (at + alignment - 1) / alignment * alignment; }
};

}  // namespace sdq::test

#endif  // SDQ_TESTS_CONVERTER_GGUF_BUILDER_H_
