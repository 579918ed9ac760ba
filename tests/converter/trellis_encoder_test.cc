// EncodeTrellis: what it stores is what it says, for awkward shapes and hostile input.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "converter/encoder.h"
#include "kernels/parallel.h"
#include "kernels/stream_product.h"
#include "tests/converter/trellis_support.h"

namespace sdq::test {
namespace {

using converter::EncodedLinear;
using converter::EncodeInput;
using converter::EncodeTrellis;
using converter::TrellisOptions;
using format::Alphabet;

EncodeInput Input(const std::vector<float>& weights, size_t columns,
                  const std::vector<double>* hessian = nullptr) {
  EncodeInput input;
  input.weights = weights.data();
  input.rows = weights.size() / columns;
  input.columns = columns;
  input.hessian = hessian;
  input.seed = 42;
  return input;
}

TrellisOptions Options(Alphabet alphabet, uint32_t num, uint32_t den, uint32_t window) {
  TrellisOptions options;
  options.alphabet = alphabet;
  options.osr_num = num;
  options.osr_den = den;
  options.window = window;
  return options;
}

kernels::Packing PackingOf(Alphabet alphabet) {
  if (alphabet == Alphabet::kTernaryPacked) return kernels::Packing::kTernaryPacked;
  if (alphabet == Alphabet::kTernaryPlanes) return kernels::Packing::kTernaryPlanes;
  return kernels::Packing::kBinary;
}

// The runtime's own reading of the stored bytes.
std::vector<float> RuntimeReconstruction(const EncodedLinear& linear) {
  kernels::MapSpec spec;
  spec.columns = linear.columns;
  spec.rotation_block = linear.rotation.block;
  spec.sign_seed = linear.rotation.sign_seed;
  spec.decimator = kernels::Decimator::kPolyphase;
  spec.osr_num = linear.decimator.osr_num;
  spec.osr_den = linear.decimator.osr_den;
  spec.window = linear.decimator.window;
  spec.lead = linear.decimator.lead;
  spec.derived = linear.decimator.derived;
  spec.taps = linear.decimator.taps;
  spec.packing = PackingOf(linear.alphabet);
  const kernels::ActivationMap map(spec);
  kernels::StreamMatrix matrix;
  matrix.bits = linear.bits.data();
  matrix.rows = linear.rows;
  matrix.scales_f16 = linear.scales_f16.data();
  matrix.scale_base = linear.scale_base;
  std::vector<float> out(size_t(linear.rows) * linear.columns);
  kernels::ReconstructRows(matrix, map, 0, linear.rows, out.data());
  return out;
}

double RelativeErrorUnder(const std::vector<double>& h, size_t n, const std::vector<float>& w,
                          const std::vector<float>& q) {
  double error = 0;
  double power = 0;
  for (size_t r = 0; r < w.size() / n; ++r) {
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) {
        const size_t a = r * n + i;
        const size_t b = r * n + j;
        error += (double(w[a]) - double(q[a])) * h[i * n + j] * (double(w[b]) - double(q[b]));
        power += double(w[a]) * h[i * n + j] * double(w[b]);
      }
    }
  }
  return error / power;
}

std::vector<double> Identity(size_t n) {
  std::vector<double> h(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) h[i * n + i] = 1;
  return h;
}

float Largest(const std::vector<float>& x) {
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::abs(v));
  return largest;
}

bool Near(const std::vector<float>& a, const std::vector<float>& b, float tolerance) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [&](float x, float y) {
           return std::abs(x - y) <= tolerance;
         });
}

TEST_CASE("encode trellis: the runtime reads back what was reconstructed") {
  const auto options = GENERATE(
      Options(Alphabet::kBinary, 2, 1, 8), Options(Alphabet::kBinary, 5, 4, 8),
      Options(Alphabet::kBinary, 4, 1, 8), Options(Alphabet::kTernaryPacked, 1, 1, 5),
      Options(Alphabet::kTernaryPacked, 3, 2, 5), Options(Alphabet::kTernaryPlanes, 5, 4, 5));
  const size_t columns = GENERATE(as<size_t>{}, 1, 3, 16, 37, 72, 160);
  const size_t rows = GENERATE(as<size_t>{}, 1, 19);
  std::vector<float> weights = GaussianWeights(rows * columns, 7);
  for (float& w : weights) w *= 0.02f;
  const std::vector<double> hessian = CorrelatedHessian(columns, 9);
  const auto linear = EncodeTrellis(Input(weights, columns, &hessian), options);
  REQUIRE(linear.ok());
  CHECK(format::ValidateDecimator(linear->decimator, uint32_t(columns)).ok());
  CHECK(format::ValidateRotation(linear->rotation, uint32_t(columns)).ok());
  CHECK(linear->View("x").bits.size() == format::BitstreamBytes(linear->decimator, linear->alphabet,
                                                                uint32_t(rows), uint32_t(columns)));
  // The lead never costs a byte.
  format::DecimatorSpec bare = linear->decimator;
  bare.lead = 0;
  CHECK(format::RowBytes(linear->decimator, linear->alphabet, uint32_t(columns)) ==
        format::RowBytes(bare, linear->alphabet, uint32_t(columns)));
  CHECK(Near(RuntimeReconstruction(*linear), linear->reconstructed,
             2e-5f * Largest(linear->reconstructed)));
  CHECK(linear->relative_error ==
        Approx(RelativeErrorUnder(hessian, columns, weights, linear->reconstructed))
            .epsilon(1e-3)
            .margin(1e-5));
}

TEST_CASE("encode trellis: feedback lowers the error that the layer's inputs see") {
  const size_t columns = 128;
  const std::vector<float> weights = GaussianWeights(32 * columns, 31);
  const std::vector<double> hessian = CorrelatedHessian(columns, 33);
  const TrellisOptions options = Options(Alphabet::kBinary, 2, 1, 8);
  const auto shaped = EncodeTrellis(Input(weights, columns, &hessian), options);
  const auto blind = EncodeTrellis(Input(weights, columns), options);
  REQUIRE(shaped.ok());
  REQUIRE(blind.ok());
  const double blind_error = RelativeErrorUnder(hessian, columns, weights, blind->reconstructed);
  CHECK(shaped->relative_error < 0.6 * blind_error);
  // Without a Hessian the error is the plain one, close to the taps' own.
  CHECK(blind->relative_error ==
        Approx(RelativeErrorUnder(Identity(columns), columns, weights, blind->reconstructed))
            .epsilon(1e-3));
  CHECK(blind->relative_error < 0.095);
}

TEST_CASE("encode trellis: the row scale is the best there is") {
  const size_t columns = 64;
  const std::vector<float> weights = GaussianWeights(8 * columns, 35);
  const std::vector<double> hessian = CorrelatedHessian(columns, 37);
  const auto linear =
      EncodeTrellis(Input(weights, columns, &hessian), Options(Alphabet::kBinary, 3, 2, 8));
  REQUIRE(linear.ok());
  for (const float factor : {0.99f, 1.01f}) {
    std::vector<float> scaled = linear->reconstructed;
    for (float& q : scaled) q *= factor;
    CHECK(RelativeErrorUnder(hessian, columns, weights, scaled) > linear->relative_error);
  }
}

TEST_CASE("encode trellis: rows far apart in size, and rows of zeros") {
  const size_t columns = 48;
  std::vector<float> weights = GaussianWeights(4 * columns, 41);
  for (size_t i = 0; i < columns; ++i) {
    weights[i] *= 1e-3f;
    weights[columns + i] = 0;
    weights[2 * columns + i] *= 50;
  }
  const auto linear = EncodeTrellis(Input(weights, columns), Options(Alphabet::kBinary, 3, 1, 8));
  REQUIRE(linear.ok());
  CHECK(std::all_of(linear->reconstructed.begin() + columns,
                    linear->reconstructed.begin() + 2 * columns,
                    [](float q) { return q == 0.0f; }));
  for (const size_t r : std::array<size_t, 3>{0, 2, 3}) {
    const std::vector<float> w(&weights[r * columns], &weights[(r + 1) * columns]);
    const std::vector<float> q(&linear->reconstructed[r * columns],
                               &linear->reconstructed[(r + 1) * columns]);
    CHECK(RelativeErrorUnder(Identity(columns), columns, w, q) < 0.06);
  }
  const std::vector<float> zeros(3 * columns, 0.0f);
  const auto nothing = EncodeTrellis(Input(zeros, columns), Options(Alphabet::kBinary, 2, 1, 8));
  REQUIRE(nothing.ok());
  CHECK(nothing->reconstructed == zeros);
  CHECK(nothing->relative_error == 0);
}

TEST_CASE("encode trellis: the same bytes for any thread count; other signs for another seed") {
  const size_t columns = 96;
  const std::vector<float> weights = GaussianWeights(37 * columns, 43);
  const std::vector<double> hessian = CorrelatedHessian(columns, 45);
  EncodeInput input = Input(weights, columns, &hessian);
  const TrellisOptions options = Options(Alphabet::kBinary, 5, 4, 8);
  kernels::SetThreads(1);
  const auto expected = EncodeTrellis(input, options);
  REQUIRE(expected.ok());
  for (const size_t threads : std::array<size_t, 3>{1, 2, 5}) {
    kernels::SetThreads(threads);
    const auto again = EncodeTrellis(input, options);
    REQUIRE(again.ok());
    CHECK(again->bits == expected->bits);
    CHECK(again->scales_f16 == expected->scales_f16);
    CHECK(again->scale_base == expected->scale_base);
    CHECK(again->reconstructed == expected->reconstructed);
  }
  kernels::SetThreads(0);
  input.seed = 43;
  const auto other = EncodeTrellis(input, options);
  REQUIRE(other.ok());
  CHECK(other->bits != expected->bits);
}

TEST_CASE("encode trellis: rotation in blocks") {
  const size_t columns = 72;
  const std::vector<float> weights = GaussianWeights(5 * columns, 47);
  TrellisOptions options = Options(Alphabet::kBinary, 2, 1, 8);
  options.rotation_block = 32;
  const auto linear = EncodeTrellis(Input(weights, columns), options);
  REQUIRE(linear.ok());
  CHECK(linear->rotation.block == 32);
  CHECK(Near(RuntimeReconstruction(*linear), linear->reconstructed,
             2e-5f * Largest(linear->reconstructed)));
}

TEST_CASE("encode trellis: what it cannot encode is an error with a reason") {
  const size_t columns = 32;
  std::vector<float> weights = GaussianWeights(2 * columns, 51);
  const TrellisOptions options = Options(Alphabet::kBinary, 2, 1, 8);
  const auto code = [&](const EncodeInput& input, const TrellisOptions& o) {
    const auto linear = EncodeTrellis(input, o);
    CHECK((linear.ok() || !linear.status().message().empty()));
    return linear.status().code();
  };
  CHECK(code(Input(weights, columns), options) == StatusCode::kOk);
  CHECK(code(Input(weights, columns), Options(Alphabet::kBinary, 33, 32, 8)) ==
        StatusCode::kNotFound);
  CHECK(code(EncodeInput{}, options) == StatusCode::kInvalidArgument);
  const std::vector<double> wrong_size(columns * columns - 1, 1.0);
  CHECK(code(Input(weights, columns, &wrong_size), options) == StatusCode::kInvalidArgument);
  std::vector<double> broken = Identity(columns);
  broken[5] = std::numeric_limits<double>::quiet_NaN();
  CHECK(code(Input(weights, columns, &broken), options) != StatusCode::kOk);
  TrellisOptions wide = options;
  wide.rotation_block = 64;
  CHECK(code(Input(weights, columns), wide) == StatusCode::kInvalidArgument);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    weights[40] = bad;
    CHECK(code(Input(weights, columns), options) == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("encode trellis: a shift moves the weights that are aimed at") {
  constexpr size_t kRows = 19, kColumns = 72;
  const std::vector<float> weights = GaussianWeights(kRows * kColumns, 7);
  const std::vector<float> change = GaussianWeights(kRows * kColumns, 8);
  const std::vector<double> hessian = CorrelatedHessian(kColumns, 9);
  // shift = change (H + damping), hence W + change is aimed at.
  double mean = 0;
  for (size_t i = 0; i < kColumns; ++i) mean += hessian[i * kColumns + i] / double(kColumns);
  std::vector<float> aimed(weights), shift(weights.size());
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t j = 0; j < kColumns; ++j) {
      double sum = 0.01 * mean * double(change[r * kColumns + j]);
      for (size_t i = 0; i < kColumns; ++i) {
        sum += double(change[r * kColumns + i]) * hessian[i * kColumns + j];
      }
      shift[r * kColumns + j] = float(sum);
      aimed[r * kColumns + j] += change[r * kColumns + j];
    }
  }
  EncodeInput input = Input(weights, kColumns, &hessian);
  input.shift = &shift;
  const TrellisOptions options = Options(Alphabet::kBinary, 3, 1, 8);
  const auto shifted = EncodeTrellis(input, options);
  const auto direct = EncodeTrellis(Input(aimed, kColumns, &hessian), options);
  REQUIRE(shifted.ok());
  REQUIRE(direct.ok());
  CHECK(RelativeErrorUnder(hessian, kColumns, aimed, shifted->reconstructed) <
        1.1 * RelativeErrorUnder(hessian, kColumns, aimed, direct->reconstructed));
  CHECK(shifted->relative_error == Approx(direct->relative_error).epsilon(0.1));
}

TEST_CASE("encode trellis: every row keeps the best of the scales tried") {
  constexpr size_t kRows = 19, kColumns = 72;
  const std::vector<float> weights = GaussianWeights(kRows * kColumns, 7);
  const std::vector<double> hessian = CorrelatedHessian(kColumns, 9);
  const EncodeInput input = Input(weights, kColumns, &hessian);
  TrellisOptions options = Options(Alphabet::kBinary, 2, 1, 8);
  const auto row_errors = [&](uint32_t tries) {
    options.scale_tries = tries;
    const auto linear = EncodeTrellis(input, options);
    REQUIRE(linear.ok());
    CHECK(Near(RuntimeReconstruction(*linear), linear->reconstructed,
               1e-4f * Largest(linear->reconstructed)));
    std::vector<double> errors;
    for (size_t r = 0; r < kRows; ++r) {
      const auto row = [&](const std::vector<float>& from) {
        return std::vector<float>(from.begin() + std::ptrdiff_t(r * kColumns),
                                  from.begin() + std::ptrdiff_t((r + 1) * kColumns));
      };
      errors.push_back(
          RelativeErrorUnder(hessian, kColumns, row(weights), row(linear->reconstructed)));
    }
    CHECK(RelativeErrorUnder(hessian, kColumns, weights, linear->reconstructed) ==
          Approx(linear->relative_error).epsilon(1e-3));
    return errors;
  };
  const std::vector<double> one = row_errors(1), three = row_errors(3);
  size_t better = 0;
  for (size_t r = 0; r < kRows; ++r) {
    CHECK(three[r] < one[r] * 1.001);  // scales are stored in half precision
    better += three[r] < one[r] * 0.99 ? 1 : 0;
  }
  CHECK(better > kRows / 4);
}

TEST_CASE("encode trellis: a shift needs a Hessian and the weights' shape") {
  const std::vector<float> weights = GaussianWeights(2 * 8, 7);
  const std::vector<float> shift(2 * 8, 0.0f), wrong(3, 0.0f);
  const std::vector<double> hessian = Identity(8);
  const TrellisOptions options = Options(Alphabet::kBinary, 2, 1, 8);
  EncodeInput input = Input(weights, 8);
  input.shift = &shift;
  CHECK(EncodeTrellis(input, options).status().code() == StatusCode::kInvalidArgument);
  input.hessian = &hessian;
  CHECK(EncodeTrellis(input, options).ok());
  input.shift = &wrong;
  CHECK(EncodeTrellis(input, options).status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sdq::test
