// Whole checkpoints against a direct look into their files.
#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "converter/checkpoint.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Stored {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// Sign, exponent and fraction, by the definition of the formats.
float FromBits(uint32_t bits, int exponent_bits, int fraction_bits) {
  const uint32_t fraction = bits & ((1u << fraction_bits) - 1);
  const int exponent = int(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double one = exponent == 0 ? 0.0 : 1.0;
  const double magnitude =
      std::ldexp(one + std::ldexp(double(fraction), -fraction_bits), std::max(exponent, 1) - bias);
  return float((bits >> (exponent_bits + fraction_bits)) != 0u ? -magnitude : magnitude);
}

// All values of a 16-bit type.
std::vector<float> ValueTable(int exponent_bits, int fraction_bits) {
  std::vector<float> table;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    table.push_back(FromBits(bits, exponent_bits, fraction_bits));
  }
  return table;
}

// Everything in the folder's weight files, by Hugging Face name.
std::map<std::string, Stored> ReadDirectly(const std::string& folder) {
  static const std::vector<float> half = ValueTable(5, 10);
  static const std::vector<float> brain = ValueTable(8, 7);
  std::map<std::string, Stored> tensors;
  for (const auto& file : fs::directory_iterator(folder)) {
    if (file.path().extension() != ".safetensors") continue;
    const std::vector<uint8_t> bytes = test::ReadBytes(file.path().string());
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    const json header = json::parse(bytes.begin() + 8, bytes.begin() + 8 + std::ptrdiff_t(length));
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") continue;
      Stored& tensor = tensors[name];
      tensor.shape = entry["shape"].get<std::vector<int64_t>>();
      const std::string dtype = entry["dtype"];
      const size_t width = dtype == "F32" ? 4 : 2;
      const uint8_t* data = bytes.data() + 8 + length;
      const size_t end = entry["data_offsets"][1];
      for (size_t at = entry["data_offsets"][0]; at < end; at += width) {
        uint32_t bits = 0;
        std::memcpy(&bits, data + at, width);
        tensor.values.push_back(dtype == "F32"   ? FromBits(bits, 8, 23)
                                : dtype == "F16" ? half[bits]
                                                 : brain[bits]);
      }
    }
  }
  return tensors;
}

// The canonical name of a Hugging Face tensor, derived in the opposite direction of the product's.
std::string Canonical(std::string name, bool is_opt) {
  const auto replace = [&name](const std::string& from, const std::string& to) {
    const size_t at = name.find(from);
    if (at != std::string::npos) name.replace(at, from.size(), to);
  };
  const bool in_layer = name.find("layers.") != std::string::npos;
  replace("model.", "");
  replace("decoder.", "");
  replace("self_attn_layer_norm", "attn_norm");
  replace("input_layernorm", "attn_norm");
  replace("post_attention_layernorm", "ffn_norm");
  replace("final_layer_norm", in_layer ? "ffn_norm" : "final_norm");
  replace("self_attn.", "attn.");
  replace("mlp.", "ffn.");
  replace("fc1", "ffn.up");
  replace("fc2", "ffn.down");
  replace("out_proj", "o");
  replace("_proj", "");
  replace("embed_", "embed.");
  replace("project_", "embed.project_");
  replace("lm_head", "head");
  if (!is_opt && !in_layer) replace("norm", "final_norm");
  if (name.find("norm") == std::string::npos) replace(".weight", "");
  return name;
}

void CheckFolder(const std::string& folder) {
  INFO(folder);
  const auto opened = Checkpoint::Open(folder);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const Checkpoint& checkpoint = **opened;
  const bool is_opt = checkpoint.config().architecture == Architecture::kOpt;
  const auto stored = ReadDirectly(folder);
  REQUIRE_FALSE(stored.empty());
  std::vector<float> values;
  for (const auto& [name, tensor] : stored) {
    const std::string canonical = Canonical(name, is_opt);
    INFO(name << " as " << canonical);
    REQUIRE(checkpoint.Has(canonical));
    REQUIRE(checkpoint.Read(canonical, &values).ok());
    // Also tells +0 from -0.
    REQUIRE(values.size() == tensor.values.size());
    CHECK(std::memcmp(values.data(), tensor.values.data(), values.size() * sizeof(float)) == 0);
  }
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    INFO(shape.name);
    CHECK(checkpoint.Has(shape.name));
  }
}

TEST_CASE("checkpoint: the bundled models read as they are stored") {
  const std::string name = GENERATE("stories-llama-5m", "stories-opt-6m");
  CheckFolder(test::BundledModel(name));
}

TEST_CASE("checkpoint: every golden checkpoint reads as it is stored") {
  SDQ_NEEDS_SHARED(root, "golden/tiny");
  size_t folders = 0;
  for (const auto& entry : fs::directory_iterator(root)) {
    CheckFolder(entry.path().string());
    ++folders;
  }
  CHECK(folders == 11);
}

TEST_CASE("checkpoint: the large trained checkpoints read as they are stored") {
  SDQ_NEEDS_SHARED(root, "models");
  for (const char* name : {"stories15m", "wiki-opt-31m"}) CheckFolder(root + "/" + name);
}

TEST_CASE("checkpoint: what the golden configs say") {
  SDQ_NEEDS_SHARED(root, "golden/tiny");
  const auto config = [&root](const std::string& name) {
    const auto opened = Checkpoint::Open(root + "/" + name);
    INFO(name << ": " << opened.status().message());
    REQUIRE(opened.ok());
    REQUIRE((*opened)->config().Validate().ok());
    return (*opened)->config();
  };
  CHECK(config("llama-mha-untied-f32").kv_heads == 4);
  CHECK(config("llama-mqa-f16-sharded").kv_heads == 1);
  CHECK(config("llama-gqa-tied-bf16").tied_embeddings);
  CHECK(config("llama-headdim-odd-ratio").head_dim == 32);
  CHECK(config("llama-rope-linear").rope_scaling == RopeScaling::kLinear);
  CHECK(config("llama-rope-linear").rope_factor == 4.0);
  const ModelConfig llama3 = config("llama3-rope-scaled");
  CHECK(llama3.rope_scaling == RopeScaling::kLlama3);
  CHECK(llama3.rope_theta == 500000.0);
  CHECK(llama3.rope_original_positions == 32);
  const ModelConfig post_norm = config("opt-350m-like-postnorm-proj");
  CHECK_FALSE(post_norm.pre_norm);
  CHECK_FALSE(post_norm.final_norm);
  CHECK(post_norm.embed_size == 32);
  CHECK(config("opt-proj-bf16-sharded").pre_norm);
  CHECK(config("opt-prenorm-f16").position_offset == 2);
}

}  // namespace
}  // namespace sdq::converter
