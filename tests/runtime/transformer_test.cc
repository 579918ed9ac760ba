#include "runtime/transformer.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numbers>

#include "kernels/parallel.h"
#include "runtime/session.h"
#include "tests/runtime/test_model.h"
#include "tests/support/files.h"

namespace sdq {
namespace {

using test::TestModel;

// All logits, [tokens][vocab], evaluated `batch` tokens at a time.
std::vector<float> AllLogits(const Model& model, const std::vector<TokenId>& tokens, size_t batch,
                             kernels::KvType kv) {
  Result<std::unique_ptr<Session>> session = Session::Create(model, {0, batch, kv});
  INFO(session.status().message());
  REQUIRE(session.ok());
  std::vector<float> all;
  const Status status =
      (*session)->AppendAll(tokens, [&](size_t index, std::span<const float> logits) {
        CHECK(index * logits.size() == all.size());
        all.insert(all.end(), logits.begin(), logits.end());
      });
  INFO(status.message());
  REQUIRE(status.ok());
  return all;
}

struct Difference {
  double max = 0;
  double rms = 0;
};

// In units of the reference's standard deviation.
Difference Compare(const std::vector<float>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  double mean = 0, square = 0;
  for (double v : expected) mean += v / double(expected.size());
  for (double v : expected) square += (v - mean) * (v - mean) / double(expected.size());
  Difference d;
  for (size_t i = 0; i < found.size(); ++i) {
    const double error = std::abs(double(found[i]) - expected[i]);
    d.max = error <= d.max ? d.max : error;  // a NaN sticks
    d.rms += error * error / double(found.size());
  }
  return {d.max / std::sqrt(square), std::sqrt(d.rms / square)};
}

std::unique_ptr<Model> OpenOrFail(const TestModel& model, const std::string& path) {
  Result<std::unique_ptr<Model>> opened = test::WriteAndOpen(model, path);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return *std::move(opened);
}

void CheckAgainstReference(const TestModel& model) {
  const test::TemporaryFolder folder;
  const std::unique_ptr<Model> opened = OpenOrFail(model, folder / "model.sdq");
  const std::vector<TokenId> tokens = test::RandomTokens(model.config, 40, 5);
  const std::vector<float> logits = AllLogits(*opened, tokens, 16, kernels::KvType::kF32);
  const Difference d = Compare(logits, test::ReferenceLogits(model, tokens));
  INFO("max " << d.max << " rms " << d.rms);
  CHECK(d.max < 2e-5);
}

TEST_CASE("transformer: llama equals a float64 reference") {
  ModelConfig config = test::LlamaConfig();
  SECTION("llama3 scaling, biases, untied") {
    CheckAgainstReference(test::RandomModel(config, 1, true));
  }
  SECTION("linear scaling, tied") {
    config.rope_scaling = RopeScaling::kLinear;
    config.rope_factor = 4.0;
    config.tied_embeddings = true;
    CheckAgainstReference(test::RandomModel(config, 2, false));
  }
  SECTION("no scaling, one KV head") {
    config.rope_scaling = RopeScaling::kNone;
    config.kv_heads = 1;
    CheckAgainstReference(test::RandomModel(config, 3, false));
  }
}

TEST_CASE("transformer: opt equals a float64 reference") {
  SECTION("pre-norm, tied, biases") {
    CheckAgainstReference(test::RandomModel(test::OptConfig(), 4, true));
  }
  SECTION("post-norm, projections, no final norm, GELU") {
    CheckAgainstReference(test::RandomModel(test::PostNormOptConfig(), 5, true));
  }
  SECTION("pre-norm with projections, untied, no biases") {
    ModelConfig config = test::OptConfig();
    config.embed_size = 24;
    config.tied_embeddings = false;
    CheckAgainstReference(test::RandomModel(config, 6, false));
  }
}

TEST_CASE("transformer: norm biases may be absent") {
  TestModel model = test::RandomModel(test::OptConfig(), 4, true);
  TestModel without = model;
  for (auto& [name, tensor] : model.tensors) {
    if (!name.ends_with("norm.bias")) continue;
    tensor.values.assign(tensor.values.size(), 0.0f);
    without.tensors.erase(name);
  }
  const test::TemporaryFolder folder;
  const std::vector<TokenId> tokens = test::RandomTokens(model.config, 9, 5);
  const auto logits = [&](const TestModel& m, const char* name) {
    return AllLogits(*OpenOrFail(m, folder / name), tokens, 16, kernels::KvType::kF32);
  };
  CHECK(logits(model, "zeros.sdq") == logits(without, "absent.sdq"));
}

TEST_CASE("transformer: bitstreams equal the reference with the weights that they stand for") {
  for (const ModelConfig& config : {test::LlamaConfig(), test::OptConfig()}) {
    TestModel model = test::RandomModel(config, 7, true);
    test::MakeAllStreams(&model);
    const test::TemporaryFolder folder;
    const std::unique_ptr<Model> opened = OpenOrFail(model, folder / "model.sdq");
    test::FillFromFile(*opened, &model);
    const std::vector<TokenId> tokens = test::RandomTokens(config, 40, 5);
    const std::vector<float> logits = AllLogits(*opened, tokens, 16, kernels::KvType::kF32);
    const Difference d = Compare(logits, test::ReferenceLogits(model, tokens));
    INFO("max " << d.max << " rms " << d.rms);
    CHECK(d.rms < 0.03);  // activations have 8 bits
  }
}

TEST_CASE("transformer: bitstream embeddings and heads equal the reference with their weights") {
  ModelConfig projected = test::OptConfig();
  projected.embed_size = 24;
  projected.tied_embeddings = false;
  ModelConfig tied = test::LlamaConfig();
  tied.tied_embeddings = true;
  for (const ModelConfig& config : {test::LlamaConfig(), tied, test::OptConfig(), projected}) {
    TestModel model = test::RandomModel(config, 7, true);
    test::MakeStream(&model.tensors.at("embed.tokens"), 5, 2, 11);
    if (!config.tied_embeddings) test::MakeStream(&model.tensors.at("head"), 4, 1, 12);
    const test::TemporaryFolder folder;
    const std::unique_ptr<Model> opened = OpenOrFail(model, folder / "model.sdq");
    const ModelWeights& weights = opened->weights();
    REQUIRE(weights.embed_tokens.is_stream());
    REQUIRE(weights.head.is_stream());
    CHECK((weights.head.stream.bits == weights.embed_tokens.stream.bits) == config.tied_embeddings);
    test::FillFromFile(*opened, &model);
    const std::vector<TokenId> tokens = test::RandomTokens(config, 40, 5);
    const std::vector<float> logits = AllLogits(*opened, tokens, 16, kernels::KvType::kF32);
    const Difference d = Compare(logits, test::ReferenceLogits(model, tokens));
    INFO("max " << d.max << " rms " << d.rms);
    CHECK(d.rms < 0.03);  // the head's inputs have 8 bits
  }
}

TEST_CASE("transformer: a row of a bitstream table does not depend on which others are read") {
  TestModel model = test::RandomModel(test::OptConfig(), 3, true);
  test::MakeStream(&model.tensors.at("embed.tokens"), 5, 2, 11);
  const test::TemporaryFolder folder;
  const std::unique_ptr<Model> opened = OpenOrFail(model, folder / "model.sdq");
  const Linear& table = opened->weights().embed_tokens;
  std::vector<float> whole(table.rows * table.columns);
  kernels::ReconstructRows(table.stream, *table.map, 0, table.rows, whole.data());
  for (size_t r = 0; r < table.rows; ++r) {
    std::vector<float> row(table.columns);
    Row(table, r, row.data());
    CHECK(std::equal(row.begin(), row.end(), &whole[r * table.columns]));
  }
}

TEST_CASE("transformer: maps are shared by linears with equal parameters") {
  TestModel model = test::RandomModel(test::LlamaConfig(), 7, false);
  test::MakeAllStreams(&model);
  const test::TemporaryFolder folder;
  const std::unique_ptr<Model> opened = OpenOrFail(model, folder / "model.sdq");
  const std::vector<LayerWeights>& layers = opened->weights().layers;
  CHECK(layers[0].q.map == layers[0].v.map);
  CHECK(layers[0].q.map != layers[0].k.map);
  CHECK(layers[0].q.map == layers[1].q.map);
  CHECK(layers[0].gate.map == layers[1].up.map);
  CHECK(layers[0].o.map != layers[0].q.map);  // another width
  CHECK(opened->maps().size() == 5);
}

TEST_CASE("transformer: logits do not depend on batch size or threads, bit for bit") {
  const bool streams = GENERATE(false, true);
  const kernels::KvType kv = streams ? kernels::KvType::kF16 : kernels::KvType::kF32;
  for (const ModelConfig& config :
       {test::LlamaConfig(), test::OptConfig(), test::PostNormOptConfig()}) {
    TestModel model = test::RandomModel(config, 8, true);
    for (auto& [name, tensor] : model.tensors) {
      if (tensor.rows > 1) tensor.type = format::DenseType::kF16;
    }
    if (streams) test::MakeAllStreams(&model);
    const test::TemporaryFolder folder;
    const std::unique_ptr<Model> opened = OpenOrFail(model, folder / "model.sdq");
    const std::vector<TokenId> tokens = test::RandomTokens(config, 33, 6);
    kernels::SetThreads(1);
    const std::vector<float> expected = AllLogits(*opened, tokens, 1, kv);
    const std::pair<size_t, size_t> ways[] = {{1, 7}, {1, 64}, {2, 1}, {2, 64}, {5, 7}, {5, 64}};
    for (const auto& [threads, batch] : ways) {
      kernels::SetThreads(threads);
      const std::vector<float> found = AllLogits(*opened, tokens, batch, kv);
      INFO("threads " << threads << " batch " << batch);
      REQUIRE(found.size() == expected.size());
      CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
    }
    kernels::SetThreads(0);
  }
}

TEST_CASE("transformer: the tap sees every linear's input before it runs") {
  TestModel model = test::RandomModel(test::LlamaConfig(), 9, true);
  const test::TemporaryFolder folder;
  const std::unique_ptr<Model> opened = OpenOrFail(model, folder / "model.sdq");
  const ModelConfig& config = opened->config();
  const LayerWeights& layer = opened->weights().layers[0];
  const size_t width = size_t(config.kv_heads * config.head_dim);
  const size_t positions = kernels::kKeyBlock;
  std::vector<float> keys(positions * width), values(positions * width);
  std::vector<float> hidden(8 * size_t(config.hidden_size), 0.5f);
  for (size_t i = 0; i < hidden.size(); ++i) hidden[i] += 0.1f * float(i % 7);
  BlockWorkspace workspace(config, 8, 8, opened->maps());
  CHECK(workspace.bytes() == BlockWorkspace::PlanBytes(config, 8, 8, opened->maps()));
  std::vector<std::string> names;
  std::map<std::string, std::vector<float>> inputs;
  const LinearTap tap = [&](const Linear& linear, const float* x, size_t tokens, size_t stride) {
    names.push_back(linear.name);
    CHECK(tokens == 3);
    CHECK(stride == linear.columns);
    inputs[linear.name].assign(x, x + tokens * stride);
    return true;
  };
  RunBlock(config, layer, {keys.data(), values.data(), kernels::KvType::kF32, positions},
           RotaryTable(config, 8), 0, 3, hidden.data(), workspace, tap);
  CHECK(names == std::vector<std::string>{"layers.0.attn.q", "layers.0.attn.k", "layers.0.attn.v",
                                          "layers.0.attn.o", "layers.0.ffn.gate", "layers.0.ffn.up",
                                          "layers.0.ffn.down"});
  CHECK(inputs["layers.0.attn.q"] == inputs["layers.0.attn.v"]);
  // The values in the cache, head after head, are v's product with the input that the tap saw.
  std::vector<float> product(3 * width);
  kernels::DenseProduct(layer.v.dense, inputs["layers.0.attn.v"].data(), 3,
                        size_t(config.hidden_size), product.data(), width);
  const size_t dim = size_t(config.head_dim);
  for (size_t i = 0; i < product.size(); ++i) {
    const size_t position = i / width, head = i % width / dim;
    CHECK(values[(head * positions + position) * dim + i % dim] == product[i]);
  }
}

TEST_CASE("rotary: plain angles are position times theta^(-2i/d)") {
  ModelConfig config = test::LlamaConfig();
  config.rope_scaling = RopeScaling::kNone;
  config.head_dim = 4;
  config.rope_theta = 100.0;
  const std::vector<float> table = RotaryTable(config, 3);
  REQUIRE(table.size() == 12);
  CHECK(std::vector<float>(table.begin(), table.begin() + 4) == std::vector<float>{1, 1, 0, 0});
  CHECK(table[8] == Approx(std::cos(2.0)));
  CHECK(table[9] == Approx(std::cos(0.2)));
  CHECK(table[10] == Approx(std::sin(2.0)));
  CHECK(table[11] == Approx(std::sin(0.2)));
  CHECK(RotaryTable(test::OptConfig(), 3).empty());
}

TEST_CASE("rotary: llama3 keeps fast pairs, slows slow ones by the factor, blends between") {
  ModelConfig config = test::LlamaConfig();
  config.head_dim = 6;
  config.rope_theta = 1000.0;  // frequencies 1, 0.1, 0.01
  config.rope_factor = 8.0;
  config.rope_low_freq_factor = 1.0;
  config.rope_high_freq_factor = 4.0;
  // Wavelengths 6.28, 62.8, 628 against borders 200/4 = 50 and 200/1 = 200.
  config.rope_original_positions = 200;
  const std::vector<float> table = RotaryTable(config, 2);
  const double smooth = (200 * 0.1 / (2 * std::numbers::pi) - 1) / 3;
  CHECK(table[6 + 3] == Approx(std::sin(1.0)));
  CHECK(table[6 + 4] == Approx(std::sin(0.1 * (smooth + (1 - smooth) / 8))));
  CHECK(table[6 + 5] == Approx(std::sin(0.01 / 8)));
}

}  // namespace
}  // namespace sdq
