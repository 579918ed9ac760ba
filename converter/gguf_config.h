// The metadata of a GGUF file as a ModelConfig.
#ifndef SDQ_CONVERTER_GGUF_CONFIG_H_
#define SDQ_CONVERTER_GGUF_CONFIG_H_

#include <span>

#include "converter/gguf_file.h"
#include "format/status.h"
#include "runtime/config.h"

namespace sdq::converter {

// Architecture "llama". The vocabulary's size is that of the tensor token_embd.weight, the head is
// tied where there is no output.weight, and the tensor rope_freqs.weight, if there is one, becomes
// the rotary scaling that it is made from. The result is valid (ModelConfig::Validate). kNotFound
// for keys without a default, kCorrupt for wrong types and contradictions, kUnsupported for other
// architectures, experts, sliding windows, split files and rotary scalings that the runtime does
// not implement.
Result<ModelConfig> GgufConfig(const GgufContents& contents);

// Sets the rotary scaling of `config` (theta and head_dim are set) from what every frequency is
// divided by: none, linear, or that of LLaMA 3.1 with its factors 1 and 4 for low and high
// frequencies. kUnsupported for any other divisors.
Status RopeScalingFromDivisors(std::span<const float> divisors, ModelConfig* config);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_GGUF_CONFIG_H_
