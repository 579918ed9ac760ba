#include "converter/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/rotary.h"

namespace sdq::converter {
namespace {

constexpr char kArchitecture[] = "llama";

// Keys of the architecture: "llama.block_count", ...
class LlamaKeys {
 public:
  explicit LlamaKeys(const GgufMetadata& metadata) : metadata_(metadata) {}

  static std::string Full(const char* key) { return fmt::format("{}.{}", kArchitecture, key); }

  template <typename T>
  Status Get(const char* key, T* out) const {
    return metadata_.Get(Full(key), out);
  }
  template <typename T>
  Status GetIfPresent(const char* key, T* out) const {
    return metadata_.GetIfPresent(Full(key), out);
  }

  // Some files give one number per layer: all must agree.
  Status GetShared(const char* key, int64_t* out) const {
    std::vector<int64_t> values;
    if (!metadata_.Has(Full(key))) return Status::Ok();
    if (!metadata_.Get(Full(key), &values).ok()) return Get(key, out);
    if (values.empty() ||
        std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) != values.end()) {
      return Status::Unsupported(
          fmt::format("{}: {} differs between layers", metadata_.name(), Full(key)));
    }
    *out = values.front();
    return Status::Ok();
  }

  // What must be absent or have this value.
  Status Require(const char* key, int64_t expected) const {
    int64_t value = expected;
    SDQ_RETURN_IF_ERROR(GetIfPresent(key, &value));
    if (value == expected) return Status::Ok();
    return Status::Unsupported(
        fmt::format("{}: {} is {} (supported: {})", metadata_.name(), Full(key), value, expected));
  }

 private:
  const GgufMetadata& metadata_;
};

Status CheckKind(const GgufMetadata& metadata) {
  std::string architecture;
  SDQ_RETURN_IF_ERROR(metadata.Get("general.architecture", &architecture));
  if (architecture != kArchitecture) {
    return Status::Unsupported(fmt::format("{}: architecture '{}' (supported: {})", metadata.name(),
                                           architecture, kArchitecture));
  }
  std::string type = "model";
  SDQ_RETURN_IF_ERROR(metadata.GetIfPresent("general.type", &type));
  if (type != "model") {
    return Status::Unsupported(
        fmt::format("{}: general.type is '{}', expected 'model'", metadata.name(), type));
  }
  int64_t parts = 1;
  SDQ_RETURN_IF_ERROR(metadata.GetIfPresent("split.count", &parts));
  if (parts > 1) {
    return Status::Unsupported(fmt::format(
        "{}: one of {} parts of a model; merge them into one file first (llama-gguf-split --merge)",
        metadata.name(), parts));
  }
  return Status::Ok();
}

Status TakeSizes(const LlamaKeys& keys, ModelConfig* model) {
  SDQ_RETURN_IF_ERROR(keys.Get("context_length", &model->max_positions));
  SDQ_RETURN_IF_ERROR(keys.Get("embedding_length", &model->hidden_size));
  SDQ_RETURN_IF_ERROR(keys.Get("block_count", &model->layers));
  SDQ_RETURN_IF_ERROR(keys.GetShared("feed_forward_length", &model->ffn_size));
  SDQ_RETURN_IF_ERROR(keys.GetShared("attention.head_count", &model->heads));
  model->kv_heads = model->heads;
  SDQ_RETURN_IF_ERROR(keys.GetShared("attention.head_count_kv", &model->kv_heads));
  model->embed_size = model->hidden_size;
  return keys.Get("attention.layer_norm_rms_epsilon", &model->norm_eps);
}

// Keys, values and rotation must be of one size.
Status TakeHeadDim(const LlamaKeys& keys, ModelConfig* model) {
  if (model->heads < 1) {
    return Status::Corrupt(
        fmt::format("{} is {}", LlamaKeys::Full("attention.head_count"), model->heads));
  }
  model->head_dim = model->hidden_size / model->heads;
  SDQ_RETURN_IF_ERROR(keys.GetIfPresent("attention.key_length", &model->head_dim));
  SDQ_RETURN_IF_ERROR(keys.Require("attention.value_length", model->head_dim));
  return keys.Require("rope.dimension_count", model->head_dim);
}

Status TakeRope(const LlamaKeys& keys, ModelConfig* model) {
  SDQ_RETURN_IF_ERROR(keys.GetIfPresent("rope.freq_base", &model->rope_theta));
  std::string type = "none";
  double factor = 1.0;
  SDQ_RETURN_IF_ERROR(keys.GetIfPresent("rope.scale_linear", &factor));  // the key's old name
  if (factor != 1.0) type = "linear";
  SDQ_RETURN_IF_ERROR(keys.GetIfPresent("rope.scaling.type", &type));
  SDQ_RETURN_IF_ERROR(keys.GetIfPresent("rope.scaling.factor", &factor));
  if (type == "none") return Status::Ok();
  if (type != "linear") {
    return Status::Unsupported(fmt::format("{} is '{}' (supported: none, linear)",
                                           LlamaKeys::Full("rope.scaling.type"), type));
  }
  if (factor == 1.0) return Status::Ok();
  model->rope_scaling = RopeScaling::kLinear;
  model->rope_factor = factor;
  return Status::Ok();
}

Status TakeVocabulary(const GgufContents& contents, const LlamaKeys& keys, ModelConfig* model) {
  const auto embedding = contents.tensors.find("token_embd.weight");
  if (embedding == contents.tensors.end() || embedding->second.dimensions.size() != 2) {
    return Status::NotFound("the token embedding (token_embd.weight) is missing or no matrix");
  }
  model->vocab_size = int64_t(embedding->second.dimensions[1]);
  model->tied_embeddings = !contents.tensors.contains("output.weight");
  int64_t stated = model->vocab_size;
  SDQ_RETURN_IF_ERROR(keys.GetIfPresent("vocab_size", &stated));
  if (stated == model->vocab_size) return Status::Ok();
  return Status::Corrupt(fmt::format("{} is {}, but token_embd.weight has {} rows",
                                     LlamaKeys::Full("vocab_size"), stated, model->vocab_size));
}

// Every token that ends a text or a turn.
Status TakeSpecialTokens(const GgufMetadata& metadata, ModelConfig* model) {
  SDQ_RETURN_IF_ERROR(metadata.GetIfPresent("tokenizer.ggml.bos_token_id", &model->bos_token));
  for (const char* name : {"eos", "eot", "eom"}) {
    int64_t id = -1;
    SDQ_RETURN_IF_ERROR(
        metadata.GetIfPresent(fmt::format("tokenizer.ggml.{}_token_id", name), &id));
    std::vector<int64_t>& all = model->eos_tokens;
    if (id >= 0 && std::find(all.begin(), all.end(), id) == all.end()) all.push_back(id);
  }
  return Status::Ok();
}

Status TakeRopeTensor(const GgufContents& contents, ModelConfig* model) {
  const auto found = contents.tensors.find("rope_freqs.weight");
  if (found == contents.tensors.end()) return Status::Ok();
  if (model->rope_scaling != RopeScaling::kNone) {
    return Status::Unsupported("rope_freqs.weight beside another rotary scaling");
  }
  if (int64_t(found->second.elements) != model->head_dim / 2) {
    return Status::Corrupt(fmt::format("rope_freqs.weight has {} elements, expected {}",
                                       found->second.elements, model->head_dim / 2));
  }
  std::vector<float> divisors;
  SDQ_RETURN_IF_ERROR(ReadGgufTensor(found->second, &divisors));
  return RopeScalingFromDivisors(divisors, model);
}

bool SameDivisors(const std::vector<double>& plain, std::span<const float> divisors,
                  const ModelConfig& candidate) {
  const std::vector<double> scaled = RotaryFrequencies(candidate);
  for (size_t i = 0; i < plain.size(); ++i) {
    const double expected = plain[i] / scaled[i];
    if (std::abs(expected - double(divisors[i])) > 1e-4 * expected) return false;
  }
  return true;
}

// The context length that the model was trained with: where a divisor lies between 1 and the
// factor, it says how (rotary.cc); where none does, the powers of two are tried.
std::vector<int64_t> OriginalPositions(const std::vector<double>& plain,
                                       std::span<const float> divisors, const ModelConfig& model) {
  const double low = model.rope_low_freq_factor;
  const double high = model.rope_high_freq_factor;
  std::vector<int64_t> candidates;
  for (size_t i = 0; i < plain.size(); ++i) {
    const double keep = 1.0 / double(divisors[i]);
    const double least = 1.0 / model.rope_factor;
    const double smooth = (keep - least) / (1.0 - least);
    if (smooth < 1e-3 || smooth > 1 - 1e-3) continue;
    const double wavelength = 2.0 * std::numbers::pi / plain[i];
    const double original = wavelength * (smooth * (high - low) + low);
    if (original < double(kMaxModelDimension)) candidates.push_back(std::llround(original));
  }
  if (!candidates.empty()) return candidates;
  for (int64_t n = 64; n < kMaxModelDimension; n *= 2) candidates.push_back(n);
  return candidates;
}

}  // namespace

Status RopeScalingFromDivisors(std::span<const float> divisors, ModelConfig* config) {
  constexpr char kWhat[] = "rope_freqs.weight";
  for (const float divisor : divisors) {
    if (!(divisor >= 1.0f && divisor <= 1e6f)) {
      return Status::Unsupported(
          fmt::format("{}: divisor {}, expected 1 to 1000000", kWhat, divisor));
    }
  }
  const auto [least, most] = std::minmax_element(divisors.begin(), divisors.end());
  if (divisors.empty() || *most == 1.0f) return Status::Ok();
  ModelConfig candidate = *config;
  candidate.rope_factor = double(*most);
  const std::vector<double> plain = RotaryFrequencies(*config);
  if (*least == *most) {
    config->rope_scaling = RopeScaling::kLinear;
    config->rope_factor = candidate.rope_factor;
    return Status::Ok();
  }
  candidate.rope_scaling = RopeScaling::kLlama3;
  for (const int64_t original : OriginalPositions(plain, divisors, candidate)) {
    candidate.rope_original_positions = original;
    if (!SameDivisors(plain, divisors, candidate)) continue;
    *config = candidate;
    return Status::Ok();
  }
  return Status::Unsupported(
      fmt::format("{}: not the rotary scaling of LLaMA 3.1 with factors 1 and 4", kWhat));
}

Result<ModelConfig> GgufConfig(const GgufContents& contents) {
  const GgufMetadata& metadata = contents.metadata;
  SDQ_RETURN_IF_ERROR(CheckKind(metadata));
  const LlamaKeys keys(metadata);
  ModelConfig model;
  SDQ_RETURN_IF_ERROR(TakeSizes(keys, &model));
  SDQ_RETURN_IF_ERROR(TakeHeadDim(keys, &model).Annotate(metadata.name()));
  SDQ_RETURN_IF_ERROR(TakeRope(keys, &model).Annotate(metadata.name()));
  SDQ_RETURN_IF_ERROR(keys.Require("expert_count", 0));
  SDQ_RETURN_IF_ERROR(keys.Require("attention.sliding_window", 0));
  SDQ_RETURN_IF_ERROR(TakeVocabulary(contents, keys, &model).Annotate(metadata.name()));
  SDQ_RETURN_IF_ERROR(TakeSpecialTokens(metadata, &model));
  SDQ_RETURN_IF_ERROR(model.Validate().Annotate(metadata.name()));
  SDQ_RETURN_IF_ERROR(TakeRopeTensor(contents, &model).Annotate(metadata.name()));
  SDQ_RETURN_IF_ERROR(model.Validate().Annotate(metadata.name()));
  return model;
}

}  // namespace sdq::converter
