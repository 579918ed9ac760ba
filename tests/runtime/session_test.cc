#include "runtime/session.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <limits>

#include "kernels/int8_product.h"
#include "kernels/parallel.h"
#include "tests/runtime/test_model.h"
#include "tests/support/files.h"

namespace sdq {
namespace {

std::unique_ptr<Model> Open(const test::TestModel& model, const test::TemporaryFolder& folder) {
  Result<std::unique_ptr<Model>> opened = test::WriteAndOpen(model, folder / "model.sdq");
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return *std::move(opened);
}

std::unique_ptr<Session> Start(const Model& model, SessionOptions options = {}) {
  Result<std::unique_ptr<Session>> session = Session::Create(model, options);
  INFO(session.status().message());
  REQUIRE(session.ok());
  return *std::move(session);
}

std::vector<float> Copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

bool Mentions(const Status& status, const std::string& text) {
  return status.message().find(text) != std::string::npos;
}

TEST_CASE("session: one call, many calls and AppendAll give the same logits") {
  const test::TemporaryFolder folder;
  const auto model = Open(test::RandomModel(test::LlamaConfig(), 1, true), folder);
  const std::vector<TokenId> tokens = test::RandomTokens(model->config(), 30, 2);
  std::vector<std::vector<float>> one_by_one;
  const auto slow = Start(*model, {0, 1, kernels::KvType::kF16});
  for (size_t i = 0; i < tokens.size(); ++i) {
    REQUIRE(slow->Append({&tokens[i], 1}).ok());
    CHECK(slow->position() == i + 1);
    one_by_one.push_back(Copy(slow->logits()));
  }
  const auto at_once = Start(*model);
  REQUIRE(at_once->Append(tokens).ok());
  CHECK(Copy(at_once->logits()) == one_by_one.back());

  const auto all = Start(*model, {0, 11, kernels::KvType::kF16});
  const std::span<const TokenId> span(tokens);
  REQUIRE(all->Append(span.first(4)).ok());
  size_t calls = 0;
  const auto compare = [&](size_t index, std::span<const float> logits) {
    CHECK(index == calls++);
    CHECK(Copy(logits) == one_by_one[4 + index]);
  };
  REQUIRE(all->AppendAll(span.subspan(4), compare).ok());
  CHECK(calls == 26);
  CHECK(Copy(all->logits()) == one_by_one.back());
}

TEST_CASE("session: truncation forgets later tokens and nothing else") {
  const test::TemporaryFolder folder;
  const auto model = Open(test::RandomModel(test::OptConfig(), 1, true), folder);
  const std::vector<TokenId> first = {1, 2, 3, 4};
  const std::vector<TokenId> more = {9, 8, 7};
  const std::vector<TokenId> other = {5, 6};
  const auto session = Start(*model);
  CHECK(session->logits().empty());
  REQUIRE(session->Append(first).ok());
  const std::vector<float> after_first = Copy(session->logits());
  REQUIRE(session->Append(other).ok());
  const std::vector<float> after_other = Copy(session->logits());

  session->Truncate(100);  // beyond the end: nothing to forget
  CHECK(session->position() == 6);
  CHECK(Copy(session->logits()) == after_other);

  session->Truncate(4);
  CHECK(session->position() == 4);
  CHECK(session->logits().empty());
  REQUIRE(session->Append(more).ok());
  session->Truncate(4);
  REQUIRE(session->Append(other).ok());
  CHECK(Copy(session->logits()) == after_other);

  session->Truncate(0);
  REQUIRE(session->Append(first).ok());
  CHECK(Copy(session->logits()) == after_first);
}

TEST_CASE("session: bad tokens are refused and change nothing") {
  const test::TemporaryFolder folder;
  const auto model = Open(test::RandomModel(test::OptConfig(), 1, true), folder);  // 53 tokens
  const auto session = Start(*model, {10, 4, kernels::KvType::kF16});
  REQUIRE(session->Append(std::vector<TokenId>{1, 2, 3}).ok());
  const std::vector<float> before = Copy(session->logits());
  const auto refused = [&](const std::vector<TokenId>& tokens, StatusCode code,
                           const std::string& text) {
    for (bool all : {false, true}) {
      const Status status =
          all ? session->AppendAll(tokens, [](size_t, std::span<const float>) { FAIL(); })
              : session->Append(tokens);
      INFO(status.message());
      CHECK(status.code() == code);
      CHECK(Mentions(status, text));
      CHECK(session->position() == 3);
      CHECK(Copy(session->logits()) == before);
    }
  };
  refused({}, StatusCode::kInvalidArgument, "no tokens");
  refused({4, 53}, StatusCode::kOutOfRange, "token 1 has id 53");
  refused({-1}, StatusCode::kOutOfRange, "id -1");
  refused({std::numeric_limits<TokenId>::max()}, StatusCode::kOutOfRange, "2147483647");
  refused({std::numeric_limits<TokenId>::min()}, StatusCode::kOutOfRange, "-2147483648");
  refused(std::vector<TokenId>(8, 1), StatusCode::kOutOfRange, "context of 10 tokens is full");
  refused(std::vector<TokenId>(8, 1), StatusCode::kOutOfRange, "up to 64");
}

TEST_CASE("session: the context can be filled to the last position, not further") {
  const test::TemporaryFolder folder;
  const ModelConfig config = GENERATE(test::LlamaConfig(), test::OptConfig());
  const auto model = Open(test::RandomModel(config, 1, true), folder);
  const auto session = Start(*model);
  CHECK(session->context() == 64);
  REQUIRE(session->Append(test::RandomTokens(config, 64, 3)).ok());
  const Status status = session->Append(std::vector<TokenId>{1});
  CHECK(status.code() == StatusCode::kOutOfRange);
  CHECK(Mentions(status, "longest that the model has positions for"));
}

TEST_CASE("session: impossible options are refused") {
  const test::TemporaryFolder folder;
  const auto model = Open(test::RandomModel(test::OptConfig(), 1, true), folder);
  const auto code = [&](size_t context, size_t batch) {
    return Session::Create(*model, {context, batch, kernels::KvType::kF16}).status().code();
  };
  CHECK(code(0, 0) == StatusCode::kInvalidArgument);
  CHECK(code(65, 1) == StatusCode::kOutOfRange);
  CHECK(code(std::numeric_limits<size_t>::max(), 1) == StatusCode::kOutOfRange);
  CHECK(code(1, std::numeric_limits<size_t>::max()) == StatusCode::kOk);
}

TEST_CASE("session: a context too large for the machine is refused, not attempted") {
  ModelConfig config = test::LlamaConfig();
  config.heads = config.kv_heads = 512;
  config.head_dim = 64;
  config.layers = 3;
  config.max_positions = int64_t{1} << 24;
  const test::TemporaryFolder folder;
  const auto model = Open(test::RandomModel(config, 1, false), folder);
  const Status status = Session::Create(*model, {}).status();  // 6.6 TB of KV cache
  INFO(status.message());
  CHECK(status.code() == StatusCode::kResourceExhausted);
  CHECK(Mentions(status, "smaller context"));
  CHECK(Session::Create(*model, {16, 4, kernels::KvType::kF16}).ok());
}

TEST_CASE("session: the memory plan is exact and stays as it was made") {
  const test::TemporaryFolder folder;
  test::TestModel random = test::RandomModel(test::LlamaConfig(), 1, true);
  test::MakeAllStreams(&random);
  const auto model = Open(random, folder);
  kernels::SetThreads(2);
  const auto f16 = Start(*model, {40, 8, kernels::KvType::kF16});
  const auto f32 = Start(*model, {40, 8, kernels::KvType::kF32});
  // 2 layers, keys and values, 40 positions in two blocks of 32, 2 heads of 10.
  CHECK(f16->memory().kv_bytes == 2 * 2 * 64 * 20 * 2);
  CHECK(f32->memory().kv_bytes == 2 * 2 * 64 * 20 * 4);
  const auto q8 = Start(*model, {40, 8, kernels::KvType::kQ8});
  CHECK(q8->memory().kv_bytes == 2 * 2 * 64 * (20 + 2 * 4));  // a scale per head
  CHECK(f16->memory().file_bytes == std::filesystem::file_size(folder / "model.sdq"));
  CHECK(f16->memory().workspace_bytes == f32->memory().workspace_bytes);

  const size_t before = f16->memory().workspace_bytes;
  REQUIRE(f16->Append(test::RandomTokens(model->config(), 30, 1)).ok());
  CHECK(f16->memory().workspace_bytes == before);

  kernels::SetThreads(5);  // more threads need more scratch, and the plan says so
  REQUIRE(f16->Append(test::RandomTokens(model->config(), 2, 1)).ok());
  CHECK(f16->memory().workspace_bytes > before);
  const auto fresh = Start(*model, {40, 8, kernels::KvType::kF16});
  CHECK(f16->memory().workspace_bytes == fresh->memory().workspace_bytes);
  kernels::SetThreads(0);
}

TEST_CASE("session: int8 prefill stays near the exact one, for any thread count") {
  const test::TemporaryFolder folder;
  test::TestModel random = test::RandomModel(test::LlamaConfig(), 1, true);
  test::MakeAllStreams(&random);
  const auto model = Open(random, folder);
  const std::vector<TokenId> tokens = test::RandomTokens(model->config(), 40, 5);
  const auto logits = [&](Prefill prefill, size_t batch, size_t threads) {
    kernels::SetThreads(threads);
    const auto session = Start(*model, {48, batch, kernels::KvType::kF16, prefill});
    const size_t planned = session->memory().workspace_bytes;
    REQUIRE(session->Append(tokens).ok());
    CHECK(session->memory().workspace_bytes == planned);
    return Copy(session->logits());
  };
  const std::vector<float> exact = logits(Prefill::kExact, 40, 1);
  // Steps with too few tokens are computed exactly.
  CHECK(logits(Prefill::kInt8, kernels::kInt8LeastTokens - 1, 1) == exact);
  const std::vector<float> int8 = logits(Prefill::kInt8, 40, 1);
  CHECK(logits(Prefill::kInt8, 40, 3) == int8);
  kernels::SetThreads(0);
  if (!kernels::Int8ProductsAvailable()) {
    CHECK(int8 == exact);
    return;
  }
  CHECK(int8 != exact);
  double error = 0, power = 0, mean = 0;
  for (const float logit : exact) mean += double(logit) / double(exact.size());
  for (size_t i = 0; i < exact.size(); ++i) {
    error += std::pow(double(int8[i]) - double(exact[i]), 2);
    power += std::pow(double(exact[i]) - mean, 2);
  }
  // Each product is off by about 2% of its size in both arithmetics (8-bit rounding of weights and
  // activations, or of sums of four): two layers in sequence, four products each, add up to 6%.
  CHECK(error < 0.06 * 0.06 * power);
}

TEST_CASE("session: an 8-bit KV cache stays near the float one, for any batch and thread count") {
  const test::TemporaryFolder folder;
  const bool llama = GENERATE(true, false);
  const auto model =
      Open(test::RandomModel(llama ? test::LlamaConfig() : test::OptConfig(), 1, false), folder);
  const std::vector<TokenId> tokens = test::RandomTokens(model->config(), 30, 5);
  const auto logits = [&](kernels::KvType kv, size_t batch, size_t threads) {
    kernels::SetThreads(threads);
    const auto session = Start(*model, {40, batch, kv});
    std::vector<float> all;
    const Status status = session->AppendAll(tokens, [&](size_t, std::span<const float> row) {
      all.insert(all.end(), row.begin(), row.end());
    });
    REQUIRE(status.ok());
    kernels::SetThreads(0);
    return all;
  };
  const std::vector<float> exact = logits(kernels::KvType::kF32, 8, 1);
  const std::vector<float> rounded = logits(kernels::KvType::kQ8, 8, 1);
  double error = 0, power = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    error += std::pow(double(rounded[i]) - double(exact[i]), 2);
    power += std::pow(double(exact[i]), 2);
  }
  CHECK(error > 0);
  CHECK(std::sqrt(error / power) < 0.01);
  CHECK(logits(kernels::KvType::kQ8, 1, 1) == rounded);
  CHECK(logits(kernels::KvType::kQ8, 13, 3) == rounded);
}

TEST_CASE("session: several sessions of one model do not disturb each other") {
  const test::TemporaryFolder folder;
  const auto model = Open(test::RandomModel(test::LlamaConfig(), 1, true), folder);
  const auto a = Start(*model);
  const auto b = Start(*model);
  REQUIRE(a->Append(std::vector<TokenId>{1, 2, 3}).ok());
  REQUIRE(b->Append(std::vector<TokenId>{9, 9}).ok());
  REQUIRE(a->Append(std::vector<TokenId>{4}).ok());
  const auto alone = Start(*model);
  REQUIRE(alone->Append(std::vector<TokenId>{1, 2, 3, 4}).ok());
  CHECK(Copy(a->logits()) == Copy(alone->logits()));
}

}  // namespace
}  // namespace sdq
