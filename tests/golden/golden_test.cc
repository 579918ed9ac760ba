// Whole models against the reference implementation (Hugging Face transformers): float conversion
// of a checkpoint, logits of a fixed prompt, and the greedy continuation.
//
// A checkpoint's folder has ref.json (prompt_ids, greedy_ids_from_first_N) and may have float32
// logits of the prompt: ref_logits.f32 (all rows) or ref_logits_lastK.f32 (the last K). Those of
// the tiny models hold within 2e-3 standard deviations (the 16-bit LLaMA ones were made with rotary
// frequencies rounded to 16 bits, the others are within 1e-5), those of stories15m within 1e-5.
//
// Those of stories-llama-5m, stories-opt-6m and wiki-opt-31m are not the logits of the stored
// weights: the reference implementation in float32 and in float64 agrees with itself to 1e-5 and
// differs from them by 3e-3, 7e-3 and 1e-2. So no test compares with them. The first two are held
// to logits that the reference implementation made afresh (data/README.md), and these, wiki-opt-31m
// and the tiny ones also to a float64 evaluation of the weights that shares no code with the
// runtime.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "runtime/sampler.h"
#include "runtime/session.h"
#include "tests/kernels/stream_fixture.h"
#include "tests/runtime/test_model.h"
#include "tests/support/files.h"

namespace sdq {
namespace {

namespace fs = std::filesystem;

struct Expected {
  std::vector<TokenId> prompt;
  std::vector<TokenId> continuation;  // begins with the first tokens of the prompt
  size_t given = 0;                   // how many of them
};

Expected ReadExpected(const std::string& folder) {
  Expected expected;
  const std::vector<uint8_t> text = test::ReadBytes(folder + "/ref.json");
  const nlohmann::json json = nlohmann::json::parse(text);
  expected.prompt = json.at("prompt_ids").get<std::vector<TokenId>>();
  const std::string key = "greedy_ids_from_first_";
  for (const auto& [name, value] : json.items()) {
    if (!name.starts_with(key)) continue;
    expected.given = std::stoul(name.substr(key.size()));
    expected.continuation = value.get<std::vector<TokenId>>();
  }
  return expected;
}

std::vector<float> ReadLogits(const std::string& path) {
  const std::vector<uint8_t> bytes = test::ReadBytes(path);
  std::vector<float> logits(bytes.size() / sizeof(float));
  std::memcpy(logits.data(), bytes.data(), logits.size() * sizeof(float));
  return logits;
}

// Those in the checkpoint's folder.
std::vector<float> StoredLogits(const std::string& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (!entry.path().filename().string().starts_with("ref_logits")) continue;
    return ReadLogits(entry.path().string());
  }
  return {};
}

std::unique_ptr<Model> ConvertToFloat(const std::string& checkpoint_folder,
                                      const std::string& path) {
  const auto checkpoint = converter::Checkpoint::Open(checkpoint_folder);
  INFO(checkpoint.status().message());
  REQUIRE(checkpoint.ok());
  converter::ConvertOptions options;
  options.method = converter::Method::kFloat;
  const auto report = converter::Convert(**checkpoint, options, path, nullptr);
  INFO(report.status().message());
  REQUIRE(report.ok());
  Result<std::unique_ptr<Model>> model = Model::Open(path);
  INFO(model.status().message());
  REQUIRE(model.ok());
  return *std::move(model);
}

std::unique_ptr<Session> Start(const Model& model, size_t batch, kernels::KvType kv) {
  Result<std::unique_ptr<Session>> session = Session::Create(model, {0, batch, kv});
  INFO(session.status().message());
  REQUIRE(session.ok());
  return *std::move(session);
}

// Largest error of the logits of `tokens`' last positions, in standard deviations of the expected
// ones ([rows][vocabulary]).
template <typename Real>
double LogitError(const Model& model, const std::vector<TokenId>& tokens,
                  const std::vector<Real>& expected) {
  const size_t vocab = size_t(model.config().vocab_size);
  const size_t rows = expected.size() / vocab;
  REQUIRE(rows * vocab == expected.size());
  REQUIRE(rows > 0);
  REQUIRE(rows <= tokens.size());
  const size_t first = tokens.size() - rows;
  double worst = 0;
  const auto compare = [&](size_t index, std::span<const float> logits) {
    if (index < first) return;
    const Real* reference = expected.data() + (index - first) * vocab;
    for (size_t i = 0; i < vocab; ++i) {
      const double error = std::abs(double(logits[i]) - double(reference[i]));
      worst = error <= worst ? worst : error;  // a NaN sticks
    }
  };
  const auto session = Start(model, 13, kernels::KvType::kF32);
  REQUIRE(session->AppendAll(tokens, compare).ok());

  double mean = 0, square = 0;
  for (Real v : expected) mean += double(v) / double(expected.size());
  for (Real v : expected) {
    square += (double(v) - mean) * (double(v) - mean) / double(expected.size());
  }
  return worst / std::sqrt(square);
}

std::vector<TokenId> Continue(const Model& model, const Expected& expected, kernels::KvType kv) {
  SamplerOptions greedy;
  greedy.temperature = 0.0f;
  const size_t vocab = size_t(model.config().vocab_size);
  Sampler sampler(greedy, vocab);
  const auto session = Start(model, 64, kv);
  std::vector<TokenId> tokens(expected.continuation.begin(),
                              expected.continuation.begin() + std::ptrdiff_t(expected.given));
  Status status = session->Append(tokens);
  while (status.ok() && tokens.size() < expected.continuation.size()) {
    tokens.push_back(sampler.Sample(session->logits(), tokens));
    status = session->Append({&tokens.back(), 1});
  }
  INFO(status.message());
  CHECK(status.ok());
  return tokens;
}

// `logits`: of the last positions of the prompt, by the reference implementation.
void CheckModel(const std::string& folder, const std::vector<float>& logits, double bound) {
  const Expected expected = ReadExpected(folder);
  REQUIRE(expected.given > 0);
  REQUIRE(expected.continuation.size() > expected.given);
  const test::TemporaryFolder temporary;
  const auto model = ConvertToFloat(folder, temporary / "float.sdq");
  const double error = LogitError(*model, expected.prompt, logits);
  UNSCOPED_INFO("largest logit error / standard deviation: " << error);
  CHECK(error <= bound);
  CHECK(Continue(*model, expected, kernels::KvType::kF32) == expected.continuation);
  CHECK(Continue(*model, expected, kernels::KvType::kF16) == expected.continuation);
}

// The weights of a checkpoint for the float64 reference.
test::TestModel LoadWeights(const std::string& folder) {
  const auto checkpoint = converter::Checkpoint::Open(folder);
  INFO(checkpoint.status().message());
  REQUIRE(checkpoint.ok());
  test::TestModel model;
  model.config = (*checkpoint)->config();
  for (const TensorShape& shape : ExpectedTensors(model.config)) {
    INFO(shape.name);
    test::TestTensor& tensor = model.tensors[shape.name];
    tensor.rows = uint32_t(shape.rows);
    tensor.columns = uint32_t(shape.columns);
    if ((*checkpoint)->Has(shape.name)) {
      REQUIRE((*checkpoint)->Read(shape.name, &tensor.values).ok());
    } else {
      REQUIRE(shape.name.ends_with(".bias"));
      tensor.values.resize(size_t(shape.columns));
    }
    if (!shape.is_linear || !(*checkpoint)->Has(shape.name + ".bias")) continue;
    REQUIRE((*checkpoint)->Read(shape.name + ".bias", &tensor.bias).ok());
  }
  return model;
}

constexpr size_t kFloat64Tokens = 24;  // the plain code is slow

void CheckAgainstFloat64(const Model& model, const std::string& folder) {
  std::vector<TokenId> tokens = ReadExpected(folder).prompt;
  tokens.resize(std::min(tokens.size(), kFloat64Tokens));
  const double error =
      LogitError(model, tokens, test::ReferenceLogits(LoadWeights(folder), tokens));
  UNSCOPED_INFO("largest logit error / standard deviation: " << error);
  CHECK(error <= 1e-4);
}

void ConvertAndCheckAgainstFloat64(const std::string& folder) {
  const test::TemporaryFolder temporary;
  CheckAgainstFloat64(*ConvertToFloat(folder, temporary / "float.sdq"), folder);
}

constexpr std::array kBundled = {"stories-llama-5m", "stories-opt-6m"};
constexpr std::array kTiny = {"llama-mha-untied-f32",
                              "llama-gqa-tied-bf16",
                              "llama-mqa-f16-sharded",
                              "llama-bias",
                              "llama-rope-linear",
                              "llama-headdim-odd-ratio",
                              "llama3-rope-scaled",
                              "opt-prenorm-f16",
                              "opt-350m-like-postnorm-proj",
                              "opt-proj-bf16-sharded",
                              "opt-no-bias"};

TEST_CASE("golden: bundled models equal the reference in float mode") {
  const test::KernelState one_thread;
  const std::string name = GENERATE(from_range(kBundled));
  INFO(name);
  const std::string logits = std::string(SDQ_GOLDEN_DATA) + "/" + name + ".last8.f32";
  CheckModel(test::BundledModel(name), ReadLogits(logits), 1e-4);
}

TEST_CASE("golden: bundled models equal a float64 evaluation") {
  const test::KernelState one_thread;
  const std::string name = GENERATE(from_range(kBundled));
  INFO(name);
  ConvertAndCheckAgainstFloat64(test::BundledModel(name));
}

TEST_CASE("golden: tiny checkpoints of every shape equal the reference in float mode") {
  const test::KernelState one_thread;
  const std::string name = GENERATE(from_range(kTiny));
  SDQ_NEEDS_SHARED(folder, "golden/tiny/" + name);
  INFO(name);
  CheckModel(folder, StoredLogits(folder), 2e-3);
}

TEST_CASE("golden: tiny checkpoints of every shape equal a float64 evaluation") {
  const test::KernelState one_thread;
  const std::string name = GENERATE(from_range(kTiny));
  SDQ_NEEDS_SHARED(folder, "golden/tiny/" + name);
  INFO(name);
  ConvertAndCheckAgainstFloat64(folder);
}

TEST_CASE("golden: stories15m equals the reference in float mode") {
  const test::KernelState one_thread;
  SDQ_NEEDS_SHARED(folder, "models/stories15m");
  CheckModel(folder, StoredLogits(folder), 1e-4);
}

TEST_CASE("golden: wiki-opt-31m equals a float64 evaluation and continues as the reference") {
  const test::KernelState one_thread;
  SDQ_NEEDS_SHARED(folder, "models/wiki-opt-31m");
  const Expected expected = ReadExpected(folder);
  const test::TemporaryFolder temporary;
  const auto model = ConvertToFloat(folder, temporary / "float.sdq");
  CheckAgainstFloat64(*model, folder);
  CHECK(Continue(*model, expected, kernels::KvType::kF32) == expected.continuation);
  CHECK(Continue(*model, expected, kernels::KvType::kF16) == expected.continuation);
}

}  // namespace
}  // namespace sdq
