#include "runtime/sampler.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace sdq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Everything off, and so hot that every token that is left is drawn equally often.
SamplerOptions Uniform() {
  SamplerOptions options;
  options.temperature = 1e9f;
  options.top_k = 0;
  options.top_p = 1.0f;
  options.min_p = 0.0f;
  return options;
}

SamplerOptions Greedy() {
  SamplerOptions options;
  options.temperature = 0.0f;
  return options;
}

std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 3.0f);
  return logits;
}

// Tokens that ever come out.
std::set<TokenId> Support(const SamplerOptions& options, const std::vector<float>& logits,
                          const std::vector<TokenId>& history = {}) {
  Sampler sampler(options, logits.size());
  std::set<TokenId> seen;
  for (int i = 0; i < 2000; ++i) seen.insert(sampler.Sample(logits, history));
  return seen;
}

TokenId Once(const SamplerOptions& options, const std::vector<float>& logits,
             const std::vector<TokenId>& history = {}) {
  return Sampler(options, logits.size()).Sample(logits, history);
}

using Set = std::set<TokenId>;

TEST_CASE("sampler: greedy takes the largest logit, the lowest id of equals") {
  CHECK(Once(Greedy(), {1, 5, 3}) == 1);
  CHECK(Once(Greedy(), {1, 5, 5, 5}) == 1);
  CHECK(Once(Greedy(), {-2, -2}) == 0);
  SamplerOptions negative = Greedy();
  negative.temperature = -1.0f;
  CHECK(Once(negative, {1, 2, 9, 4}) == 2);
}

TEST_CASE("sampler: logits that are not numbers are never chosen") {
  CHECK(Once(Greedy(), {kNan, 1, kNan, 2, kNan}) == 3);
  CHECK(Support(Uniform(), {kNan, 1, kNan, 2, kNan}) == Set{1, 3});
  CHECK(Once(Greedy(), {kNan, kNan}) == Sampler::kNoToken);
  CHECK(Once(Uniform(), {kNan, kNan}) == Sampler::kNoToken);
  CHECK(Once(Greedy(), {}) == Sampler::kNoToken);
}

TEST_CASE("sampler: infinite logits") {
  SamplerOptions options;
  options.top_k = 0;
  CHECK(Support(options, {0, kInfinity, 100}) == Set{1});
  CHECK(Support(Uniform(), {0, -kInfinity, 1}) == Set{0, 2});
  CHECK(Support(options, {-kInfinity, -kInfinity}) == Set{0, 1});
  CHECK(Support(SamplerOptions(), {kInfinity, -kInfinity, kInfinity}) == Set{0, 2});
}

TEST_CASE("sampler: top-k keeps k tokens, equal ones by lowest id") {
  SamplerOptions options = Uniform();
  options.top_k = 3;
  CHECK(Support(options, {0, 7, 1, 9, 8}) == Set{1, 3, 4});
  CHECK(Support(options, {5, 5, 9, 5, 5}) == Set{0, 1, 2});
  options.top_k = 1;
  CHECK(Support(options, {5, 5, 5}) == Set{0});
  options.top_k = 5;
  CHECK(Support(options, {1, 2, 3, 4, 5}) == Set{0, 1, 2, 3, 4});
  options.top_k = 1000;
  CHECK(Support(options, {1, 2, 3}) == Set{0, 1, 2});
  options.top_k = -1;
  CHECK(Support(options, {1, 2, 3}) == Set{0, 1, 2});
}

TEST_CASE("sampler: top-p keeps the shortest sufficient prefix") {
  const std::vector<float> logits = LogitsOf({0.1, 0.5, 0.15, 0.25});
  SamplerOptions options = Uniform();
  const auto support = [&](float p) {
    options.top_p = p;
    return Support(options, logits);
  };
  CHECK(support(0.0f) == Set{1});
  CHECK(support(0.49f) == Set{1});
  CHECK(support(0.51f) == Set{1, 3});
  CHECK(support(0.74f) == Set{1, 3});
  CHECK(support(0.76f) == Set{1, 2, 3});
  CHECK(support(0.91f) == Set{0, 1, 2, 3});
  CHECK(support(1.0f) == Set{0, 1, 2, 3});
}

TEST_CASE("sampler: min-p is relative to the likeliest token") {
  const std::vector<float> logits = LogitsOf({0.1, 0.5, 0.15, 0.25});
  SamplerOptions options = Uniform();
  const auto support = [&](float p) {
    options.min_p = p;
    return Support(options, logits);
  };
  CHECK(support(0.19f) == Set{0, 1, 2, 3});
  CHECK(support(0.21f) == Set{1, 2, 3});
  CHECK(support(0.31f) == Set{1, 3});
  CHECK(support(0.51f) == Set{1});
  CHECK(support(1.0f) == Set{1});
}

TEST_CASE("sampler: top-p counts what top-k left; temperature comes last") {
  const std::vector<float> logits = LogitsOf({0.4, 0.3, 0.2, 0.1});
  SamplerOptions options = Uniform();
  options.top_p = 0.55f;
  options.temperature = 1.0f;
  CHECK(Support(options, logits) == Set{0, 1});
  options.top_k = 2;  // 0.4 and 0.3 become 0.571 and 0.429
  CHECK(Support(options, logits) == Set{0});
  // Applied first, this temperature would flatten the four and let top-p keep three of them.
  options.top_k = 0;
  options.temperature = 1e9f;
  CHECK(Support(options, logits) == Set{0, 1});
}

TEST_CASE("sampler: repeat penalty divides positive and multiplies negative logits, once") {
  SamplerOptions options = Greedy();
  options.repeat_penalty = 2.0f;
  CHECK(Once(options, {4.0f, 3.0f}, {0}) == 1);        // 2 < 3
  CHECK(Once(options, {4.0f, 1.9f}, {0, 0, 0}) == 0);  // 2 > 1.9, whatever the count
  CHECK(Once(options, {-1.0f, -1.9f}, {0}) == 1);      // -2 < -1.9
  CHECK(Once(options, {-1.0f, -2.1f}, {0}) == 0);      // -2 > -2.1
  CHECK(Once(options, {4.0f, 3.0f}, {}) == 0);
  CHECK(Once(options, {4.0f, 3.0f}, {7, -1, 99}) == 0);  // ids that are not there
  options.repeat_penalty = 0.5f;                         // below 1 encourages
  CHECK(Once(options, {4.0f, 3.0f}, {1}) == 1);
}

TEST_CASE("sampler: repeat-last-n bounds the history") {
  SamplerOptions options = Greedy();
  options.repeat_penalty = 2.0f;
  const std::vector<float> logits = {4.0f, 3.0f, 1.0f};
  const std::vector<TokenId> history = {0, 2, 2};
  options.repeat_last_n = 2;
  CHECK(Once(options, logits, history) == 0);
  options.repeat_last_n = 3;
  CHECK(Once(options, logits, history) == 1);
  options.repeat_last_n = 0;
  CHECK(Once(options, logits, history) == 0);
  options.repeat_last_n = -1;
  CHECK(Once(options, logits, history) == 1);
}

TEST_CASE("sampler: the generator is SplitMix64, on every machine") {
  // Published first outputs for seed 0: e220a8..., 6e789e..., 06c45d..., f88bb8...; among four
  // equally likely tokens the two leading bits choose.
  Sampler sampler(Uniform(), 4);
  const std::vector<float> logits = {1, 1, 1, 1};
  std::vector<TokenId> drawn;
  for (int i = 0; i < 4; ++i) drawn.push_back(sampler.Sample(logits, {}));
  CHECK(drawn == std::vector<TokenId>{3, 1, 0, 3});
}

TEST_CASE("sampler: same seed, same tokens; another seed, others") {
  const std::vector<float> logits(1000, 0.0f);
  const auto draw = [&](uint64_t seed) {
    SamplerOptions options = Uniform();
    options.seed = seed;
    Sampler sampler(options, logits.size());
    std::vector<TokenId> drawn;
    for (int i = 0; i < 50; ++i) drawn.push_back(sampler.Sample(logits, {}));
    return drawn;
  };
  CHECK(draw(7) == draw(7));
  CHECK(draw(7) != draw(8));
}

TEST_CASE("sampler: frequencies are the softmax at the temperature") {
  SamplerOptions options = Uniform();
  options.temperature = 2.0f;  // probabilities become proportional to their square roots
  const std::vector<float> logits = LogitsOf({0.64, 0.16, 0.04});
  Sampler sampler(options, logits.size());
  std::map<TokenId, int> counts;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.Sample(logits, {})];
  const double expected[] = {0.8 / 1.4, 0.4 / 1.4, 0.2 / 1.4};
  for (TokenId id = 0; id < 3; ++id) {
    const double p = expected[id];
    const double deviation = std::sqrt(p * (1 - p) / kDraws);
    CHECK(std::abs(counts[id] / double(kDraws) - p) < 4 * deviation);
  }
}

TEST_CASE("sampler: a tiny temperature is greedy, not a division by zero") {
  SamplerOptions options = Uniform();
  options.temperature = 1e-38f;
  CHECK(Support(options, {1, 2, 1.5f}) == Set{1});
}

TEST_CASE("sampler: options out of range are refused by name") {
  CHECK(SamplerOptions().Validate().ok());
  const auto refused = [](auto change, const std::string& name) {
    SamplerOptions options;
    change(&options);
    const Status status = options.Validate();
    INFO(status.message());
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message().find(name) == 0);
  };
  for (float bad : {kNan, kInfinity, -kInfinity}) {
    refused([=](SamplerOptions* o) { o->temperature = bad; }, "temperature");
    refused([=](SamplerOptions* o) { o->top_p = bad; }, "top-p");
    refused([=](SamplerOptions* o) { o->min_p = bad; }, "min-p");
    refused([=](SamplerOptions* o) { o->repeat_penalty = bad; }, "repeat penalty");
  }
  refused([](SamplerOptions* o) { o->top_p = 1.01f; }, "top-p");
  refused([](SamplerOptions* o) { o->top_p = -0.01f; }, "top-p");
  refused([](SamplerOptions* o) { o->min_p = 1.01f; }, "min-p");
  refused([](SamplerOptions* o) { o->min_p = -0.01f; }, "min-p");
  refused([](SamplerOptions* o) { o->repeat_penalty = 0.0f; }, "repeat penalty");
  refused([](SamplerOptions* o) { o->repeat_last_n = -2; }, "repeat-last-n");
}

}  // namespace
}  // namespace sdq
