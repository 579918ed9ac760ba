// Any text as config.json and generation_config.json: a valid config or an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "converter/hf_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sdq::converter;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto parsed = ParseHfConfig(text, "config.json");
  if (!parsed.ok()) return 0;
  if (!parsed->model.Validate().ok()) __builtin_trap();
  // A valid config has a list of tensors whose sizes fit.
  for (const sdq::TensorShape& shape : sdq::ExpectedTensors(parsed->model)) {
    if (shape.rows < 1 || shape.columns < 1) __builtin_trap();
  }
  const sdq::Status merged = MergeGenerationConfig(text, "generation_config.json", &*parsed);
  if (merged.ok() && !parsed->model.Validate().ok()) __builtin_trap();
  return 0;
}
