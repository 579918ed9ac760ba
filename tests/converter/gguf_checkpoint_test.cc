// GGUF files as checkpoints: against the same model in Hugging Face layout, and spoiled ones.
#include "converter/gguf_checkpoint.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numbers>

#include "converter/gguf_config.h"
#include "tests/converter/gguf_builder.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

using Catch::Matchers::Contains;
using test::GgufBuilder;

std::string Data(const std::string& name) {
  return test::BundledModel("../../tests/converter/data/gguf/" + name);
}

std::unique_ptr<Checkpoint> OpenGood(const std::string& path) {
  auto opened = Checkpoint::Open(path);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return *std::move(opened);
}

TEST_CASE("gguf: a file reads as the same model in Hugging Face layout") {
  // data/make_gguf.py made both by the reference package.
  const auto gguf = OpenGood(Data("tiny.gguf"));
  const auto hf = OpenGood(Data("tiny"));
  CHECK(gguf->config() == hf->config());
  std::vector<float> a;
  std::vector<float> b;
  const auto compare = [&](const std::string& name) {
    INFO(name);
    REQUIRE(gguf->Has(name) == hf->Has(name));
    if (!hf->Has(name)) return;
    REQUIRE(gguf->Read(name, &a).ok());
    REQUIRE(hf->Read(name, &b).ok());
    REQUIRE(a.size() == b.size());
    CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
  };
  for (const TensorShape& shape : ExpectedTensors(hf->config())) {
    compare(shape.name);
    if (shape.is_linear) compare(shape.name + ".bias");
  }
  CHECK(gguf->StoredType("embed.tokens") == "q8_0");
  CHECK(gguf->StoredType("head") == "bf16");
  CHECK(gguf->Read("layers.9.attn.q", &a).code() == StatusCode::kNotFound);
  format::Metadata extras;
  gguf->StoreExtras(&extras);
  CHECK(extras.GetString("source.name").value() == "tiny.gguf");
}

// A model of one layer whose tensors hold 0, 1, 2, ...
GgufBuilder SmallModel() {
  GgufBuilder b;
  b.SetText("general.architecture", "llama");
  b.SetInt("llama.context_length", 16);
  b.SetInt("llama.embedding_length", 8);
  b.SetInt("llama.block_count", 1);
  b.SetInt("llama.feed_forward_length", 12);
  b.SetInt("llama.attention.head_count", 2);
  b.SetInt("llama.attention.head_count_kv", 1);
  b.SetReal("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  const auto add = [&b](const std::string& name, const std::vector<uint64_t>& dimensions) {
    std::vector<float> values(dimensions[0] * (dimensions.size() > 1 ? dimensions[1] : 1));
    for (size_t i = 0; i < values.size(); ++i) values[i] = float(i);
    b.AddF32(name, dimensions, values);
  };
  add("token_embd.weight", {8, 10});
  add("output_norm.weight", {8});
  for (const char* norm : {"attn_norm", "ffn_norm"}) add(fmt::format("blk.0.{}.weight", norm), {8});
  add("blk.0.attn_q.weight", {8, 8});
  add("blk.0.attn_k.weight", {8, 4});
  add("blk.0.attn_v.weight", {8, 4});
  add("blk.0.attn_output.weight", {8, 8});
  add("blk.0.ffn_gate.weight", {8, 12});
  add("blk.0.ffn_up.weight", {8, 12});
  add("blk.0.ffn_down.weight", {12, 8});
  return b;
}

Result<std::unique_ptr<Checkpoint>> Open(const GgufBuilder& b) {
  test::TemporaryFolder folder;
  test::WriteBytes(folder / "model", b.Bytes());  // no extension: known by its first bytes
  return Checkpoint::Open(folder / "model");
}

void RequireRefused(const GgufBuilder& b, StatusCode code, const std::string& why) {
  const auto opened = Open(b);
  REQUIRE_FALSE(opened.ok());
  INFO(opened.status().message());
  CHECK(opened.status().code() == code);
  CHECK_THAT(opened.status().message(), Contains(why));
}

TEST_CASE("gguf: rows of q and k return to the order of rotated halves") {
  const auto opened = Open(SmallModel());
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const auto first_column = [&](const std::string& name) {
    std::vector<float> values;
    REQUIRE((*opened)->Read(name, &values).ok());
    std::vector<int> rows;
    for (size_t i = 0; i < values.size(); i += 8) rows.push_back(int(values[i]) / 8);
    return rows;
  };
  CHECK(first_column("layers.0.attn.q") == std::vector<int>{0, 2, 1, 3, 4, 6, 5, 7});
  CHECK(first_column("layers.0.attn.k") == std::vector<int>{0, 2, 1, 3});
  CHECK(first_column("layers.0.attn.v") == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("gguf: without an output tensor the head is tied") {
  GgufBuilder b = SmallModel();
  CHECK((*Open(b))->config().tied_embeddings);
  b.AddF32("output.weight", {8, 10}, std::vector<float>(80, 1.0f));
  CHECK_FALSE((*Open(b))->config().tied_embeddings);
}

TEST_CASE("gguf: a model without tokenizer says so") {
  CHECK((*Open(SmallModel()))->LoadTokenizer().status().code() == StatusCode::kNotFound);
}

TEST_CASE("gguf: a norm's epsilon, theta and linear scaling come from the metadata") {
  GgufBuilder b = SmallModel();
  b.SetReal("llama.rope.freq_base", 500.0f);
  b.SetText("llama.rope.scaling.type", "linear");
  b.SetReal("llama.rope.scaling.factor", 4.0f);
  b.SetInt("tokenizer.ggml.bos_token_id", 3);
  b.SetInt("tokenizer.ggml.eos_token_id", 4);
  b.SetInt("tokenizer.ggml.eot_token_id", 5);
  const ModelConfig config = (*Open(b))->config();
  CHECK(config.norm_eps == double(1e-5f));
  CHECK(config.rope_theta == 500.0);
  CHECK(config.rope_scaling == RopeScaling::kLinear);
  CHECK(config.rope_factor == 4.0);
  CHECK(config.bos_token == 3);
  CHECK(config.eos_tokens == std::vector<int64_t>{4, 5});
  b.Remove("llama.rope.scaling.type");
  b.Remove("llama.rope.scaling.factor");
  b.SetReal("llama.rope.scale_linear", 2.0f);
  CHECK((*Open(b))->config().rope_factor == 2.0);
}

TEST_CASE("gguf: what the runtime does not implement is refused") {
  GgufBuilder b = SmallModel();
  const auto refused = [&b](const std::string& why) {
    RequireRefused(b, StatusCode::kUnsupported, why);
  };
  SECTION("architecture") {
    b.SetText("general.architecture", "gemma");
    refused("architecture 'gemma' (supported: llama)");
  }
  SECTION("adapter") {
    b.SetText("general.type", "adapter");
    refused("expected 'model'");
  }
  SECTION("split file") {
    b.Set("split.count", GgufValueType::kUint16, uint16_t(3));
    refused("merge them");
  }
  SECTION("experts") {
    b.SetInt("llama.expert_count", 8);
    refused("expert_count is 8");
  }
  SECTION("rotary scaling") {
    b.SetText("llama.rope.scaling.type", "yarn");
    refused("'yarn'");
  }
  SECTION("partial rotation") {
    b.SetInt("llama.rope.dimension_count", 2);
    refused("rope.dimension_count is 2 (supported: 4)");
  }
  SECTION("other sizes of values than of keys") {
    b.SetInt("llama.attention.value_length", 2);
    refused("value_length");
  }
  SECTION("heads that differ between layers") {
    b.SetArray<uint32_t>("llama.attention.head_count_kv", GgufValueType::kUint32, {1, 2});
    refused("differs between layers");
  }
  SECTION("tensor without a place") {
    b.AddF32("blk.0.attn_sinks.weight", {2}, {1, 2});
    refused("'blk.0.attn_sinks.weight' has no place");
  }
}

TEST_CASE("gguf: models that contradict themselves are refused") {
  GgufBuilder b = SmallModel();
  const auto refused = [&b](StatusCode code, const std::string& why) {
    RequireRefused(b, code, why);
  };
  SECTION("no heads") {
    b.SetInt("llama.attention.head_count", 0);
    refused(StatusCode::kCorrupt, "head_count is 0");
  }
  SECTION("heads not divisible by KV heads") {
    b.SetInt("llama.attention.head_count_kv", 3);
    refused(StatusCode::kCorrupt, "kv_heads");
  }
  SECTION("odd rotary dimension") {
    b.SetInt("llama.attention.key_length", 3);
    b.SetInt("llama.attention.value_length", 3);
    b.SetInt("llama.rope.dimension_count", 3);
    refused(StatusCode::kCorrupt, "head_dim");
  }
  SECTION("key of the wrong type") {
    b.SetText("llama.block_count", "1");
    refused(StatusCode::kCorrupt, "'llama.block_count' is string, expected an integer");
  }
  SECTION("missing key") {
    b.Remove("llama.context_length");
    refused(StatusCode::kNotFound, "llama.context_length");
  }
  SECTION("vocabulary of another size") {
    b.SetInt("llama.vocab_size", 11);
    refused(StatusCode::kCorrupt, "token_embd.weight has 10 rows");
  }
  SECTION("no embedding") {
    b.tensors.front().name = "other";
    refused(StatusCode::kNotFound, "token_embd.weight");
  }
  SECTION("missing tensor") {
    b.tensors.back().name = "other";
    refused(StatusCode::kNotFound, "'blk.0.ffn_down.weight' is missing");
  }
  SECTION("shape") {
    b.tensors.back().dimensions = {8, 12};
    refused(StatusCode::kCorrupt, "shape [8, 12], the metadata expects [12, 8]");
  }
  SECTION("fewer layers than tensors") {
    b.AddF32("blk.1.attn_norm.weight", {8}, std::vector<float>(8, 1.0f));
    refused(StatusCode::kCorrupt, "layer 1, but the metadata says 1 layers");
  }
  SECTION("end token outside of the vocabulary") {
    b.SetInt("tokenizer.ggml.eos_token_id", 10);
    refused(StatusCode::kCorrupt, "eos");
  }
}

// Divisors of LLaMA 3.1 by its reference code.
std::vector<float> Llama31Divisors(size_t head_dim, double theta, double factor, double original) {
  std::vector<float> divisors;
  for (size_t i = 0; i < head_dim; i += 2) {
    const double wavelength = 2 * std::numbers::pi * std::pow(theta, double(i) / double(head_dim));
    if (wavelength < original / 4) {
      divisors.push_back(1.0f);
    } else if (wavelength > original) {
      divisors.push_back(float(factor));
    } else {
      const double smooth = (original / wavelength - 1) / 3;
      divisors.push_back(float(1 / ((1 - smooth) / factor + smooth)));
    }
  }
  return divisors;
}

ModelConfig RopeConfig(int64_t head_dim, double theta) {
  ModelConfig config;
  config.head_dim = head_dim;
  config.rope_theta = theta;
  return config;
}

TEST_CASE("gguf: divisors of rotary frequencies give back the scaling they came from") {
  ModelConfig config = RopeConfig(128, 500000.0);
  const double factor = GENERATE(8.0, 32.0);
  REQUIRE(RopeScalingFromDivisors(Llama31Divisors(128, 500000.0, factor, 8192), &config).ok());
  CHECK(config.rope_scaling == RopeScaling::kLlama3);
  CHECK(config.rope_factor == factor);
  CHECK(config.rope_low_freq_factor == 1.0);
  CHECK(config.rope_high_freq_factor == 4.0);
  CHECK(config.rope_original_positions == 8192);
}

TEST_CASE("gguf: divisors that step without a blend are recognized too") {
  ModelConfig config = RopeConfig(4, 1e6);
  const auto divisors = Llama31Divisors(4, 1e6, 8, 1024);
  REQUIRE(divisors == std::vector<float>{1, 8});
  REQUIRE(RopeScalingFromDivisors(divisors, &config).ok());
  CHECK(config.rope_scaling == RopeScaling::kLlama3);
}

TEST_CASE("gguf: equal divisors are linear scaling, ones are none, others are refused") {
  ModelConfig config = RopeConfig(8, 10000.0);
  REQUIRE(RopeScalingFromDivisors(std::vector<float>(4, 1.0f), &config).ok());
  CHECK(config.rope_scaling == RopeScaling::kNone);
  REQUIRE(RopeScalingFromDivisors(std::vector<float>(4, 2.5f), &config).ok());
  CHECK(config.rope_scaling == RopeScaling::kLinear);
  CHECK(config.rope_factor == 2.5);
  config = RopeConfig(8, 10000.0);
  CHECK(RopeScalingFromDivisors(std::vector<float>{1, 4, 2, 8}, &config).code() ==
        StatusCode::kUnsupported);
  CHECK(RopeScalingFromDivisors(std::vector<float>{1, 1, 0, 8}, &config).code() ==
        StatusCode::kUnsupported);
  CHECK(config.rope_scaling == RopeScaling::kNone);
}

}  // namespace
}  // namespace sdq::converter
