// The search itself: optimal where it can be, equal to a plain implementation, deterministic.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <string>

#include "converter/trellis.h"
#include "kernels/dispatch.h"
#include "kernels/parallel.h"
#include "tests/converter/trellis_support.h"

namespace sdq::test {
namespace {

using converter::EncodeRows;
using converter::FactorHessian;
using converter::Feedback;
using converter::Trellis;
using format::DecimatorSpec;

struct Encoded {
  std::vector<int8_t> samples;
  std::vector<float> values;
  size_t row_samples = 0;
  bool operator==(const Encoded&) const = default;
};

Encoded Encode(const DecimatorSpec& decimator, uint32_t letters, const std::vector<float>& weights,
               size_t columns, const Feedback* feedback, size_t window) {
  auto trellis = Trellis::Create(decimator, letters);
  REQUIRE(trellis.ok());
  Encoded out;
  const size_t rows = weights.size() / columns;
  out.row_samples = trellis->RowSamples(columns);
  out.samples.resize(rows * out.row_samples);
  out.values.resize(weights.size());
  EncodeRows(*trellis, weights.data(), rows, columns, feedback, window, out.samples.data(),
             out.values.data());
  return out;
}

// Checks that values are what the samples decode to; returns sum D (..)^2 over all rows.
double CheckedObjective(const DecimatorSpec& decimator, const std::vector<float>& weights,
                        size_t columns, const Feedback& feedback, const Encoded& encoded) {
  double sum = 0;
  float worst = 0;
  for (size_t r = 0; r < weights.size() / columns; ++r) {
    const auto values = Decode(decimator, &encoded.samples[r * encoded.row_samples], columns);
    for (size_t i = 0; i < columns; ++i) {
      worst = std::max(worst, std::abs(encoded.values[r * columns + i] - float(values[i])));
    }
    sum += FeedbackObjective(feedback, &weights[r * columns], values.data());
  }
  CHECK(worst < 1e-5f);
  return sum;
}

Feedback Factored(size_t n) {
  auto feedback = FactorHessian(CorrelatedHessian(n, 5), n, 0.01);
  REQUIRE(feedback.ok());
  return std::move(*feedback);
}

const std::vector<float> kTaps3{0.72f, 0.41f, -0.23f};
const std::vector<float> kTaps32{0.67f, 0.48f, -0.5f, 0.08f, 0.62f, 0.51f, -0.18f, -0.3f};
const std::vector<float> kTaps2{0.74f, 0.43f, 0.25f, -0.3f, 0.12f};

const std::vector<float> kDerivedTaps{0.5f, -0.31f, 0.62f, 0.4f, -0.27f, 0.35f};  // L = 4, reach 2

DecimatorSpec Derived(DecimatorSpec decimator, uint32_t derived) {
  decimator.derived = derived;
  return decimator;
}

struct Small {
  DecimatorSpec decimator;
  uint32_t letters;
  size_t columns;
};

TEST_CASE("trellis: without feedback the search finds the best of all sequences") {
  const Small small = GENERATE(
      Small{Polyphase(1, 1, 3, 0, kTaps3), 2, 11}, Small{Polyphase(1, 1, 3, 2, kTaps3), 2, 9},
      Small{Polyphase(3, 2, 4, 0, kTaps32), 2, 7}, Small{Polyphase(3, 2, 4, 3, kTaps32), 2, 6},
      Small{Polyphase(1, 2, 4, 3, kTaps32), 2, 12}, Small{Polyphase(3, 1, 3, 0, kTaps3), 2, 4},
      Small{Polyphase(1, 1, 3, 0, kTaps3), 3, 7}, Small{Polyphase(3, 2, 4, 1, kTaps32), 3, 4},
      Small{Derived(Polyphase(1, 1, 4, 0, kDerivedTaps), 0b101), 2, 11},
      Small{Derived(Polyphase(1, 1, 4, 3, kDerivedTaps), 0b111), 2, 9});
  const std::vector<float> weights = GaussianWeights(4 * small.columns, 3);
  const Encoded encoded =
      Encode(small.decimator, small.letters, weights, small.columns, nullptr, 0);
  for (size_t r = 0; r < 4; ++r) {
    const float* row = &weights[r * small.columns];
    const auto values =
        Decode(small.decimator, &encoded.samples[r * encoded.row_samples], small.columns);
    double error = 0;
    for (size_t i = 0; i < small.columns; ++i) {
      CHECK(encoded.values[r * small.columns + i] == Approx(values[i]).margin(1e-6));
      error += (double(row[i]) - values[i]) * (double(row[i]) - values[i]);
    }
    const double least = LeastSquaredError(small.decimator, small.letters, row, small.columns);
    CHECK(error == Approx(least).epsilon(1e-5));
  }
}

TEST_CASE("trellis: with whole-row feedback it is the plain per-survivor search") {
  const size_t columns = GENERATE(as<size_t>{}, 37, 64);
  const Small small =
      GENERATE_COPY(Small{Polyphase(2, 1, 5, 0, kTaps2), 2, columns},
                    Small{Polyphase(2, 1, 5, 3, kTaps2), 2, columns},
                    Small{Polyphase(3, 2, 4, 3, kTaps32), 2, columns},
                    Small{Polyphase(3, 2, 4, 3, kTaps32), 3, columns},
                    Small{Polyphase(1, 2, 4, 0, kTaps32), 2, columns},
                    Small{Derived(Polyphase(1, 1, 4, 2, kDerivedTaps), 5), 2, columns});
  const Feedback feedback = Factored(columns);
  const size_t rows = 19;
  const std::vector<float> weights = GaussianWeights(rows * columns, 11);
  const Encoded encoded =
      Encode(small.decimator, small.letters, weights, columns, &feedback, columns);
  size_t equal = 0;
  for (size_t r = 0; r < rows; ++r) {
    const auto plain = PlainSearch(small.decimator, small.letters, feedback, &weights[r * columns],
                                   columns, columns);
    const auto mine = Decode(small.decimator, &encoded.samples[r * encoded.row_samples], columns);
    double difference = 0;
    for (size_t i = 0; i < columns; ++i) {
      difference = std::max(difference, std::abs(plain[i] - mine[i]));
    }
    equal += difference < 1e-5;
  }
  CHECK(equal >= rows - 1);  // single precision may break a near tie the other way
}

TEST_CASE("trellis: deciding behind a window is no worse than deciding block by block") {
  const size_t columns = 160;
  const size_t rows = 24;
  const DecimatorSpec decimator = Polyphase(2, 1, 5, 3, kTaps2);
  const Feedback feedback = Factored(columns);
  const std::vector<float> weights = GaussianWeights(rows * columns, 17);
  double blocks = 0;
  for (size_t r = 0; r < rows; ++r) {
    const float* row = &weights[r * columns];
    blocks += FeedbackObjective(feedback, row,
                                PlainSearch(decimator, 2, feedback, row, columns, 64).data());
  }
  const auto objective = [&](size_t window) {
    return CheckedObjective(decimator, weights, columns, feedback,
                            Encode(decimator, 2, weights, columns, &feedback, window));
  };
  const double whole = objective(columns);
  CHECK(objective(64) <= blocks);
  CHECK(objective(64) == Approx(whole).epsilon(0.01));
  CHECK(objective(16) == Approx(whole).epsilon(0.05));
  CHECK(objective(0) == objective(16));
  const Encoded blind = Encode(decimator, 2, weights, columns, nullptr, 0);
  CHECK(CheckedObjective(decimator, weights, columns, feedback, blind) > 2 * whole);
}

TEST_CASE("trellis: the same samples on every instruction set, thread count and repeat") {
  const size_t columns = 83;
  const Feedback feedback = Factored(columns);
  const std::vector<float> weights = GaussianWeights(45 * columns, 23);
  const Small small = GENERATE(Small{Polyphase(3, 2, 4, 1, kTaps32), 2, 0},
                               Small{Polyphase(3, 2, 4, 1, kTaps32), 3, 0},
                               Small{Polyphase(2, 1, 5, 0, kTaps2), 2, 0});
  const auto encode = [&] {
    return Encode(small.decimator, small.letters, weights, columns, &feedback, 32);
  };
  kernels::SetThreads(1);
  const Encoded expected = encode();
  for (const std::string& target : kernels::AvailableTargets()) {
    INFO(target);
    REQUIRE(kernels::ForceTarget(target));
    CHECK(encode() == expected);
  }
  CHECK(kernels::ForceTarget(""));
  for (const size_t threads : std::array<size_t, 3>{2, 3, 7}) {
    kernels::SetThreads(threads);
    CHECK(encode() == expected);
  }
  kernels::SetThreads(0);
}

TEST_CASE("trellis: decimators it cannot search are refused") {
  const auto refused = [](const DecimatorSpec& decimator, uint32_t letters) {
    const auto trellis = Trellis::Create(decimator, letters);
    return !trellis.ok() && trellis.status().code() == StatusCode::kInvalidArgument &&
           !trellis.status().message().empty();
  };
  const DecimatorSpec good = Polyphase(2, 1, 5, 0, kTaps2);
  CHECK_FALSE(refused(good, 2));
  CHECK(refused(good, 1));
  CHECK(refused(good, 4));
  CHECK(refused(DecimatorSpec{}, 2));
  CHECK(refused(Polyphase(2, 1, 4, 0, kTaps2), 2));                         // taps do not fit
  CHECK(refused(Polyphase(0, 1, 5, 0, kTaps2), 2));                         // OSR zero
  CHECK(refused(Polyphase(2, 0, 5, 0, kTaps2), 2));                         // OSR infinite
  CHECK(refused(Polyphase(6, 1, 5, 0, kTaps2), 2));                         // wider than L
  CHECK(refused(Polyphase(9, 1, 10, 0, std::vector<float>(10, 0.1f)), 2));  // 512 ways
  CHECK(refused(Polyphase(1, 1, 17, 0, std::vector<float>(17, 0.1f)), 2));  // 2^17 states
  CHECK(refused(Polyphase(1, 1, 11, 0, std::vector<float>(11, 0.1f)), 3));  // 3^11 states
  CHECK(refused(Polyphase(1, 2, 16, 0, std::vector<float>(32, 0.1f)), 2));  // 2^16 survivors
  DecimatorSpec blocks = good;
  blocks.block = 16;
  CHECK(refused(blocks, 2));
}

}  // namespace
}  // namespace sdq::test
