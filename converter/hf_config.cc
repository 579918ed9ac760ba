#include "converter/hf_config.h"

#include <fmt/format.h>

#include <type_traits>
#include <utility>
#include <vector>

#include "converter/json.h"

namespace sdq::converter {
namespace {

using nlohmann::json;

constexpr JsonLimits kConfigLimits = {16, 100'000};

// *out = value, or the error.
template <typename T, typename U>
Status Take(Result<T> result, U* out) {
  if (!result.ok()) return std::move(result).status();
  *out = *std::move(result);
  return Status::Ok();
}

Result<json> ParseObject(std::string_view text, const std::string& name) {
  SDQ_ASSIGN_OR_RETURN(json object, ParseJson(text, name, kConfigLimits));
  if (!object.is_object()) return Status::Corrupt(name + ": not a JSON object");
  return object;
}

// One id, a list of ids, or nothing. -1 in place of an id means none.
Result<std::vector<int64_t>> TokenIds(const JsonFields& fields, const char* key) {
  const json* value = fields.Find(key);
  std::vector<int64_t> ids;
  if (value == nullptr) return ids;
  const json list = value->is_array() ? *value : json::array({*value});
  if (list.size() > kMaxEosTokens) return fields.WrongType(key, "at most 64 token ids");
  for (const json& element : list) {
    int64_t id = 0;
    if (!JsonToInt(element, &id)) return fields.WrongType(key, "a token id or a list of them");
    if (id != -1) ids.push_back(id);
  }
  return ids;
}

// An absent key leaves *bos alone; null and -1 mean none.
Status TakeBos(const JsonFields& fields, int64_t* bos) {
  if (!fields.Has("bos_token_id")) return Status::Ok();
  SDQ_ASSIGN_OR_RETURN(const std::vector<int64_t> ids, TokenIds(fields, "bos_token_id"));
  if (ids.size() > 1) return fields.WrongType("bos_token_id", "one token id");
  *bos = ids.empty() ? -1 : ids.front();
  return Status::Ok();
}

// What would make another model of it than the one that the runtime computes.
Status RefuseVariants(const JsonFields& fields) {
  if (fields.Find("quantization_config") != nullptr) {
    return Status::Unsupported(fields.name() +
                               ": quantization_config: the checkpoint is quantized already; "
                               "give the original one in f32, f16 or bf16");
  }
  SDQ_ASSIGN_OR_RETURN(const double rotary, fields.RealOr("partial_rotary_factor", 1.0));
  if (rotary != 1.0) {
    return Status::Unsupported(
        fmt::format("{}: partial_rotary_factor {} (supported: 1)", fields.name(), rotary));
  }
  return Status::Ok();
}

// head_dim = hidden_size / heads, unless it is given.
Status TakeHeadDim(const JsonFields& fields, ModelConfig* model) {
  if (model->heads < 1) {
    return Status::Corrupt(fmt::format("{}: num_attention_heads is {}, expected at least 1",
                                       fields.name(), model->heads));
  }
  if (fields.Find("head_dim") != nullptr) return Take(fields.Int("head_dim"), &model->head_dim);
  if (model->hidden_size % model->heads != 0) {
    return Status::Corrupt(
        fmt::format("{}: hidden_size ({}) is not divisible by num_attention_heads ({})",
                    fields.name(), model->hidden_size, model->heads));
  }
  model->head_dim = model->hidden_size / model->heads;
  return Status::Ok();
}

// The keys that all families share. Sizes have no sensible default: they must be given.
Status TakeCommon(const JsonFields& fields, ModelConfig* model) {
  SDQ_RETURN_IF_ERROR(Take(fields.Int("vocab_size"), &model->vocab_size));
  SDQ_RETURN_IF_ERROR(Take(fields.Int("hidden_size"), &model->hidden_size));
  SDQ_RETURN_IF_ERROR(Take(fields.Int("num_hidden_layers"), &model->layers));
  SDQ_RETURN_IF_ERROR(Take(fields.Int("num_attention_heads"), &model->heads));
  SDQ_RETURN_IF_ERROR(TakeBos(fields, &model->bos_token));
  return Take(TokenIds(fields, "eos_token_id"), &model->eos_tokens);
}

// ---- Rotary embedding ----

// rope_theta may stand in the config, in rope_parameters, or (the same number) in both.
Status TakeTheta(const JsonFields& fields, const JsonFields* rope, double* theta) {
  SDQ_RETURN_IF_ERROR(Take(fields.RealOr("rope_theta", 10000.0), theta));
  if (rope == nullptr || rope->Find("rope_theta") == nullptr) return Status::Ok();
  SDQ_ASSIGN_OR_RETURN(const double inner, rope->Real("rope_theta"));
  if (fields.Find("rope_theta") != nullptr && inner != *theta) {
    return Status::Corrupt(fmt::format("{}: rope_theta is {}, but {} has {}", fields.name(), *theta,
                                       rope->name(), inner));
  }
  *theta = inner;
  return Status::Ok();
}

Status TakeLlama3(const JsonFields& fields, const JsonFields& rope, ModelConfig* model) {
  model->rope_scaling = RopeScaling::kLlama3;
  SDQ_RETURN_IF_ERROR(Take(rope.Real("factor"), &model->rope_factor));
  SDQ_RETURN_IF_ERROR(Take(rope.Real("low_freq_factor"), &model->rope_low_freq_factor));
  SDQ_RETURN_IF_ERROR(Take(rope.Real("high_freq_factor"), &model->rope_high_freq_factor));
  constexpr char kOriginal[] = "original_max_position_embeddings";
  const JsonFields& source = rope.Find(kOriginal) != nullptr ? rope : fields;
  return Take(source.Int(kOriginal), &model->rope_original_positions);
}

Status TakeRope(const JsonFields& fields, ModelConfig* model) {
  const json* parameters = fields.Find("rope_parameters");
  const json* scaling = fields.Find("rope_scaling");
  if (parameters != nullptr && scaling != nullptr && *parameters != *scaling) {
    return Status::Corrupt(fields.name() + ": rope_parameters and rope_scaling contradict");
  }
  const char* key = parameters != nullptr ? "rope_parameters" : "rope_scaling";
  const json* object = parameters != nullptr ? parameters : scaling;
  if (object == nullptr) return TakeTheta(fields, nullptr, &model->rope_theta);
  if (!object->is_object()) return fields.WrongType(key, "an object");
  const JsonFields rope(*object, fields.name() + ": " + key);
  for (const auto& [member, value] : object->items()) {
    if (!value.is_object()) continue;
    return Status::Unsupported(
        fmt::format("{}: '{}' is an object: rotary parameters per kind of layer are not supported",
                    rope.name(), member));
  }
  SDQ_RETURN_IF_ERROR(RefuseVariants(rope));
  SDQ_RETURN_IF_ERROR(TakeTheta(fields, &rope, &model->rope_theta));
  SDQ_ASSIGN_OR_RETURN(const std::string old_type, rope.StringOr("type", "default"));
  SDQ_ASSIGN_OR_RETURN(const std::string type, rope.StringOr("rope_type", old_type));
  if (type == "default") return Status::Ok();
  if (type == "llama3") return TakeLlama3(fields, rope, model);
  if (type == "linear") {
    model->rope_scaling = RopeScaling::kLinear;
    return Take(rope.Real("factor"), &model->rope_factor);
  }
  return Status::Unsupported(
      fmt::format("{}: rope type '{}' (supported: default, linear, llama3)", rope.name(), type));
}

// ---- Families ----

Status RefuseSlidingWindow(const JsonFields& fields, int64_t max_positions) {
  // An absent key means the family's default window; null means none.
  constexpr char kKey[] = "sliding_window";
  if (fields.Has(kKey) && fields.Find(kKey) == nullptr) return Status::Ok();
  SDQ_ASSIGN_OR_RETURN(const int64_t window, fields.IntOr(kKey, 4096));
  if (window >= max_positions) return Status::Ok();
  return Status::Unsupported(fmt::format(
      "{}: sliding_window {} is shorter than max_position_embeddings {}: sliding-window "
      "attention is not supported (supported: null, or at least the whole context)",
      fields.name(), window, max_positions));
}

Status TakeLlama(const JsonFields& fields, HfConfig* config) {
  const bool mistral = config->model_type == "mistral";
  ModelConfig& model = config->model;
  model.architecture = Architecture::kLlama;
  model.bos_token = 1;
  SDQ_RETURN_IF_ERROR(TakeCommon(fields, &model));
  if (!fields.Has("eos_token_id")) model.eos_tokens = {2};
  model.embed_size = model.hidden_size;
  SDQ_RETURN_IF_ERROR(Take(fields.Int("intermediate_size"), &model.ffn_size));
  SDQ_RETURN_IF_ERROR(Take(fields.IntOr("max_position_embeddings", mistral ? 4096 * 32 : 2048),
                           &model.max_positions));
  const int64_t kv_default = mistral && !fields.Has("num_key_value_heads") ? 8 : model.heads;
  SDQ_RETURN_IF_ERROR(Take(fields.IntOr("num_key_value_heads", kv_default), &model.kv_heads));
  SDQ_RETURN_IF_ERROR(TakeHeadDim(fields, &model));
  SDQ_RETURN_IF_ERROR(Take(fields.RealOr("rms_norm_eps", 1e-6), &model.norm_eps));
  SDQ_RETURN_IF_ERROR(Take(fields.BoolOr("tie_word_embeddings", false), &model.tied_embeddings));
  SDQ_ASSIGN_OR_RETURN(const std::string activation, fields.StringOr("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return Status::Unsupported(fmt::format("{}: hidden_act '{}' (supported for {}: silu)",
                                           fields.name(), activation, config->model_type));
  }
  model.activation = Activation::kSilu;
  SDQ_RETURN_IF_ERROR(TakeRope(fields, &model));
  if (mistral) return RefuseSlidingWindow(fields, model.max_positions);
  SDQ_RETURN_IF_ERROR(Take(fields.BoolOr("attention_bias", false), &config->attention_bias));
  return Take(fields.BoolOr("mlp_bias", false), &config->ffn_bias);
}

Status TakeOpt(const JsonFields& fields, HfConfig* config) {
  ModelConfig& model = config->model;
  model.architecture = Architecture::kOpt;
  model.bos_token = 2;
  SDQ_RETURN_IF_ERROR(TakeCommon(fields, &model));
  if (!fields.Has("eos_token_id")) model.eos_tokens = {2};
  SDQ_RETURN_IF_ERROR(
      Take(fields.IntOr("word_embed_proj_dim", model.hidden_size), &model.embed_size));
  SDQ_RETURN_IF_ERROR(Take(fields.Int("ffn_dim"), &model.ffn_size));
  SDQ_RETURN_IF_ERROR(Take(fields.IntOr("max_position_embeddings", 2048), &model.max_positions));
  model.position_offset = 2;
  model.kv_heads = model.heads;
  model.norm_eps = 1e-5;  // not in the config: torch's LayerNorm default
  SDQ_RETURN_IF_ERROR(TakeHeadDim(fields, &model));
  SDQ_RETURN_IF_ERROR(Take(fields.BoolOr("tie_word_embeddings", true), &model.tied_embeddings));
  SDQ_RETURN_IF_ERROR(Take(fields.BoolOr("do_layer_norm_before", true), &model.pre_norm));
  SDQ_ASSIGN_OR_RETURN(const bool no_final, fields.BoolOr("_remove_final_layer_norm", false));
  model.final_norm = model.pre_norm && !no_final;
  SDQ_ASSIGN_OR_RETURN(const std::string activation,
                       fields.StringOr("activation_function", "relu"));
  if (activation != "relu" && activation != "gelu") {
    return Status::Unsupported(fmt::format(
        "{}: activation_function '{}' (supported for opt: relu, gelu)", fields.name(), activation));
  }
  model.activation = activation == "relu" ? Activation::kRelu : Activation::kGelu;
  SDQ_RETURN_IF_ERROR(Take(fields.BoolOr("enable_bias", true), &config->attention_bias));
  config->ffn_bias = config->attention_bias;
  return Take(fields.BoolOr("layer_norm_elementwise_affine", true), &config->norm_affine);
}

// A sampling default, if it is given.
template <typename T>
Status TakeDefault(const JsonFields& fields, const char* key, T high, std::optional<T>* out) {
  if (fields.Find(key) == nullptr) return Status::Ok();
  T value{};
  if constexpr (std::is_same_v<T, double>) {
    SDQ_RETURN_IF_ERROR(Take(fields.Real(key), &value));
  } else {
    SDQ_RETURN_IF_ERROR(Take(fields.Int(key), &value));
  }
  if (value < 0 || value > high) {
    return Status::Corrupt(
        fmt::format("{}: {} is {}, expected 0..{}", fields.name(), key, value, high));
  }
  *out = value;
  return Status::Ok();
}

}  // namespace

Result<HfConfig> ParseHfConfig(std::string_view text, const std::string& name) {
  SDQ_ASSIGN_OR_RETURN(const json object, ParseObject(text, name));
  const JsonFields fields(object, name);
  HfConfig config;
  SDQ_ASSIGN_OR_RETURN(config.model_type, fields.String("model_type"));
  SDQ_RETURN_IF_ERROR(RefuseVariants(fields));
  if (config.model_type == "llama" || config.model_type == "mistral") {
    SDQ_RETURN_IF_ERROR(TakeLlama(fields, &config));
  } else if (config.model_type == "opt") {
    SDQ_RETURN_IF_ERROR(TakeOpt(fields, &config));
  } else {
    return Status::Unsupported(fmt::format("{}: model_type '{}' (supported: llama, mistral, opt)",
                                           name, config.model_type));
  }
  SDQ_RETURN_IF_ERROR(config.model.Validate().Annotate(name));
  return config;
}

Status MergeGenerationConfig(std::string_view text, const std::string& name, HfConfig* config) {
  SDQ_ASSIGN_OR_RETURN(const json object, ParseObject(text, name));
  const JsonFields fields(object, name);
  ModelConfig& model = config->model;
  if (model.bos_token < 0) SDQ_RETURN_IF_ERROR(TakeBos(fields, &model.bos_token));
  SDQ_ASSIGN_OR_RETURN(std::vector<int64_t> eos, TokenIds(fields, "eos_token_id"));
  if (!eos.empty()) model.eos_tokens = std::move(eos);
  GenerationDefaults& defaults = config->generation;
  SDQ_RETURN_IF_ERROR(TakeDefault(fields, "temperature", 1e6, &defaults.temperature));
  SDQ_RETURN_IF_ERROR(TakeDefault(fields, "top_k", kMaxModelDimension, &defaults.top_k));
  SDQ_RETURN_IF_ERROR(TakeDefault(fields, "top_p", 1.0, &defaults.top_p));
  return model.Validate().Annotate(name);
}

}  // namespace sdq::converter
