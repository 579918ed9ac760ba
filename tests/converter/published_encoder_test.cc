#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "converter/encoder.h"
#include "format/writer.h"
#include "kernels/activation.h"
#include "kernels/parallel.h"
#include "kernels/stream_product.h"
#include "runtime/activation_map_cache.h"
#include "tests/support/files.h"
#include "tests/support/independent_reader.h"

namespace sdq::converter {
namespace {

using format::Alphabet;

std::vector<float> Gaussian(size_t count, unsigned seed = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& value : x) value = normal(generator);
  return x;
}

// Inputs with correlated columns.
std::vector<double> Hessian(size_t n) {
  const size_t tokens = 2 * n;
  std::vector<float> x = Gaussian(tokens * n, 2);
  std::vector<double> h(n * n);
  for (size_t t = 0; t < tokens; ++t) {
    float* row = x.data() + t * n;
    for (size_t i = 1; i < n; ++i) row[i] += 0.9f * row[i - 1];
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) h[i * n + j] += double(row[i]) * double(row[j]);
    }
  }
  return h;
}

EncodeInput Input(const std::vector<float>& weights, size_t columns) {
  EncodeInput input;
  input.weights = weights.data();
  input.rows = weights.size() / columns;
  input.columns = columns;
  input.seed = 77;
  return input;
}

PublishedOptions Options(Alphabet alphabet, uint32_t num, uint32_t den) {
  PublishedOptions options;
  options.alphabet = alphabet;
  options.osr_num = num;
  options.osr_den = den;
  return options;
}

PublishedOptions WithoutGrid(PublishedOptions options) {
  options.grid_search = false;
  return options;
}

EncodedLinear Encode(const EncodeInput& input, const PublishedOptions& options) {
  Result<EncodedLinear> encoded = EncodePublished(input, options);
  REQUIRE(encoded.ok());
  return *std::move(encoded);
}

double WorstDifference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double(a[i] - b[i])));
  return worst;
}

TEST_CASE("published: errors on Gaussian weights are the published method's") {
  const auto [ternary, num, den, expected] = GENERATE(table<bool, uint32_t, uint32_t, double>({
      {true, 3, 2, 0.207},
      {true, 2, 1, 0.119},
      {true, 3, 1, 0.048},
      {false, 2, 1, 0.308},
      {false, 3, 1, 0.131},
  }));
  const std::vector<float> weights = Gaussian(128 * 256);
  const EncodedLinear encoded =
      Encode(Input(weights, 256),
             Options(ternary ? Alphabet::kTernaryPacked : Alphabet::kBinary, num, den));
  // At OSR 3 the best threshold lies beyond the grid's last p_c of 0.60: 3% above the figure.
  CHECK(encoded.relative_error == Approx(expected).epsilon(0.04));
}

TEST_CASE("published: the second order is stable and shapes noise where samples are many") {
  const std::vector<float> weights = Gaussian(64 * 128);
  const EncodeInput input = Input(weights, 128);
  const auto error = [&](int order, uint32_t osr) {
    PublishedOptions options = Options(Alphabet::kTernaryPacked, osr, 1);
    options.order = order;
    return Encode(input, options).relative_error;
  };
  CHECK(error(2, 2) < 0.2);
  CHECK(error(2, 4) < error(1, 4));
}

struct Shape {
  size_t rows;
  size_t columns;
  Alphabet alphabet;
  uint32_t num;
  uint32_t den;
};

// Tail blocks (of one column, of no power of two), odd rates, one row, blocks wider than the row.
const Shape kShapes[] = {
    {5, 128, Alphabet::kBinary, 2, 1},          {17, 288, Alphabet::kTernaryPacked, 3, 2},
    {33, 129, Alphabet::kTernaryPlanes, 7, 3},  {1, 40, Alphabet::kTernaryPacked, 1, 1},
    {3, 300, Alphabet::kBinary, 105, 100},      {2, 1, Alphabet::kBinary, 5, 1},
    {16, 176, Alphabet::kTernaryPacked, 22, 7},
};

TEST_CASE("published: stored bits, scales and means say what `reconstructed` says") {
  for (const Shape& shape : kShapes) {
    const std::vector<float> weights = Gaussian(shape.rows * shape.columns, 3);
    const EncodedLinear encoded = Encode(
        Input(weights, shape.columns), WithoutGrid(Options(shape.alphabet, shape.num, shape.den)));
    test::TemporaryFolder folder;
    auto writer = format::SdqWriter::Create(folder / "one.sdq");
    REQUIRE(writer.ok());
    REQUIRE((*writer)->Add(encoded.View("w")).ok());
    REQUIRE((*writer)->Finish(format::Metadata()).ok());
    test::IndependentFile file;
    REQUIRE(test::ReadIndependently(test::ReadBytes(folder / "one.sdq"), &file) == "");
    REQUIRE(file.Find("w") != nullptr);
    CHECK(WorstDifference(encoded.reconstructed, file.Find("w")->values) < 1e-5);
  }
}

TEST_CASE("published: the kernels' reconstruction is `reconstructed`") {
  for (const Shape& shape : kShapes) {
    const std::vector<float> weights = Gaussian(shape.rows * shape.columns, 3);
    const EncodedLinear encoded = Encode(
        Input(weights, shape.columns), WithoutGrid(Options(shape.alphabet, shape.num, shape.den)));
    kernels::StreamMatrix matrix;
    matrix.bits = encoded.bits.data();
    matrix.rows = encoded.rows;
    matrix.scales_f16 = encoded.scales_f16.data();
    matrix.scale_base = encoded.scale_base;
    matrix.per_block = true;
    matrix.means_f16 = encoded.means_f16.data();
    matrix.mean_base = encoded.mean_base;
    std::vector<float> out(weights.size());
    kernels::ReconstructRows(matrix, kernels::ActivationMap(MapSpecOf(encoded.View("w"))), 0,
                             shape.rows, out.data());
    CHECK(WorstDifference(encoded.reconstructed, out) < 1e-5);
  }
}

TEST_CASE("published: size is samples plus 16 bits each of scale and mean per block") {
  const std::vector<float> weights = Gaussian(16 * 256);
  const EncodedLinear encoded = Encode(
      Input(weights, 256), WithoutGrid(Options(Alphabet::kTernaryPacked, 5, 2)));  // 320 trits
  CHECK(encoded.BitsPerWeight() == Approx(2.5 * 1.6 + 2 * 0.125));
  CHECK(encoded.rotation.block == 128);
  CHECK(encoded.decimator.block == 128);
  CHECK(encoded.decimator.osr_num == 5);
}

TEST_CASE("published: exact feedback beats the diagonal shortcut, which beats none") {
  const size_t n = 320;
  const std::vector<float> weights = Gaussian(24 * n, 4);
  const std::vector<double> hessian = Hessian(n);
  EncodeInput input = Input(weights, n);
  PublishedOptions options = WithoutGrid(Options(Alphabet::kTernaryPacked, 2, 1));
  options.block = 32;
  const std::vector<float> plain = Encode(input, options).reconstructed;
  input.hessian = &hessian;
  const EncodedLinear exact = Encode(input, options);
  options.diagonal_compensation = true;
  const EncodedLinear diagonal = Encode(input, options);

  // tr(E H E^T) / tr(W H W^T) in doubles, and the former by row.
  std::vector<double> rows;
  const auto cost = [&](const std::vector<float>& q) {
    double error = 0;
    double signal = 0;
    rows.assign(input.rows, 0.0);
    for (size_t r = 0; r < input.rows; ++r) {
      for (size_t i = 0; i < n; ++i) {
        for (size_t j = 0; j < n; ++j) {
          const double wi = double(weights[r * n + i]);
          const double wj = double(weights[r * n + j]);
          signal += wi * hessian[i * n + j] * wj;
          rows[r] += (wi - double(q[r * n + i])) * hessian[i * n + j] * (wj - double(q[r * n + j]));
        }
      }
    }
    for (const double row : rows) error += row;
    return error / signal;
  };
  CHECK(exact.relative_error == Approx(cost(exact.reconstructed)).epsilon(1e-4));
  REQUIRE(exact.row_errors.size() == rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    CHECK(exact.row_errors[r] == Approx(rows[r]).epsilon(1e-3));
  }
  CHECK(exact.relative_error < diagonal.relative_error);
  CHECK(diagonal.relative_error < cost(plain));
}

TEST_CASE("published: the same bytes for any thread count") {
  const std::vector<float> weights = Gaussian(50 * 160, 5);
  const std::vector<double> hessian = Hessian(160);
  EncodeInput input = Input(weights, 160);
  input.hessian = &hessian;
  const PublishedOptions options = Options(Alphabet::kBinary, 2, 1);
  kernels::SetThreads(1);
  const EncodedLinear one = Encode(input, options);
  kernels::SetThreads(3);
  const EncodedLinear three = Encode(input, options);
  kernels::SetThreads(0);
  CHECK(one.bits == three.bits);
  CHECK(one.scales_f16 == three.scales_f16);
  CHECK(one.means_f16 == three.means_f16);
  CHECK(one.reconstructed == three.reconstructed);
  CHECK(one.relative_error == three.relative_error);
}

TEST_CASE("published: rows of zeros and of one value survive") {
  std::vector<float> weights(3 * 256, 0.0f);
  std::fill(weights.begin() + 256, weights.begin() + 512, 0.25f);
  for (size_t i = 512; i < weights.size(); ++i) weights[i] = 1e-30f * float(i % 3);
  const EncodedLinear encoded =
      Encode(Input(weights, 256), Options(Alphabet::kTernaryPacked, 2, 1));
  for (size_t i = 0; i < 256; ++i) CHECK(encoded.reconstructed[i] == 0.0f);
  for (const float w : encoded.reconstructed) CHECK(std::isfinite(w));
}

TEST_CASE("published: senseless input and options are refused") {
  std::vector<float> weights = Gaussian(4 * 128);
  const EncodeInput input = Input(weights, 128);
  const PublishedOptions good = Options(Alphabet::kBinary, 2, 1);
  const auto fails = [&](auto change) {
    PublishedOptions options = good;
    change(options);
    return !EncodePublished(input, options).ok();
  };
  CHECK(fails([](PublishedOptions& o) { o.order = 0; }));
  CHECK(fails([](PublishedOptions& o) { o.order = 3; }));
  CHECK(fails([](PublishedOptions& o) { o.osr_den = 0; }));
  CHECK(fails([](PublishedOptions& o) { o.osr_den = 3; }));
  CHECK(fails([](PublishedOptions& o) { o.osr_num = 17; }));
  CHECK(fails([](PublishedOptions& o) { o.block = 0; }));
  CHECK(fails([](PublishedOptions& o) { o.grid_search = false, o.scale = 0; }));
  CHECK(fails([](PublishedOptions& o) { o.grid_search = false, o.scale = NAN; }));
  CHECK(fails([](PublishedOptions& o) { o.grid_search = false, o.scale_quantile = 1.1; }));
  CHECK(fails([](PublishedOptions& o) { o.grid_search = false, o.cut_quantile = NAN; }));
  EncodeInput bad = input;
  bad.rows = 0;
  CHECK_FALSE(EncodePublished(bad, good).ok());
  bad = input;
  const std::vector<double> wrong_size(100);
  bad.hessian = &wrong_size;
  CHECK_FALSE(EncodePublished(bad, good).ok());
  weights[7] = INFINITY;
  CHECK_FALSE(EncodePublished(input, good).ok());
}

}  // namespace
}  // namespace sdq::converter
