// Any bytes as a GGUF file: errors, never a crash; what parses can be read, as tensors, as a config
// and as a tokenizer.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "converter/gguf_config.h"
#include "converter/gguf_file.h"
#include "converter/gguf_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sdq::converter;
  const auto parsed = ParseGguf({data, size}, "fuzz.gguf");
  if (!parsed.ok()) return 0;
  std::vector<float> values;
  for (const auto& [name, tensor] : parsed->tensors) {
    const bool read = ReadGgufTensor(tensor, &values).ok();
    // The densest type stores two weights per byte.
    if (read && values.size() > 2 * size) __builtin_trap();
  }
  const auto config = GgufConfig(*parsed);
  if (config.ok() && !config->Validate().ok()) __builtin_trap();
  const auto spec = GgufTokenizer(parsed->metadata, 1 << 20);
  if (spec.ok() && !spec->Validate().ok()) __builtin_trap();
  return 0;
}
