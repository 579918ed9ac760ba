// Any bytes as a safetensors file, and as an index of shards: errors, never a crash; what parses
// can be read.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "converter/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sdq::converter;
  const auto parsed = ParseSafetensors({data, size}, "fuzz.safetensors");
  if (parsed.ok()) {
    std::vector<float> values;
    for (const SafetensorsEntry& entry : *parsed) {
      const bool read = ReadFloats(entry, &values).ok();
      // One byte at least stands behind every element of a tensor.
      if (read && values.size() > size) __builtin_trap();
    }
  }
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto index = ParseSafetensorsIndex(text, "fuzz.index.json");
  if (index.ok()) {
    for (const auto& [tensor, file] : *index) {
      if (file.find('/') != std::string::npos || file.starts_with("..")) __builtin_trap();
    }
  }
  return 0;
}
