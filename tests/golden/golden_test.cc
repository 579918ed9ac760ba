// Whole models against the reference implementation: float conversion of a checkpoint, logits of a
// fixed prompt, and the greedy continuation.
//
// A folder has ref.json (prompt_ids, greedy_ids_from_first_N) and float32 logits of the prompt:
// ref_logits.f32 (all rows) or ref_logits_lastK.f32 (the last K).
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "runtime/sampler.h"
#include "runtime/session.h"
#include "tests/support/files.h"

namespace sdq {
namespace {

namespace fs = std::filesystem;

struct Expected {
  std::vector<TokenId> prompt;
  std::vector<TokenId> continuation;  // begins with the first tokens of the prompt
  size_t given = 0;                   // how many of them
  std::vector<float> logits;          // the last rows
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
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (!entry.path().filename().string().starts_with("ref_logits")) continue;
    const std::vector<uint8_t> bytes = test::ReadBytes(entry.path().string());
    expected.logits.resize(bytes.size() / sizeof(float));
    std::memcpy(expected.logits.data(), bytes.data(), bytes.size());
  }
  return expected;
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

// Largest error of the prompt's last rows, in standard deviations of the reference logits.
double LogitError(const Model& model, const Expected& expected) {
  const size_t vocab = size_t(model.config().vocab_size);
  const size_t rows = expected.logits.size() / vocab;
  REQUIRE(rows * vocab == expected.logits.size());
  REQUIRE(rows > 0);
  REQUIRE(rows <= expected.prompt.size());
  const size_t first = expected.prompt.size() - rows;
  double worst = 0;
  const auto compare = [&](size_t index, std::span<const float> logits) {
    if (index < first) return;
    const float* reference = expected.logits.data() + (index - first) * vocab;
    for (size_t i = 0; i < vocab; ++i) {
      const double error = std::abs(double(logits[i]) - double(reference[i]));
      worst = error <= worst ? worst : error;  // a NaN sticks
    }
  };
  const auto session = Start(model, 13, kernels::KvType::kF32);
  REQUIRE(session->AppendAll(expected.prompt, compare).ok());

  double mean = 0, square = 0;
  for (float v : expected.logits) mean += double(v) / double(expected.logits.size());
  for (float v : expected.logits) {
    square += (double(v) - mean) * (double(v) - mean) / double(expected.logits.size());
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

void CheckModel(const std::string& folder) {
  const Expected expected = ReadExpected(folder);
  REQUIRE(expected.given > 0);
  REQUIRE(expected.continuation.size() > expected.given);
  const test::TemporaryFolder temporary;
  const auto model = ConvertToFloat(folder, temporary / "float.sdq");
  const double error = LogitError(*model, expected);
  UNSCOPED_INFO("largest logit error / standard deviation: " << error);
  CHECK(error <= 2e-3);
  CHECK(Continue(*model, expected, kernels::KvType::kF32) == expected.continuation);
  CHECK(Continue(*model, expected, kernels::KvType::kF16) == expected.continuation);
}

TEST_CASE("golden: bundled models equal the reference in float mode") {
  const char* name = GENERATE("stories-llama-5m", "stories-opt-6m");
  INFO(name);
  CheckModel(test::BundledModel(name));
}

TEST_CASE("golden: tiny checkpoints of every shape equal the reference in float mode") {
  const char* name = GENERATE(
      "llama-mha-untied-f32", "llama-gqa-tied-bf16", "llama-mqa-f16-sharded", "llama-bias",
      "llama-headdim-odd-ratio", "llama-rope-linear", "llama3-rope-scaled", "opt-prenorm-f16",
      "opt-350m-like-postnorm-proj", "opt-no-bias", "opt-proj-bf16-sharded");
  SDQ_NEEDS_SHARED(folder, std::string("golden/tiny/") + name);
  INFO(name);
  CheckModel(folder);
}

TEST_CASE("golden: real models equal the reference in float mode") {
  const char* name = GENERATE("stories15m", "wiki-opt-31m");
  SDQ_NEEDS_SHARED(folder, std::string("models/") + name);
  INFO(name);
  CheckModel(folder);
}

}  // namespace
}  // namespace sdq
