// config.json and generation_config.json of a Hugging Face checkpoint, as a ModelConfig.
//
// Defaults for absent keys are those of the transformers library's LlamaConfig, MistralConfig and
// OPTConfig. What would change the model and is not implemented is refused, never ignored.
#ifndef SDQ_CONVERTER_HF_CONFIG_H_
#define SDQ_CONVERTER_HF_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "format/status.h"
#include "runtime/config.h"

namespace sdq::converter {

// Sampling defaults that the model's authors recommend.
struct GenerationDefaults {
  std::optional<double> temperature;  // >= 0
  std::optional<int64_t> top_k;       // >= 0
  std::optional<double> top_p;        // 0..1
};

struct HfConfig {
  ModelConfig model;
  std::string model_type;       // "llama", "mistral", "opt"
  bool attention_bias = false;  // q, k, v and o have biases
  bool ffn_bias = false;        // gate, up and down (fc1, fc2) have biases
  // false: LayerNorms without weight and bias (OPT: layer_norm_elementwise_affine).
  bool norm_affine = true;
  GenerationDefaults generation;
};

// The result's model is valid (ModelConfig::Validate). `name` is for messages. kCorrupt for wrong
// types and impossible values, kUnsupported (with a list of what is supported) for model types,
// activations, rotary scalings and attention variants that the runtime does not implement.
Result<HfConfig> ParseHfConfig(std::string_view json, const std::string& name);

// generation_config.json: sampling defaults; its eos_token_id (one or a list) replaces that of
// config.json, as it does for the reference implementation; its bos_token_id counts if config.json
// gives none.
Status MergeGenerationConfig(std::string_view json, const std::string& name, HfConfig* config);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_HF_CONFIG_H_
