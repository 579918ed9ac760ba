// Int8 products: their integers against the decimator, every target against plain code.
#include "kernels/int8_product.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/int8_kernels.h"
#include "tests/kernels/stream_fixture.h"

namespace sdq::kernels {
namespace {

using test::RandomMatrix;

struct Shape {
  size_t rows, columns;
  uint32_t p, q, window, lead;  // window 0: identity
  size_t tokens;
};

const std::vector<Shape>& Shapes() {
  static const std::vector<Shape> shapes = {
      {1, 1, 1, 1, 0, 0, 1},        {17, 3, 1, 1, 0, 0, 2},     {33, 70, 1, 1, 8, 0, 3},
      {16, 5, 1, 1, 12, 7, 4},      {65, 96, 5, 4, 8, 0, 5},    {130, 200, 5, 4, 12, 3, 6},
      {64, 129, 3, 2, 12, 0, 7},    {80, 64, 3, 2, 8, 7, 11},   {300, 257, 2, 1, 8, 0, 13},
      {47, 1100, 2, 1, 12, 0, 16},  {64, 2049, 2, 1, 8, 6, 17}, {31, 288, 5, 2, 8, 0, 32},
      {96, 1030, 5, 2, 12, 5, 33},  {48, 72, 3, 1, 12, 9, 34},  {20, 130, 4, 1, 12, 0, 48},
      {33, 90, 4, 1, 8, 4, 67},     {16, 700, 17, 16, 8, 1, 9}, {70, 301, 33, 16, 12, 0, 10},
      {16, 1200, 63, 16, 10, 2, 8}, {32, 50, 7, 3, 4, 0, 5},    {16, 31, 2, 1, 1, 0, 5},
  };
  return shapes;
}

MapSpec SpecOf(std::mt19937_64& random, const Shape& shape) {
  MapSpec spec =
      test::PolyphaseSpec(random, shape.columns, shape.p, shape.q, shape.window, shape.lead);
  if (shape.window == 0) spec.decimator = Decimator::kIdentity;
  spec.rotation_block = 64;
  spec.sign_seed = 5;
  spec.block_sums = false;
  return spec;
}

std::vector<float> Product(const RandomMatrix& w, const ActivationMap& map,
                           const std::vector<float>& x, size_t tokens) {
  const size_t columns = map.spec().columns, rows = w.view.rows;
  const AlignedFloats prepared(Int8PreparedBytes(map, tokens) / sizeof(float));
  const AlignedFloats scratch(Threads() * Int8ScratchBytes(map, tokens) / sizeof(float));
  uint8_t* bytes = reinterpret_cast<uint8_t*>(prepared.data());
  uint8_t* scratch_bytes = reinterpret_cast<uint8_t*>(scratch.data());
  std::vector<float> y(tokens * rows, -1e30f);
  PrepareInt8(map, x.data(), tokens, columns, bytes, scratch_bytes);
  const StreamOutput output{&w.view, y.data(), rows};
  Int8Products({&output, 1}, map, bytes, tokens, scratch_bytes);
  return y;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Sample p of a row whose byte 0 is at `bits`.
double Sample(const uint8_t* bits, int64_t p) {
  return (bits[p / 8 * 16] >> (p % 8) & 1) != 0 ? 1.0 : -1.0;
}

// Weight i of a row before its scale, from the format's definition.
double WeightOf(const MapSpec& spec, const uint8_t* bits, size_t i) {
  if (spec.decimator == Decimator::kIdentity) return Sample(bits, int64_t(i));
  const int64_t end = int64_t(spec.lead + (i + 1) * spec.osr_num / spec.osr_den);
  double sum = 0;
  for (int64_t k = 0; k < std::min<int64_t>(spec.window, end); ++k) {
    const float tap = spec.taps[i % spec.osr_den * spec.window + size_t(k)];
    sum += double(tap) * Sample(bits, end - 1 - k);
  }
  return sum;
}

}  // namespace

TEST_CASE("int8 products: integer weights are the decimator's, rounded chunk by chunk") {
  for (const Shape& shape : Shapes()) {
    std::mt19937_64 random(shape.columns);
    const MapSpec spec = SpecOf(random, shape);
    const ActivationMap map(spec);
    const Int8Plan& plan = map.int8_plan();
    INFO(shape.p << "/" << shape.q << ", window " << shape.window << ", lead " << shape.lead);
    REQUIRE(Int8Usable(map));
    const RandomMatrix w(random, map.layout(), Packing::kBinary, 16, false, false, false);
    const size_t groups = (shape.columns + 3) / 4, padded = (groups + 15) / 16 * 16;
    const AlignedFloats memory(padded * kInt8GroupBytes / sizeof(float));
    int32_t bias[16];
    Int8WeightsArgs args;
    args.plan = &plan;
    args.bits = w.view.bits;
    args.tile_stride = map.layout().tile_bytes();
    args.tiles = 1;
    args.groups = groups;
    args.padded_groups = padded;
    args.weights = reinterpret_cast<int8_t*>(memory.data());
    args.bias = bias;
    ReferenceInt8Kernels().weights(args);
    // Each chunk's rounding is off by half a unit at most.
    const double chunks = std::max<double>(1, (shape.window + 3) / 4);
    double worst = 0;
    int largest = 0;
    for (size_t row = 0; row < 16; ++row) {
      for (size_t i = 0; i < shape.columns; ++i) {
        const int integer = args.weights[i / 4 * kInt8GroupBytes + row * 4 + i % 4];
        const double exact = WeightOf(spec, w.view.bits + row, i) / double(plan.unit());
        worst = std::max(worst, std::abs(integer - exact));
        largest = std::max(largest, std::abs(integer));
      }
    }
    CHECK(worst <= 0.5 * chunks + 1e-4);
    CHECK(largest <= 127);
  }
}

TEST_CASE("int8 products: every target and thread count gives the reference's bits") {
  const test::KernelState restore;
  for (const Shape& shape : Shapes()) {
    std::mt19937_64 random(shape.columns * 3 + shape.p);
    const ActivationMap map(SpecOf(random, shape));
    const RandomMatrix w(random, map.layout(), Packing::kBinary, shape.rows, false, false, true);
    std::vector<float> x = test::RandomFloats(random, shape.tokens * shape.columns);
    std::fill(x.begin(), x.begin() + std::ptrdiff_t(shape.columns), 0.0f);  // a token of zeros
    REQUIRE(ForceTarget("SCALAR"));
    const std::vector<float> wanted = Product(w, map, x, shape.tokens);
    for (const std::string& target : AvailableTargets()) {
      REQUIRE(ForceTarget(target));
      if (!Int8ProductsAvailable()) continue;
      INFO(target << ": " << shape.rows << " x " << shape.columns << ", " << shape.p << "/"
                  << shape.q << ", " << shape.tokens << " tokens");
      for (const size_t threads : {1u, 3u}) {
        SetThreads(threads);
        CHECK(SameBits(Product(w, map, x, shape.tokens), wanted));
      }
      SetThreads(1);
      // A token's result does not depend on its company.
      const std::vector<float> last(x.end() - std::ptrdiff_t(shape.columns), x.end());
      const std::vector<float> alone = Product(w, map, last, 1);
      CHECK(std::equal(alone.begin(), alone.end(), wanted.end() - std::ptrdiff_t(shape.rows)));
    }
  }
}

TEST_CASE("int8 products: as far from the exact ones as two roundings to 8 bits") {
  const test::KernelState restore;
  ForceTarget("");
  if (!Int8ProductsAvailable()) REQUIRE(ForceTarget("SCALAR"));
  for (const Shape& shape : Shapes()) {
    if (shape.columns < 64) continue;
    std::mt19937_64 random(shape.columns * 7 + shape.q);
    const ActivationMap map(SpecOf(random, shape));
    const RandomMatrix w(random, map.layout(), Packing::kBinary, shape.rows, false, false, false);
    const std::vector<float> x = test::RandomFloats(random, shape.tokens * shape.columns);
    const std::vector<float> y = Product(w, map, x, shape.tokens);
    std::vector<float> rows(shape.rows * shape.columns);
    ReconstructRows(w.view, map, 0, shape.rows, rows.data());
    double error = 0, power = 0;
    for (size_t t = 0; t < shape.tokens; ++t) {
      for (size_t r = 0; r < shape.rows; ++r) {
        double exact = 0;
        for (size_t c = 0; c < shape.columns; ++c) {
          exact += double(rows[r * shape.columns + c]) * double(x[t * shape.columns + c]);
        }
        error += std::pow(double(y[t * shape.rows + r]) - exact, 2);
        power += exact * exact;
      }
    }
    INFO(shape.p << "/" << shape.q << ", window " << shape.window);
    // Relative noise: of weights, chunks / 12 units^2 against a mean square of at least
    // (127 - 1.5)^2 / window (the sum of L magnitudes is at most sqrt(L) times their norm; phases
    // may have half the largest one's norm); of activations, (4 sigma / 127)^2 / 12. Twice for
    // luck.
    const double window = std::max<double>(1, shape.window);
    const double weights = 3.0 / 12 * 4 * window / (125.5 * 125.5);
    const double activations = 16.0 / (127 * 127) / 12;
    CHECK(error / power < 2 * (weights + activations));
  }
}

TEST_CASE("int8 products: overflowed activations stay visible, tiny ones count as zeros") {
  const test::KernelState restore;
  std::mt19937_64 random(3);
  const ActivationMap map(SpecOf(random, {40, 128, 2, 1, 8, 0, 3}));
  const RandomMatrix w(random, map.layout(), Packing::kBinary, 40, false, false, true);
  std::vector<float> x = test::RandomFloats(random, 3 * 128);
  x[5] = std::numeric_limits<float>::infinity();
  std::fill(x.begin() + 128, x.begin() + 256, 1e-35f);
  for (const std::string& target : AvailableTargets()) {
    REQUIRE(ForceTarget(target));
    if (!Int8ProductsAvailable()) continue;
    const std::vector<float> y = Product(w, map, x, 3);
    for (size_t r = 0; r < 40; ++r) {
      CHECK(std::isnan(y[r]));
      CHECK(y[40 + r] == w.bias[r]);
      CHECK(std::isfinite(y[80 + r]));
    }
  }
}

TEST_CASE("int8 products: which maps have them") {
  std::mt19937_64 random(4);
  const Shape plain{16, 64, 2, 1, 8, 0, 1};
  MapSpec spec = SpecOf(random, plain);
  CHECK(Int8Usable(ActivationMap(spec)));
  spec.block_sums = true;
  CHECK_FALSE(Int8Usable(ActivationMap(spec)));
  spec = SpecOf(random, plain);
  spec.packing = Packing::kTernaryPacked;
  CHECK_FALSE(Int8Usable(ActivationMap(spec)));
  spec = SpecOf(random, plain);
  spec.derived = 0b11;
  spec.taps.resize(spec.taps.size() + spec.window - 1);
  CHECK_FALSE(Int8Plan(spec).usable());
  spec = SpecOf(random, plain);
  spec.taps.assign(spec.taps.size(), 0.0f);
  CHECK_FALSE(Int8Usable(ActivationMap(spec)));
  CHECK_FALSE(Int8Usable(ActivationMap(SpecOf(random, {16, 64, 2, 1, 13, 0, 1}))));
  CHECK_FALSE(Int8Usable(ActivationMap(SpecOf(random, {16, 64, 9, 1, 8, 0, 1}))));
  CHECK_FALSE(Int8Usable(ActivationMap(SpecOf(random, {16, 64, 20, 17, 8, 0, 1}))));
  spec = SpecOf(random, plain);
  spec.decimator = Decimator::kIdealLowPass;
  spec.window = 0;
  spec.taps.clear();
  CHECK_FALSE(Int8Usable(ActivationMap(spec)));
}

}  // namespace sdq::kernels
