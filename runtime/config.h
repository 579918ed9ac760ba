// What a model is: the numbers that the transformer's code is a function of.
//
// Stored as metadata of an .sdq file (FORMAT.md, "Model"): every field under the key
// "model.<field name>", integers as int64, eos_tokens as an int64 array, and the three enums as
// strings: model.architecture "llama" | "opt", model.activation "silu" | "relu" | "gelu",
// model.rope_scaling "none" | "linear" | "llama3". All fields are always present.
#ifndef SDQ_RUNTIME_CONFIG_H_
#define SDQ_RUNTIME_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "format/metadata.h"
#include "format/status.h"

namespace sdq {

// Caps beyond which a config is refused: they keep every product of sizes inside 64 bits.
inline constexpr int64_t kMaxModelDimension = int64_t{1} << 24;
inline constexpr int64_t kMaxModelLayers = 1024;
inline constexpr int64_t kMaxPositionOffset = 1024;
inline constexpr size_t kMaxEosTokens = 64;

enum class Architecture : int64_t { kLlama = 1, kOpt = 2 };
enum class Activation : int64_t { kSilu = 1, kRelu = 2, kGelu = 3 };
enum class RopeScaling : int64_t { kNone = 0, kLinear = 1, kLlama3 = 2 };

struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t embed_size = 0;  // word embedding width; != hidden_size only with projections (OPT)
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads
  int64_t head_dim = 0;  // q width = heads * head_dim, which may differ from hidden_size
  int64_t ffn_size = 0;
  int64_t max_positions = 0;  // longest context
  double norm_eps = 1e-5;
  bool tied_embeddings = false;  // the head is embed.tokens
  Activation activation = Activation::kSilu;
  // OPT
  bool pre_norm = true;  // false: norm after the residual sum (OPT-350M)
  bool final_norm = true;
  int64_t position_offset = 0;  // row of embed.positions for position 0 (OPT: 2)
  // LLaMA rotary embedding
  double rope_theta = 10000.0;
  RopeScaling rope_scaling = RopeScaling::kNone;
  double rope_factor = 1.0;             // linear and llama3
  double rope_low_freq_factor = 1.0;    // llama3
  double rope_high_freq_factor = 4.0;   // llama3
  int64_t rope_original_positions = 0;  // llama3
  // Special tokens; -1 = none. Generation stops at any of eos.
  int64_t bos_token = -1;
  std::vector<int64_t> eos_tokens;

  // Every product of fields used as a size fits, every divisor is > 0, ranges are sane, and the
  // combination is one that the transformer implements. Nothing else checks these fields.
  // kCorrupt with the field's name, its value and the range that was expected.
  Status Validate() const;
  void Store(format::Metadata* metadata) const;
  // Calls Validate(): a loaded config needs no further checks. kNotFound for an absent key,
  // kCorrupt for a wrong type or value, kUnsupported for an unknown enum string.
  static Result<ModelConfig> Load(const format::Metadata& metadata);

  bool operator==(const ModelConfig&) const = default;
};

// Canonical tensor names of an .sdq file. Linears carry their bias themselves.
//   embed.tokens [vocab][embed]        embed.positions [max_positions+offset][hidden]   (OPT)
//   embed.project_in [hidden][embed]   embed.project_out [embed][hidden]                (OPT)
//   layers.N.attn_norm.weight|bias     layers.N.attn.q|k|v|o
//   layers.N.ffn_norm.weight|bias      layers.N.ffn.gate|up|down   (OPT: up = fc1, down = fc2)
//   final_norm.weight|bias             head [vocab][embed]         (untied)
// Norm biases exist in OPT only and are optional there.
std::string LayerTensorName(int64_t layer, const char* part);  // "layers.<layer>.<part>"

struct TensorShape {
  std::string name;
  int64_t rows = 0;  // 1 for vectors
  int64_t columns = 0;
  bool is_linear = false;  // a layer's matrix, which the converter may quantize
  bool optional = false;   // e.g. norm biases
};
// All tensors that a model of this config has, in the order in which they are used. Biases of
// linears are not listed: they belong to the linear. `config` must be valid.
std::vector<TensorShape> ExpectedTensors(const ModelConfig& config);

}  // namespace sdq

#endif  // SDQ_RUNTIME_CONFIG_H_
