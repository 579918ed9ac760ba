#include "runtime/config.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "converter/hf_config.h"
#include "format/metadata.h"

namespace sdq::converter {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

json Llama() {
  return {{"model_type", "llama"},
          {"vocab_size", 320},
          {"hidden_size", 64},
          {"intermediate_size", 176},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"rms_norm_eps", 1e-5},
          {"hidden_act", "silu"},
          {"bos_token_id", 1},
          {"eos_token_id", 2},
          {"rope_theta", 10000.0},
          {"max_position_embeddings", 128}};
}

json Opt() {
  return {{"model_type", "opt"},
          {"vocab_size", 50272},
          {"hidden_size", 64},
          {"ffn_dim", 256},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"max_position_embeddings", 128}};
}

Result<HfConfig> Parse(const json& config) { return ParseHfConfig(config.dump(), "config.json"); }

ModelConfig Model(const json& config) {
  const auto parsed = Parse(config);
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  return parsed->model;
}

void RequireRefused(const json& config, StatusCode code, const std::string& why) {
  const auto parsed = Parse(config);
  INFO(config.dump());
  REQUIRE_FALSE(parsed.ok());
  INFO(parsed.status().message());
  CHECK(parsed.status().code() == code);
  CHECK_THAT(parsed.status().message(), Contains("config.json") && Contains(why));
}

json With(json config, const std::string& key, const json& value) {
  config[key] = value;
  return config;
}

json Without(json config, const std::string& key) {
  config.erase(key);
  return config;
}

TEST_CASE("config: defaults of the llama family") {
  ModelConfig model = Model(Llama());
  CHECK(model.architecture == Architecture::kLlama);
  CHECK(model.head_dim == 16);
  CHECK(model.kv_heads == 2);
  CHECK(model.embed_size == 64);
  CHECK_FALSE(model.tied_embeddings);
  CHECK(model.rope_scaling == RopeScaling::kNone);
  CHECK(model.eos_tokens == std::vector<int64_t>{2});

  json bare = Llama();
  for (const char* key : {"num_key_value_heads", "rms_norm_eps", "hidden_act", "bos_token_id",
                          "eos_token_id", "rope_theta", "max_position_embeddings"}) {
    bare.erase(key);
  }
  model = Model(bare);
  CHECK(model.kv_heads == 4);
  CHECK(model.norm_eps == 1e-6);
  CHECK(model.bos_token == 1);
  CHECK(model.eos_tokens == std::vector<int64_t>{2});
  CHECK(model.rope_theta == 10000.0);
  CHECK(model.max_positions == 2048);
  CHECK(Model(With(Llama(), "num_key_value_heads", nullptr)).kv_heads == 4);
  CHECK(Model(With(Llama(), "head_dim", nullptr)).head_dim == 16);
  CHECK(Model(With(Llama(), "head_dim", 32)).head_dim == 32);
}

TEST_CASE("config: defaults and variants of opt") {
  const auto plain = Parse(Opt());
  REQUIRE(plain.ok());
  const ModelConfig& model = plain->model;
  CHECK(model.architecture == Architecture::kOpt);
  CHECK(model.tied_embeddings);
  CHECK(model.pre_norm);
  CHECK(model.final_norm);
  CHECK(model.position_offset == 2);
  CHECK(model.activation == Activation::kRelu);
  CHECK(model.bos_token == 2);
  CHECK(model.embed_size == 64);
  CHECK(model.norm_eps == 1e-5);
  CHECK(plain->attention_bias);
  CHECK(plain->ffn_bias);
  CHECK(plain->norm_affine);

  json opt350 = With(Opt(), "do_layer_norm_before", false);
  opt350["word_embed_proj_dim"] = 32;
  const ModelConfig small = Model(opt350);
  CHECK_FALSE(small.pre_norm);
  CHECK_FALSE(small.final_norm);
  CHECK(small.embed_size == 32);
  CHECK_FALSE(Model(With(Opt(), "_remove_final_layer_norm", true)).final_norm);
  CHECK(Model(With(Opt(), "activation_function", "gelu")).activation == Activation::kGelu);
  CHECK_FALSE(Parse(With(Opt(), "enable_bias", false))->attention_bias);
  CHECK_FALSE(Parse(With(Opt(), "layer_norm_elementwise_affine", false))->norm_affine);
  CHECK_FALSE(Model(With(Opt(), "tie_word_embeddings", false)).tied_embeddings);
}

TEST_CASE("config: biases of llama") {
  CHECK_FALSE(Parse(Llama())->attention_bias);
  const auto biased = Parse(With(With(Llama(), "attention_bias", true), "mlp_bias", true));
  REQUIRE(biased.ok());
  CHECK(biased->attention_bias);
  CHECK(biased->ffn_bias);
}

TEST_CASE("config: rotary embedding, old style and new") {
  const json llama3 = {{"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 32}};
  json old_style = With(With(Llama(), "rope_theta", 500000.0), "rope_scaling", llama3);
  old_style["rope_scaling"]["rope_type"] = "llama3";
  json new_style = With(Without(Llama(), "rope_theta"), "rope_parameters", llama3);
  new_style["rope_parameters"]["rope_type"] = "llama3";
  new_style["rope_parameters"]["rope_theta"] = 500000.0;
  const ModelConfig model = Model(new_style);
  CHECK(model == Model(old_style));
  CHECK(model.rope_scaling == RopeScaling::kLlama3);
  CHECK(model.rope_theta == 500000.0);
  CHECK(model.rope_factor == 8.0);
  CHECK(model.rope_low_freq_factor == 1.0);
  CHECK(model.rope_high_freq_factor == 4.0);
  CHECK(model.rope_original_positions == 32);

  const ModelConfig linear =
      Model(With(Llama(), "rope_scaling", {{"type", "linear"}, {"factor", 4}}));
  CHECK(linear.rope_scaling == RopeScaling::kLinear);
  CHECK(linear.rope_factor == 4.0);
  CHECK(Model(With(Llama(), "rope_scaling", nullptr)).rope_scaling == RopeScaling::kNone);
  CHECK(Model(With(Llama(), "rope_parameters", {{"rope_type", "default"}})) == Model(Llama()));
}

TEST_CASE("config: rotary embeddings that are not implemented, or make no sense") {
  for (const char* type : {"dynamic", "yarn", "longrope", "su", "mrope"}) {
    RequireRefused(With(Llama(), "rope_scaling", {{"type", type}, {"factor", 2.0}}),
                   StatusCode::kUnsupported, "default, linear, llama3");
  }
  RequireRefused(With(Llama(), "rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}),
                 StatusCode::kUnsupported, "per kind of layer");
  RequireRefused(With(Llama(), "rope_scaling", {{"type", "linear"}}), StatusCode::kCorrupt,
                 "factor");
  RequireRefused(With(Llama(), "rope_scaling", {{"type", "linear"}, {"factor", 0.0}}),
                 StatusCode::kCorrupt, "rope_factor");
  RequireRefused(With(Llama(), "rope_scaling", "linear"), StatusCode::kCorrupt, "an object");
  RequireRefused(With(Llama(), "rope_theta", 0), StatusCode::kCorrupt, "rope_theta");
  RequireRefused(With(Llama(), "rope_theta", "x"), StatusCode::kCorrupt, "rope_theta");
  RequireRefused(With(Llama(), "rope_parameters", {{"rope_theta", 5e5}}), StatusCode::kCorrupt,
                 "rope_theta");
  RequireRefused(With(Llama(), "partial_rotary_factor", 0.5), StatusCode::kUnsupported,
                 "partial_rotary_factor");
  json equal_factors = {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"low_freq_factor", 4.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 32}};
  RequireRefused(With(Llama(), "rope_scaling", equal_factors), StatusCode::kCorrupt,
                 "rope_high_freq_factor");
  json both = With(Llama(), "rope_parameters", {{"rope_type", "default"}});
  both["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  RequireRefused(both, StatusCode::kCorrupt, "contradict");
}

TEST_CASE("config: model types and activations that are not implemented") {
  for (const char* type : {"qwen2", "gpt2", "mixtral", ""}) {
    RequireRefused(With(Llama(), "model_type", type), StatusCode::kUnsupported,
                   "llama, mistral, opt");
  }
  RequireRefused(Without(Llama(), "model_type"), StatusCode::kCorrupt, "model_type");
  RequireRefused(With(Llama(), "hidden_act", "gelu"), StatusCode::kUnsupported, "silu");
  RequireRefused(With(Opt(), "activation_function", "gelu_new"), StatusCode::kUnsupported,
                 "relu, gelu");
  RequireRefused(With(Llama(), "quantization_config", {{"bits", 4}}), StatusCode::kUnsupported,
                 "quantized already");
}

TEST_CASE("config: mistral without a sliding window is a llama") {
  const json mistral = With(Llama(), "model_type", "mistral");
  CHECK(Model(With(mistral, "sliding_window", nullptr)) == Model(Llama()));
  CHECK(Model(mistral) == Model(Llama()));  // the default window of 4096 covers the context
  CHECK(Model(Without(With(mistral, "num_attention_heads", 16), "num_key_value_heads")).kv_heads ==
        8);
  RequireRefused(With(mistral, "sliding_window", 127), StatusCode::kUnsupported, "sliding_window");
  RequireRefused(With(mistral, "max_position_embeddings", 4097), StatusCode::kUnsupported,
                 "sliding_window 4096");
}

TEST_CASE("config: sizes that make no model") {
  const auto corrupt = [](const json& config, const std::string& why) {
    RequireRefused(config, StatusCode::kCorrupt, why);
  };
  for (const char* key :
       {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"}) {
    corrupt(Without(Llama(), key), key);
    corrupt(With(Llama(), key, "4"), key);
    corrupt(With(Llama(), key, 4.0), key);
    corrupt(With(Llama(), key, 18446744073709551615u), key);
    corrupt(With(Llama(), key, 0), "expected");
    corrupt(With(Llama(), key, -4), "expected");
    corrupt(With(Llama(), key, int64_t{1} << 40), " is ");
    corrupt(With(Opt(), key, 0), "expected");
  }
  corrupt(With(Llama(), "hidden_size", 66), "not divisible by num_attention_heads");
  corrupt(With(Opt(), "hidden_size", 66), "not divisible by num_attention_heads");
  corrupt(With(Llama(), "num_key_value_heads", 3), "not divisible by kv_heads");
  corrupt(With(Llama(), "num_key_value_heads", 0), "kv_heads");
  corrupt(With(Llama(), "num_key_value_heads", 8), "kv_heads");
  corrupt(With(Llama(), "head_dim", 15), "even");
  corrupt(With(Llama(), "head_dim", 0), "head_dim");
  corrupt(With(Llama(), "head_dim", 1 << 23), "heads * head_dim");
  corrupt(With(Llama(), "intermediate_size", 0), "ffn_size");
  corrupt(With(Llama(), "max_position_embeddings", 0), "max_positions");
  corrupt(With(Llama(), "rms_norm_eps", -1.0), "norm_eps");
  corrupt(With(Llama(), "rms_norm_eps", 0), "norm_eps");
  corrupt(With(Opt(), "word_embed_proj_dim", 0), "embed_size");
  corrupt(With(Llama(), "tie_word_embeddings", 1), "tie_word_embeddings");
}

TEST_CASE("config: special tokens") {
  CHECK(Model(With(Llama(), "eos_token_id", {2, 7})).eos_tokens == std::vector<int64_t>{2, 7});
  CHECK(Model(With(Llama(), "eos_token_id", nullptr)).eos_tokens.empty());
  CHECK(Model(With(Llama(), "bos_token_id", nullptr)).bos_token == -1);
  CHECK(Model(With(Llama(), "bos_token_id", json::array({5}))).bos_token == 5);
  RequireRefused(With(Llama(), "bos_token_id", {5, 6}), StatusCode::kCorrupt, "bos_token_id");
  RequireRefused(With(Llama(), "bos_token_id", 320), StatusCode::kCorrupt, "bos_token");
  RequireRefused(With(Llama(), "eos_token_id", {2, 320}), StatusCode::kCorrupt, "eos_tokens");
  RequireRefused(With(Llama(), "eos_token_id", -2), StatusCode::kCorrupt, "eos_tokens");
  RequireRefused(With(Llama(), "eos_token_id", {"2"}), StatusCode::kCorrupt, "eos_token_id");
  RequireRefused(With(Llama(), "eos_token_id", std::vector<int>(65, 2)), StatusCode::kCorrupt,
                 "at most 64");
}

TEST_CASE("config: generation_config.json adds sampling defaults and end tokens") {
  auto config = Parse(Llama());
  REQUIRE(config.ok());
  const auto merge = [&config](const std::string& text) {
    return MergeGenerationConfig(text, "generation_config.json", &*config);
  };
  REQUIRE(merge(R"({"eos_token_id":[3,4],"bos_token_id":9,"temperature":0.6,"top_p":0.9})").ok());
  CHECK(config->model.eos_tokens == std::vector<int64_t>{3, 4});
  CHECK(config->model.bos_token == 1);
  CHECK(config->generation.temperature == 0.6);
  CHECK(config->generation.top_p == 0.9);
  CHECK_FALSE(config->generation.top_k.has_value());
  REQUIRE(merge(R"({"top_k":50,"temperature":1})").ok());
  CHECK(config->generation.top_k == 50);
  CHECK(config->generation.temperature == 1.0);
  CHECK(config->model.eos_tokens == std::vector<int64_t>{3, 4});
  for (const char* bad : {"[]", "", R"({"temperature":-1})", R"({"temperature":"hot"})",
                          R"({"top_p":1.5})", R"({"top_k":-1})", R"({"top_k":0.5})",
                          R"({"eos_token_id":320})", R"({"eos_token_id":{}})"}) {
    INFO(bad);
    CHECK(merge(bad).code() == StatusCode::kCorrupt);
  }
}

TEST_CASE("config: text that is not the JSON it should be") {
  for (const std::string& bad :
       {std::string(), std::string("[]"), std::string("null"), std::string("{\"model_type\":"),
        Llama().dump() + "}", "{\"a\":" + std::string(100'000, '[')}) {
    CHECK(ParseHfConfig(bad, "config.json").status().code() == StatusCode::kCorrupt);
  }
  const auto twice = ParseHfConfig(R"({"model_type":"llama","model_type":"opt"})", "config.json");
  CHECK_THAT(twice.status().message(), Contains("duplicate key 'model_type'"));
  const auto deep = ParseHfConfig("{\"a\":" + std::string(1000, '['), "config.json");
  CHECK_THAT(deep.status().message(), Contains("nested deeper"));
}

TEST_CASE("config: metadata and back") {
  json scaled = With(Llama(), "rope_scaling",
                     {{"rope_type", "llama3"},
                      {"factor", 8.0},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 32}});
  json post_norm = With(Opt(), "do_layer_norm_before", false);
  post_norm["activation_function"] = "gelu";
  post_norm["eos_token_id"] = {2, 50265};
  for (const json& config : {Llama(), Opt(), scaled, post_norm}) {
    const ModelConfig model = Model(config);
    format::Metadata metadata;
    model.Store(&metadata);
    const std::vector<uint8_t> bytes = metadata.Encode();
    const auto decoded = format::Metadata::Decode(bytes);
    REQUIRE(decoded.ok());
    const auto loaded = ModelConfig::Load(*decoded);
    INFO(loaded.status().message());
    REQUIRE(loaded.ok());
    CHECK(*loaded == model);
  }
}

TEST_CASE("config: metadata that is no model") {
  format::Metadata good;
  Model(Llama()).Store(&good);
  CHECK(good.GetString("model.architecture").value() == "llama");
  CHECK(good.GetString("model.activation").value() == "silu");
  CHECK(good.GetString("model.rope_scaling").value() == "none");
  REQUIRE(good.values().size() == 24);

  for (const auto& [key, value] : good.values()) {
    INFO(key);
    format::Metadata wrong_type = good;
    wrong_type.Set(key, std::vector<float>{1.0f});
    CHECK(ModelConfig::Load(wrong_type).status().code() == StatusCode::kCorrupt);
    format::Metadata lacking;
    for (const auto& [other, kept] : good.values()) {
      if (other != key) lacking.Set(other, kept);
    }
    CHECK(ModelConfig::Load(lacking).status().code() == StatusCode::kNotFound);
  }
  const auto load_with = [&good](const std::string& key, format::Metadata::Value value) {
    format::Metadata changed = good;
    changed.Set(key, std::move(value));
    return ModelConfig::Load(changed).status();
  };
  CHECK(load_with("model.architecture", std::string("gpt2")).code() == StatusCode::kUnsupported);
  CHECK_THAT(load_with("model.activation", std::string("tanh")).message(),
             Contains("silu, relu, gelu"));
  CHECK(load_with("model.heads", int64_t{0}).code() == StatusCode::kCorrupt);
  CHECK(load_with("model.layers", int64_t{1025}).code() == StatusCode::kCorrupt);
  CHECK(load_with("model.norm_eps", std::nan("")).code() == StatusCode::kCorrupt);
  CHECK(load_with("model.rope_theta", HUGE_VAL).code() == StatusCode::kCorrupt);
  CHECK(load_with("model.position_offset", int64_t{-1}).code() == StatusCode::kCorrupt);
  CHECK(load_with("model.bos_token", int64_t{320}).code() == StatusCode::kCorrupt);
  // Parts of another family.
  CHECK(load_with("model.architecture", std::string("opt")).code() == StatusCode::kCorrupt);
  CHECK(load_with("model.pre_norm", false).code() == StatusCode::kCorrupt);
  CHECK(load_with("model.embed_size", int64_t{32}).code() == StatusCode::kCorrupt);
}

std::vector<std::string> Names(const std::vector<TensorShape>& shapes) {
  std::vector<std::string> names;
  for (const TensorShape& shape : shapes) names.push_back(shape.name);
  return names;
}

TEST_CASE("config: expected tensors in order of use") {
  json one = With(With(Llama(), "num_hidden_layers", 1), "head_dim", 32);
  const auto llama = ExpectedTensors(Model(one));
  CHECK(Names(llama) ==
        std::vector<std::string>{"embed.tokens", "layers.0.attn_norm.weight", "layers.0.attn.q",
                                 "layers.0.attn.k", "layers.0.attn.v", "layers.0.attn.o",
                                 "layers.0.ffn_norm.weight", "layers.0.ffn.gate", "layers.0.ffn.up",
                                 "layers.0.ffn.down", "final_norm.weight", "head"});
  CHECK(llama[2].rows == 128);  // q: heads * head_dim
  CHECK(llama[2].columns == 64);
  CHECK(llama[3].rows == 64);  // k: kv_heads * head_dim
  CHECK(llama[5].rows == 64);  // o
  CHECK(llama[5].columns == 128);
  CHECK(llama[9].columns == 176);
  for (const TensorShape& shape : llama) {
    INFO(shape.name);
    const bool is_layer_matrix = shape.name.find(".attn.") != std::string::npos ||
                                 shape.name.find(".ffn.") != std::string::npos;
    CHECK(shape.is_linear == is_layer_matrix);
    CHECK_FALSE(shape.optional);
  }

  json opt = With(With(Opt(), "num_hidden_layers", 1), "word_embed_proj_dim", 32);
  const auto tensors = ExpectedTensors(Model(opt));
  CHECK(Names(tensors) ==
        std::vector<std::string>{"embed.tokens", "embed.positions", "embed.project_in",
                                 "layers.0.attn_norm.weight", "layers.0.attn_norm.bias",
                                 "layers.0.attn.q", "layers.0.attn.k", "layers.0.attn.v",
                                 "layers.0.attn.o", "layers.0.ffn_norm.weight",
                                 "layers.0.ffn_norm.bias", "layers.0.ffn.up", "layers.0.ffn.down",
                                 "final_norm.weight", "final_norm.bias", "embed.project_out"});
  CHECK(tensors[0].columns == 32);
  CHECK(tensors[1].rows == 130);
  CHECK(tensors[2].rows == 64);
  CHECK(tensors[15].rows == 32);
  CHECK(tensors[4].optional);
}

}  // namespace
}  // namespace sdq::converter
