#include "runtime/config.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <string_view>
#include <type_traits>
#include <utility>

namespace sdq {
namespace {

template <typename Enum>
struct EnumName {
  Enum value;
  std::string_view name;
};

constexpr std::array<EnumName<Architecture>, 2> kArchitectures = {{
    {Architecture::kLlama, "llama"},
    {Architecture::kOpt, "opt"},
}};
constexpr std::array<EnumName<Activation>, 3> kActivations = {{
    {Activation::kSilu, "silu"},
    {Activation::kRelu, "relu"},
    {Activation::kGelu, "gelu"},
}};
constexpr std::array<EnumName<RopeScaling>, 3> kRopeScalings = {{
    {RopeScaling::kNone, "none"},
    {RopeScaling::kLinear, "linear"},
    {RopeScaling::kLlama3, "llama3"},
}};

const auto& NamesOf(Architecture) { return kArchitectures; }
const auto& NamesOf(Activation) { return kActivations; }
const auto& NamesOf(RopeScaling) { return kRopeScalings; }

template <typename Enum>
Status ParseEnum(const std::string& key, const std::string& text, Enum* out) {
  std::string known;
  for (const auto& entry : NamesOf(Enum{})) {
    if (entry.name == text) {
      *out = entry.value;
      return Status::Ok();
    }
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  return Status::Unsupported(fmt::format("{}: unknown value '{}' (known: {})", key, text, known));
}

// Every field once: what is stored, and what must be there to load.
template <typename Config, typename Visitor>
Status VisitFields(Config& c, Visitor&& visit) {
  SDQ_RETURN_IF_ERROR(visit("architecture", c.architecture));
  SDQ_RETURN_IF_ERROR(visit("vocab_size", c.vocab_size));
  SDQ_RETURN_IF_ERROR(visit("hidden_size", c.hidden_size));
  SDQ_RETURN_IF_ERROR(visit("embed_size", c.embed_size));
  SDQ_RETURN_IF_ERROR(visit("layers", c.layers));
  SDQ_RETURN_IF_ERROR(visit("heads", c.heads));
  SDQ_RETURN_IF_ERROR(visit("kv_heads", c.kv_heads));
  SDQ_RETURN_IF_ERROR(visit("head_dim", c.head_dim));
  SDQ_RETURN_IF_ERROR(visit("ffn_size", c.ffn_size));
  SDQ_RETURN_IF_ERROR(visit("max_positions", c.max_positions));
  SDQ_RETURN_IF_ERROR(visit("norm_eps", c.norm_eps));
  SDQ_RETURN_IF_ERROR(visit("tied_embeddings", c.tied_embeddings));
  SDQ_RETURN_IF_ERROR(visit("activation", c.activation));
  SDQ_RETURN_IF_ERROR(visit("pre_norm", c.pre_norm));
  SDQ_RETURN_IF_ERROR(visit("final_norm", c.final_norm));
  SDQ_RETURN_IF_ERROR(visit("position_offset", c.position_offset));
  SDQ_RETURN_IF_ERROR(visit("rope_theta", c.rope_theta));
  SDQ_RETURN_IF_ERROR(visit("rope_scaling", c.rope_scaling));
  SDQ_RETURN_IF_ERROR(visit("rope_factor", c.rope_factor));
  SDQ_RETURN_IF_ERROR(visit("rope_low_freq_factor", c.rope_low_freq_factor));
  SDQ_RETURN_IF_ERROR(visit("rope_high_freq_factor", c.rope_high_freq_factor));
  SDQ_RETURN_IF_ERROR(visit("rope_original_positions", c.rope_original_positions));
  SDQ_RETURN_IF_ERROR(visit("bos_token", c.bos_token));
  return visit("eos_tokens", c.eos_tokens);
}

struct Storer {
  format::Metadata* metadata;

  template <typename T>
  Status operator()(const char* field, const T& value) {
    std::string key = std::string("model.") + field;
    if constexpr (std::is_enum_v<T>) {
      for (const auto& entry : NamesOf(value)) {
        if (entry.value == value) metadata->Set(key, std::string(entry.name));
      }
    } else {
      metadata->Set(std::move(key), value);
    }
    return Status::Ok();
  }
};

struct Loader {
  const format::Metadata& metadata;

  static std::string Key(const char* field) { return std::string("model.") + field; }

  template <typename T>
  Status Take(Result<T> result, T* out) {
    if (!result.ok()) return std::move(result).status();
    *out = *std::move(result);
    return Status::Ok();
  }
  Status operator()(const char* field, bool& out) {
    return Take(metadata.GetBool(Key(field)), &out);
  }
  Status operator()(const char* field, int64_t& out) {
    return Take(metadata.GetInt(Key(field)), &out);
  }
  Status operator()(const char* field, double& out) {
    return Take(metadata.GetDouble(Key(field)), &out);
  }
  Status operator()(const char* field, std::vector<int64_t>& out) {
    SDQ_ASSIGN_OR_RETURN(const std::vector<int64_t>* values, metadata.GetInts(Key(field)));
    out = *values;
    return Status::Ok();
  }
  template <typename T>
  requires std::is_enum_v<T> Status operator()(const char* field, T& out) {
    SDQ_ASSIGN_OR_RETURN(const std::string text, metadata.GetString(Key(field)));
    return ParseEnum(Key(field), text, &out);
  }
};

Status Bad(std::string message) { return Status::Corrupt("model config: " + message); }

Status CheckRange(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return Status::Ok();
  return Bad(fmt::format("{} is {}, expected {}..{}", field, value, low, high));
}

Status CheckReal(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return Status::Ok();  // NaN fails
  return Bad(fmt::format("{} is {}, expected {}..{}", field, value, low, high));
}

Status CheckSizes(const ModelConfig& c) {
  constexpr int64_t kMax = kMaxModelDimension;
  SDQ_RETURN_IF_ERROR(CheckRange("vocab_size", c.vocab_size, 1, kMax));
  SDQ_RETURN_IF_ERROR(CheckRange("hidden_size", c.hidden_size, 1, kMax));
  SDQ_RETURN_IF_ERROR(CheckRange("embed_size", c.embed_size, 1, kMax));
  SDQ_RETURN_IF_ERROR(CheckRange("layers", c.layers, 1, kMaxModelLayers));
  SDQ_RETURN_IF_ERROR(CheckRange("heads", c.heads, 1, kMax));
  SDQ_RETURN_IF_ERROR(CheckRange("kv_heads", c.kv_heads, 1, kMax));
  SDQ_RETURN_IF_ERROR(CheckRange("head_dim", c.head_dim, 1, kMax));
  SDQ_RETURN_IF_ERROR(CheckRange("ffn_size", c.ffn_size, 1, kMax));
  SDQ_RETURN_IF_ERROR(CheckRange("position_offset", c.position_offset, 0, kMaxPositionOffset));
  SDQ_RETURN_IF_ERROR(CheckRange("max_positions", c.max_positions, 1, kMax - c.position_offset));
  SDQ_RETURN_IF_ERROR(CheckRange("heads * head_dim", c.heads * c.head_dim, 1, kMax));
  if (c.heads % c.kv_heads != 0) {
    return Bad(fmt::format("heads ({}) is not divisible by kv_heads ({})", c.heads, c.kv_heads));
  }
  return CheckReal("norm_eps", c.norm_eps, 1e-30, 1.0);
}

Status CheckRope(const ModelConfig& c) {
  if (c.head_dim % 2 != 0) {
    return Bad(fmt::format("head_dim is {}, but a rotary embedding needs an even one", c.head_dim));
  }
  SDQ_RETURN_IF_ERROR(CheckReal("rope_theta", c.rope_theta, 1.0, 1e15));
  if (c.rope_scaling == RopeScaling::kNone) return Status::Ok();
  SDQ_RETURN_IF_ERROR(CheckReal("rope_factor", c.rope_factor, 1.0, 1e9));
  if (c.rope_scaling == RopeScaling::kLinear) return Status::Ok();
  SDQ_RETURN_IF_ERROR(CheckReal("rope_low_freq_factor", c.rope_low_freq_factor, 1e-9, 1e9));
  SDQ_RETURN_IF_ERROR(CheckReal("rope_high_freq_factor", c.rope_high_freq_factor, 1e-9, 1e9));
  if (c.rope_high_freq_factor <= c.rope_low_freq_factor) {
    return Bad(fmt::format("rope_high_freq_factor ({}) must exceed rope_low_freq_factor ({})",
                           c.rope_high_freq_factor, c.rope_low_freq_factor));
  }
  return CheckRange("rope_original_positions", c.rope_original_positions, 1, kMaxModelDimension);
}

Status CheckLlama(const ModelConfig& c) {
  if (c.activation != Activation::kSilu) return Bad("a llama model's activation must be silu");
  if (c.embed_size != c.hidden_size) {
    return Bad(
        fmt::format("embed_size ({}) differs from hidden_size ({}): llama models have no "
                    "embedding projections",
                    c.embed_size, c.hidden_size));
  }
  if (!c.pre_norm || !c.final_norm) return Bad("a llama model has pre_norm and final_norm");
  SDQ_RETURN_IF_ERROR(CheckRange("position_offset", c.position_offset, 0, 0));
  return CheckRope(c);
}

Status CheckOpt(const ModelConfig& c) {
  if (c.activation != Activation::kRelu && c.activation != Activation::kGelu) {
    return Bad("an opt model's activation must be relu or gelu");
  }
  if (c.kv_heads != c.heads) {
    return Bad(
        fmt::format("kv_heads ({}) differs from heads ({}): opt models have one key-value "
                    "head per head",
                    c.kv_heads, c.heads));
  }
  if (c.heads * c.head_dim != c.hidden_size) {
    return Bad(fmt::format("heads ({}) times head_dim ({}) is not hidden_size ({})", c.heads,
                           c.head_dim, c.hidden_size));
  }
  if (c.rope_scaling != RopeScaling::kNone) return Bad("an opt model has no rotary embedding");
  return Status::Ok();
}

Status CheckTokens(const ModelConfig& c) {
  SDQ_RETURN_IF_ERROR(CheckRange("bos_token", c.bos_token, -1, c.vocab_size - 1));
  if (c.eos_tokens.size() > kMaxEosTokens) {
    return Bad(
        fmt::format("{} eos_tokens, at most {} are allowed", c.eos_tokens.size(), kMaxEosTokens));
  }
  for (const int64_t token : c.eos_tokens) {
    SDQ_RETURN_IF_ERROR(CheckRange("eos_tokens", token, 0, c.vocab_size - 1));
  }
  return Status::Ok();
}

// Collects shapes in order of use.
class ShapeList {
 public:
  explicit ShapeList(const ModelConfig& config) : config_(config) {}

  void Vector(std::string name, int64_t size, bool optional = false) {
    shapes_.push_back({std::move(name), 1, size, false, optional});
  }
  void Norm(const std::string& name) {
    Vector(name + ".weight", config_.hidden_size);
    if (config_.architecture == Architecture::kOpt) {
      Vector(name + ".bias", config_.hidden_size, /*optional=*/true);
    }
  }
  void Matrix(std::string name, int64_t rows, int64_t columns) {
    shapes_.push_back({std::move(name), rows, columns, false, false});
  }
  void Linear(std::string name, int64_t rows, int64_t columns) {
    shapes_.push_back({std::move(name), rows, columns, true, false});
  }
  void Layer(int64_t n) {
    const ModelConfig& c = config_;
    const int64_t q_width = c.heads * c.head_dim;
    const int64_t kv_width = c.kv_heads * c.head_dim;
    Norm(LayerTensorName(n, "attn_norm"));
    Linear(LayerTensorName(n, "attn.q"), q_width, c.hidden_size);
    Linear(LayerTensorName(n, "attn.k"), kv_width, c.hidden_size);
    Linear(LayerTensorName(n, "attn.v"), kv_width, c.hidden_size);
    Linear(LayerTensorName(n, "attn.o"), c.hidden_size, q_width);
    Norm(LayerTensorName(n, "ffn_norm"));
    if (c.architecture == Architecture::kLlama) {
      Linear(LayerTensorName(n, "ffn.gate"), c.ffn_size, c.hidden_size);
    }
    Linear(LayerTensorName(n, "ffn.up"), c.ffn_size, c.hidden_size);
    Linear(LayerTensorName(n, "ffn.down"), c.hidden_size, c.ffn_size);
  }
  std::vector<TensorShape> Take() && { return std::move(shapes_); }

 private:
  const ModelConfig& config_;
  std::vector<TensorShape> shapes_;
};

}  // namespace

Status ModelConfig::Validate() const {
  SDQ_RETURN_IF_ERROR(CheckSizes(*this));
  switch (architecture) {
    case Architecture::kLlama:
      SDQ_RETURN_IF_ERROR(CheckLlama(*this));
      break;
    case Architecture::kOpt:
      SDQ_RETURN_IF_ERROR(CheckOpt(*this));
      break;
    default:
      return Bad(fmt::format("architecture {} is unknown", static_cast<int64_t>(architecture)));
  }
  return CheckTokens(*this);
}

void ModelConfig::Store(format::Metadata* metadata) const {
  const Status stored = VisitFields(*this, Storer{metadata});
  static_cast<void>(stored);  // storing cannot fail
}

Result<ModelConfig> ModelConfig::Load(const format::Metadata& metadata) {
  ModelConfig config;
  SDQ_RETURN_IF_ERROR(VisitFields(config, Loader{metadata}));
  SDQ_RETURN_IF_ERROR(config.Validate());
  return config;
}

std::string LayerTensorName(int64_t layer, const char* part) {
  return "layers." + std::to_string(layer) + "." + part;
}

std::vector<TensorShape> ExpectedTensors(const ModelConfig& config) {
  ShapeList list(config);
  const bool projected = config.embed_size != config.hidden_size;
  list.Matrix("embed.tokens", config.vocab_size, config.embed_size);
  if (config.architecture == Architecture::kOpt) {
    list.Matrix("embed.positions", config.max_positions + config.position_offset,
                config.hidden_size);
  }
  if (projected) list.Matrix("embed.project_in", config.hidden_size, config.embed_size);
  for (int64_t n = 0; n < config.layers; ++n) list.Layer(n);
  if (config.final_norm) list.Norm("final_norm");
  if (projected) list.Matrix("embed.project_out", config.embed_size, config.hidden_size);
  if (!config.tied_embeddings) list.Matrix("head", config.vocab_size, config.embed_size);
  return std::move(list).Take();
}

}  // namespace sdq
