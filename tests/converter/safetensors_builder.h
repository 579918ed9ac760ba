// Makes safetensors files, good and bad, for tests.
#ifndef SDQ_TESTS_CONVERTER_SAFETENSORS_BUILDER_H_
#define SDQ_TESTS_CONVERTER_SAFETENSORS_BUILDER_H_

#include <bit>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "format/tensor.h"

namespace sdq::test {

// Length, header text, data.
inline std::vector<uint8_t> SafetensorsBytes(std::string_view header,
                                             const std::vector<uint8_t>& data) {
  std::vector<uint8_t> bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(uint8_t(uint64_t(header.size()) >> (8 * i)));
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

class SafetensorsBuilder {
 public:
  void Add(const std::string& name, const std::vector<int64_t>& shape,
           const std::vector<float>& values, const std::string& dtype = "F32") {
    const size_t begin = data_.size();
    for (const float value : values) {
      if (dtype == "F32") {
        Append(std::bit_cast<uint32_t>(value), 4);
      } else {
        Append(dtype == "F16" ? format::F32ToF16(value) : format::F32ToBF16(value), 2);
      }
    }
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }
  std::vector<uint8_t> Bytes() const { return SafetensorsBytes(header_.dump(), data_); }

 private:
  void Append(uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) data_.push_back(uint8_t(value >> (8 * i)));
  }

  nlohmann::json header_ = nlohmann::json::object();
  std::vector<uint8_t> data_;
};

}  // namespace sdq::test

#endif  // SDQ_TESTS_CONVERTER_SAFETENSORS_BUILDER_H_
