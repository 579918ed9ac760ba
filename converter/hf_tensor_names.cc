#include "converter/hf_tensor_names.h"

#include <array>
#include <charconv>

namespace sdq::converter {
namespace {

struct Part {
  std::string_view canonical;
  std::string_view hf;
};

// Parts of a layer, then the others.
constexpr std::array<Part, 11> kLlamaParts = {{
    {"attn_norm", "input_layernorm"},
    {"attn.q", "self_attn.q_proj"},
    {"attn.k", "self_attn.k_proj"},
    {"attn.v", "self_attn.v_proj"},
    {"attn.o", "self_attn.o_proj"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn.gate", "mlp.gate_proj"},
    {"ffn.up", "mlp.up_proj"},
    {"ffn.down", "mlp.down_proj"},
    {"embed.tokens", "embed_tokens"},
    {"final_norm", "norm"},
}};
constexpr std::array<Part, 13> kOptParts = {{
    {"attn_norm", "self_attn_layer_norm"},
    {"attn.q", "self_attn.q_proj"},
    {"attn.k", "self_attn.k_proj"},
    {"attn.v", "self_attn.v_proj"},
    {"attn.o", "self_attn.out_proj"},
    {"ffn_norm", "final_layer_norm"},
    {"ffn.up", "fc1"},
    {"ffn.down", "fc2"},
    {"embed.tokens", "embed_tokens"},
    {"embed.positions", "embed_positions"},
    {"embed.project_in", "project_in"},
    {"embed.project_out", "project_out"},
    {"final_norm", "final_layer_norm"},
}};

constexpr std::array<std::string_view, 2> kLlamaPrefixes = {"model.", ""};
constexpr std::array<std::string_view, 3> kOptPrefixes = {"model.decoder.", "decoder.", ""};

constexpr std::string_view kLayers = "layers.";

std::span<const Part> PartsOf(Architecture architecture) {
  if (architecture == Architecture::kOpt) return kOptParts;
  return kLlamaParts;
}

bool StripSuffix(std::string_view suffix, std::string_view* text) {
  if (!text->ends_with(suffix)) return false;
  text->remove_suffix(suffix.size());
  return true;
}

}  // namespace

std::span<const std::string_view> HfBodyPrefixes(Architecture architecture) {
  if (architecture == Architecture::kOpt) return kOptPrefixes;
  return kLlamaPrefixes;
}

std::string HfTensorName(Architecture architecture, std::string_view prefix,
                         std::string_view canonical) {
  std::string_view part = canonical;
  const bool is_bias = StripSuffix(".bias", &part);
  if (!is_bias) StripSuffix(".weight", &part);
  const std::string suffix = is_bias ? ".bias" : ".weight";
  if (part == "head") return "lm_head" + suffix;
  std::string layer;
  if (part.starts_with(kLayers)) {
    const size_t end = part.find('.', kLayers.size());
    if (end == std::string_view::npos) return "";
    layer = part.substr(0, end + 1);
    part.remove_prefix(end + 1);
  }
  for (const Part& known : PartsOf(architecture)) {
    if (known.canonical == part)
      return std::string(prefix) + layer + std::string(known.hf) + suffix;
  }
  return "";
}

std::optional<int64_t> HfLayerNumber(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  if (!name.starts_with(kLayers)) return std::nullopt;
  name.remove_prefix(kLayers.size());
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  return number;
}

}  // namespace sdq::converter
