#include "converter/checkpoint.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "converter/hf_tensor_names.h"
#include "tests/converter/safetensors_builder.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

struct TestTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
  std::string dtype = "F16";
};

// A small checkpoint as a folder, which a test can spoil before it is written.
struct TestCheckpoint {
  json config;
  std::map<std::string, TestTensor> tensors;

  void Add(const std::string& name, const std::vector<int64_t>& shape) {
    int64_t elements = 1;
    for (const int64_t size : shape) elements *= size;
    std::vector<float> values;
    const auto first = float(tensors.size());
    for (int64_t i = 0; i < elements; ++i) values.push_back(first + float(i % 64) / 64);
    tensors[name] = {shape, std::move(values)};
  }

  void Write(const test::TemporaryFolder& folder) const {
    WriteText(folder / "config.json", config.dump());
    test::SafetensorsBuilder builder;
    for (const auto& [name, tensor] : tensors) {
      builder.Add(name, tensor.shape, tensor.values, tensor.dtype);
    }
    test::WriteBytes(folder / "model.safetensors", builder.Bytes());
  }

  static void WriteText(const std::string& path, std::string_view text) {
    test::WriteBytes(path, {text.begin(), text.end()});
  }

  Result<std::unique_ptr<Checkpoint>> Open() const {
    test::TemporaryFolder folder;
    Write(folder);
    return Checkpoint::Open(folder.path());
  }

  void RequireRefused(StatusCode code, const std::string& why) const {
    const auto opened = Open();
    REQUIRE_FALSE(opened.ok());
    INFO(opened.status().message());
    CHECK(opened.status().code() == code);
    CHECK_THAT(opened.status().message(), Contains(why));
  }
};

TestCheckpoint SmallLlama(const std::string& prefix = "model.") {
  TestCheckpoint c;
  c.config = {{"model_type", "llama"},
              {"vocab_size", 10},
              {"hidden_size", 8},
              {"intermediate_size", 12},
              {"num_hidden_layers", 2},
              {"num_attention_heads", 2},
              {"num_key_value_heads", 1},
              {"max_position_embeddings", 16},
              {"tie_word_embeddings", false}};
  c.Add(prefix + "embed_tokens.weight", {10, 8});
  for (const char* layer : {"layers.0.", "layers.1."}) {
    const std::string base = prefix + layer;
    c.Add(base + "input_layernorm.weight", {8});
    c.Add(base + "self_attn.q_proj.weight", {8, 8});
    c.Add(base + "self_attn.k_proj.weight", {4, 8});
    c.Add(base + "self_attn.v_proj.weight", {4, 8});
    c.Add(base + "self_attn.o_proj.weight", {8, 8});
    c.Add(base + "post_attention_layernorm.weight", {8});
    c.Add(base + "mlp.gate_proj.weight", {12, 8});
    c.Add(base + "mlp.up_proj.weight", {12, 8});
    c.Add(base + "mlp.down_proj.weight", {8, 12});
  }
  c.Add(prefix + "norm.weight", {8});
  c.Add("lm_head.weight", {10, 8});
  return c;
}

TestCheckpoint SmallOpt(const std::string& prefix = "model.decoder.") {
  TestCheckpoint c;
  c.config = {{"model_type", "opt"},
              {"vocab_size", 10},
              {"hidden_size", 8},
              {"ffn_dim", 12},
              {"num_hidden_layers", 1},
              {"num_attention_heads", 2},
              {"max_position_embeddings", 4},
              {"word_embed_proj_dim", 6}};
  const auto linear = [&c](const std::string& name, int64_t rows, int64_t columns) {
    c.Add(name + ".weight", {rows, columns});
    c.Add(name + ".bias", {rows});
  };
  c.Add(prefix + "embed_tokens.weight", {10, 6});
  c.Add(prefix + "embed_positions.weight", {6, 8});
  c.Add(prefix + "project_in.weight", {8, 6});
  c.Add(prefix + "project_out.weight", {6, 8});
  const std::string base = prefix + "layers.0.";
  for (const char* part : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
    linear(base + "self_attn." + part, 8, 8);
  }
  linear(base + "fc1", 12, 8);
  linear(base + "fc2", 8, 12);
  for (const std::string& norm :
       {base + "self_attn_layer_norm", base + "final_layer_norm", prefix + "final_layer_norm"}) {
    c.Add(norm + ".weight", {8});
    c.Add(norm + ".bias", {8});
  }
  return c;
}

void RequireEqual(const Checkpoint& checkpoint, const std::string& canonical,
                  const TestTensor& expected) {
  INFO(canonical);
  REQUIRE(checkpoint.Has(canonical));
  std::vector<float> values;
  REQUIRE(checkpoint.Read(canonical, &values).ok());
  CHECK(values == expected.values);
}

TEST_CASE("checkpoint: llama tensors under canonical names, with and without prefix") {
  const std::string prefix = GENERATE("model.", "");
  const TestCheckpoint source = SmallLlama(prefix);
  const auto opened = source.Open();
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const Checkpoint& checkpoint = **opened;
  const auto check = [&](const std::string& canonical, const std::string& name) {
    RequireEqual(checkpoint, canonical, source.tensors.at(name));
  };
  check("embed.tokens", prefix + "embed_tokens.weight");
  check("layers.1.attn_norm.weight", prefix + "layers.1.input_layernorm.weight");
  check("layers.1.attn.q", prefix + "layers.1.self_attn.q_proj.weight");
  check("layers.1.attn.k", prefix + "layers.1.self_attn.k_proj.weight");
  check("layers.1.attn.v", prefix + "layers.1.self_attn.v_proj.weight");
  check("layers.1.attn.o", prefix + "layers.1.self_attn.o_proj.weight");
  check("layers.0.ffn_norm.weight", prefix + "layers.0.post_attention_layernorm.weight");
  check("layers.0.ffn.gate", prefix + "layers.0.mlp.gate_proj.weight");
  check("layers.0.ffn.up", prefix + "layers.0.mlp.up_proj.weight");
  check("layers.0.ffn.down", prefix + "layers.0.mlp.down_proj.weight");
  check("final_norm.weight", prefix + "norm.weight");
  check("head", "lm_head.weight");
  CHECK_FALSE(checkpoint.Has("layers.0.attn.q.bias"));
  CHECK_FALSE(checkpoint.Has("layers.2.attn.q"));
  CHECK(checkpoint.StoredType("head") == "f16");
  std::vector<float> values;
  CHECK(checkpoint.Read("layers.2.attn.q", &values).code() == StatusCode::kNotFound);
  CHECK(checkpoint.LoadTokenizer().status().code() == StatusCode::kNotFound);
}

TEST_CASE("checkpoint: opt tensors under canonical names, with and without prefix") {
  const std::string prefix = GENERATE("model.decoder.", "decoder.", "");
  const TestCheckpoint source = SmallOpt(prefix);
  const auto opened = source.Open();
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const auto check = [&](const std::string& canonical, const std::string& name) {
    RequireEqual(**opened, canonical, source.tensors.at(prefix + name));
  };
  check("embed.tokens", "embed_tokens.weight");
  check("embed.positions", "embed_positions.weight");
  check("embed.project_in", "project_in.weight");
  check("embed.project_out", "project_out.weight");
  check("layers.0.attn_norm.weight", "layers.0.self_attn_layer_norm.weight");
  check("layers.0.attn_norm.bias", "layers.0.self_attn_layer_norm.bias");
  check("layers.0.attn.k", "layers.0.self_attn.k_proj.weight");
  check("layers.0.attn.k.bias", "layers.0.self_attn.k_proj.bias");
  check("layers.0.attn.o", "layers.0.self_attn.out_proj.weight");
  check("layers.0.attn.o.bias", "layers.0.self_attn.out_proj.bias");
  check("layers.0.ffn_norm.bias", "layers.0.final_layer_norm.bias");
  check("layers.0.ffn.up", "layers.0.fc1.weight");
  check("layers.0.ffn.up.bias", "layers.0.fc1.bias");
  check("layers.0.ffn.down", "layers.0.fc2.weight");
  check("final_norm.weight", "final_layer_norm.weight");
  check("final_norm.bias", "final_layer_norm.bias");
  CHECK_FALSE((*opened)->Has("head"));
}

TEST_CASE("checkpoint: a norm without parameters reads as ones") {
  TestCheckpoint c = SmallOpt();
  c.config["layer_norm_elementwise_affine"] = false;
  c.RequireRefused(StatusCode::kUnsupported, "layer_norm");
  std::erase_if(c.tensors, [](const auto& tensor) {
    return tensor.first.find("layer_norm") != std::string::npos;
  });
  const auto opened = c.Open();
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  CHECK_FALSE((*opened)->Has("layers.0.attn_norm.bias"));
  std::vector<float> values;
  REQUIRE((*opened)->Read("layers.0.attn_norm.weight", &values).ok());
  CHECK(values == std::vector<float>(8, 1.0f));
}

TEST_CASE("checkpoint: tied and untied heads") {
  TestCheckpoint c = SmallLlama();
  const std::string embedding = "model.embed_tokens.weight";
  SECTION("untied, but there is no head") {
    c.tensors.erase("lm_head.weight");
    c.RequireRefused(StatusCode::kNotFound, "tie_word_embeddings is false");
    c.config.erase("tie_word_embeddings");  // the default of llama
    c.RequireRefused(StatusCode::kNotFound, "lm_head.weight");
  }
  SECTION("tied, without a head") {
    c.config["tie_word_embeddings"] = true;
    c.tensors.erase("lm_head.weight");
    CHECK(c.Open().ok());
  }
  SECTION("tied, and a head that differs") {
    c.config["tie_word_embeddings"] = true;
    c.RequireRefused(StatusCode::kCorrupt, "differs");
    c.tensors["lm_head.weight"].dtype = "F32";
    c.RequireRefused(StatusCode::kCorrupt, "differs");
    c.tensors["lm_head.weight"] = {{8, 10}, c.tensors[embedding].values};
    c.RequireRefused(StatusCode::kCorrupt, "shape [8, 10]");
  }
  SECTION("tied, and the same head once more") {
    c.config["tie_word_embeddings"] = true;
    c.tensors["lm_head.weight"].values = c.tensors[embedding].values;
    c.tensors["lm_head.weight"].dtype = GENERATE("F16", "F32");
    const auto opened = c.Open();
    INFO(opened.status().message());
    REQUIRE(opened.ok());
    CHECK_FALSE((*opened)->Has("head"));
    CHECK((*opened)->config().tied_embeddings);
  }
}

TEST_CASE("checkpoint: embeddings missing or twice") {
  TestCheckpoint c = SmallLlama();
  const TestTensor embedding = c.tensors.at("model.embed_tokens.weight");
  c.tensors["embed_tokens.weight"] = embedding;
  c.RequireRefused(StatusCode::kCorrupt, "two token embeddings");
  c.tensors.erase("embed_tokens.weight");
  c.tensors.erase("model.embed_tokens.weight");
  c.RequireRefused(StatusCode::kNotFound, "token embedding is missing");
}

TEST_CASE("checkpoint: layers and config must agree") {
  TestCheckpoint c = SmallLlama();
  c.config["num_hidden_layers"] = 1;
  c.RequireRefused(StatusCode::kCorrupt, "is of layer 1, but config.json says 1 layers");
  c.config["num_hidden_layers"] = 3;
  c.RequireRefused(StatusCode::kNotFound, "model.layers.2.input_layernorm.weight' is missing");
  c.config["num_hidden_layers"] = 2;
  c.config["intermediate_size"] = 13;
  c.RequireRefused(StatusCode::kCorrupt, "has shape [12, 8], the config expects [13, 8]");
  c.config["intermediate_size"] = 12;
  c.config["vocab_size"] = 11;
  c.RequireRefused(StatusCode::kCorrupt, "has shape [10, 8], the config expects [11, 8]");
}

TEST_CASE("checkpoint: tensors of the wrong rank or type") {
  TestCheckpoint c = SmallLlama();
  SECTION("a vector stored as a matrix") {
    c.tensors["model.norm.weight"].shape = {1, 8};
    c.RequireRefused(StatusCode::kCorrupt, "shape [1, 8]");
  }
  SECTION("a matrix stored flat") {
    c.tensors["lm_head.weight"].shape = {80};
    c.RequireRefused(StatusCode::kCorrupt, "shape [80]");
  }
  SECTION("types may be mixed") {
    c.tensors["model.norm.weight"].dtype = "F32";
    c.tensors["lm_head.weight"].dtype = "BF16";
    const auto opened = c.Open();
    REQUIRE(opened.ok());
    CHECK((*opened)->StoredType("final_norm.weight") == "f32");
    CHECK((*opened)->StoredType("head") == "bf16");
    format::Metadata metadata;
    (*opened)->StoreExtras(&metadata);
    CHECK(metadata.GetString("source.dtype").value() == "bf16+f16+f32");
  }
}

TEST_CASE("checkpoint: a tensor stored as integers") {
  test::TemporaryFolder folder;
  SmallLlama().Write(folder);
  std::vector<uint8_t> bytes = test::ReadBytes(folder / "model.safetensors");
  const std::string from = R"("dtype":"F16")";
  const std::string to = R"("dtype":"I16")";
  const auto at = std::search(bytes.begin(), bytes.end(), from.begin(), from.end());
  REQUIRE(at != bytes.end());
  std::copy(to.begin(), to.end(), at);
  test::WriteBytes(folder / "model.safetensors", bytes);
  const auto opened = Checkpoint::Open(folder.path());
  CHECK(opened.status().code() == StatusCode::kUnsupported);
  CHECK_THAT(opened.status().message(), Contains("stored as I16"));
}

TEST_CASE("checkpoint: biases must be there exactly as the config says") {
  TestCheckpoint c = SmallLlama();
  c.config["attention_bias"] = true;
  c.RequireRefused(StatusCode::kNotFound, "q_proj.bias");
  c.config["attention_bias"] = false;
  c.Add("model.layers.1.self_attn.q_proj.bias", {8});
  c.RequireRefused(StatusCode::kUnsupported, "q_proj.bias' has no place");
  TestCheckpoint opt = SmallOpt();
  opt.config["enable_bias"] = false;
  opt.RequireRefused(StatusCode::kUnsupported, ".bias' has no place");
}

TEST_CASE("checkpoint: tensors that no model of this kind has") {
  TestCheckpoint c = SmallLlama();
  c.Add("model.layers.0.self_attn.rotary_emb.inv_freq", {2});
  CHECK(c.Open().ok());  // a table that old checkpoints carry: computed here
  c.Add("model.layers.0.mlp.experts.weight", {2});
  c.RequireRefused(StatusCode::kUnsupported, "'model.layers.0.mlp.experts.weight' has no place");
}

TEST_CASE("checkpoint: a weight that is not finite shows when it is read") {
  TestCheckpoint c = SmallLlama();
  c.tensors["model.layers.1.mlp.up_proj.weight"].values[5] = std::numeric_limits<float>::infinity();
  const auto opened = c.Open();
  REQUIRE(opened.ok());
  std::vector<float> values;
  const Status status = (*opened)->Read("layers.1.ffn.up", &values);
  CHECK(status.code() == StatusCode::kCorrupt);
  CHECK_THAT(status.message(),
             Contains("model.layers.1.mlp.up_proj.weight") && Contains("element 5"));
  CHECK((*opened)->Read("layers.0.ffn.up", &values).ok());
}

TEST_CASE("checkpoint: paths that are no checkpoint") {
  test::TemporaryFolder folder;
  const auto refusal = [](const std::string& path, StatusCode code) {
    const auto opened = Checkpoint::Open(path);
    REQUIRE_FALSE(opened.ok());
    CHECK(opened.status().code() == code);
    return opened.status().message();
  };
  CHECK_THAT(refusal(folder / "none", StatusCode::kNotFound), Contains("no such folder"));
  CHECK_THAT(refusal(folder.path(), StatusCode::kNotFound), Contains("no config.json"));
  SmallLlama().Write(folder);
  CHECK_THAT(refusal(folder / "model.safetensors", StatusCode::kInvalidArgument),
             Contains("not a folder") && Contains("give the folder"));
  std::filesystem::remove(folder / "model.safetensors");
  CHECK_THAT(refusal(folder.path(), StatusCode::kNotFound), Contains("no weights"));
  TestCheckpoint::WriteText(folder / "pytorch_model.bin", "pickle");
  CHECK_THAT(refusal(folder.path(), StatusCode::kUnsupported), Contains("save_pretrained"));
  TestCheckpoint::WriteText(folder / "config.json", "{");
  CHECK_THAT(refusal(folder.path(), StatusCode::kCorrupt), Contains("config.json"));
}

TEST_CASE("checkpoint: provenance and sampling defaults go into the metadata") {
  test::TemporaryFolder folder;
  SmallLlama().Write(folder);
  TestCheckpoint::WriteText(folder / "generation_config.json",
                            R"({"temperature":0.6,"top_k":40,"eos_token_id":[2,3]})");
  const auto opened = Checkpoint::Open(folder.path() + "/");
  REQUIRE(opened.ok());
  CHECK((*opened)->config().eos_tokens == std::vector<int64_t>{2, 3});
  format::Metadata metadata;
  (*opened)->StoreExtras(&metadata);
  CHECK(metadata.GetDouble("generation.temperature").value() == 0.6);
  CHECK(metadata.GetInt("generation.top_k").value() == 40);
  CHECK_FALSE(metadata.Has("generation.top_p"));
  const std::string base = folder.path().substr(folder.path().rfind('/') + 1);
  CHECK(metadata.GetString("source.name").value() == base);
  CHECK(metadata.GetString("source.model_type").value() == "llama");
  CHECK(metadata.GetString("source.dtype").value() == "f16");
  CHECK(metadata.GetInt("source.bytes").value() ==
        int64_t(std::filesystem::file_size(folder / "model.safetensors")));

  TestCheckpoint::WriteText(folder / "generation_config.json", "{]");
  CHECK(Checkpoint::Open(folder.path()).status().code() == StatusCode::kCorrupt);
}

TEST_CASE("checkpoint: names of tensors") {
  CHECK(HfTensorName(Architecture::kLlama, "model.", "layers.12.attn.o.bias") ==
        "model.layers.12.self_attn.o_proj.bias");
  CHECK(HfTensorName(Architecture::kOpt, "decoder.", "final_norm.bias") ==
        "decoder.final_layer_norm.bias");
  CHECK(HfTensorName(Architecture::kOpt, "decoder.", "head") == "lm_head.weight");
  CHECK(HfTensorName(Architecture::kLlama, "", "embed.positions").empty());
  CHECK(HfTensorName(Architecture::kLlama, "", "layers.1").empty());
  CHECK(HfLayerNumber("model.", "model.layers.17.mlp.up_proj.weight") == 17);
  CHECK_FALSE(HfLayerNumber("model.", "layers.17.x").has_value());
  CHECK_FALSE(HfLayerNumber("", "layers.x.y").has_value());
  CHECK_FALSE(HfLayerNumber("", "layers.17").has_value());
  CHECK_FALSE(HfLayerNumber("", "layers.99999999999999999999.y").has_value());
}

}  // namespace
}  // namespace sdq::converter
