#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/stream_kernels.h"
#include "kernels/table_layout.h"
#include "tests/kernels/stream_fixture.h"

namespace sdq::kernels {
namespace {

using test::Method;
using test::RandomMatrix;
using test::RunProduct;

struct Shape {
  size_t rows, columns;
  uint32_t p, q, lead, block;
  bool low_pass, per_block, means, bias;
  size_t tokens;
  uint32_t derived = 0;  // of the binary packing
};

MapSpec SpecOf(std::mt19937_64& random, const Shape& shape, Packing packing) {
  MapSpec spec = test::PolyphaseSpec(random, shape.columns, shape.p, shape.q, 8, shape.lead);
  if (packing == Packing::kBinary && shape.derived != 0) {
    spec.derived = shape.derived;
    spec.taps = test::RandomFloats(random, shape.q * (16 - DerivedReach(spec)));
  }
  spec.block = shape.block;
  spec.packing = packing;
  spec.rotation_block = 64;
  spec.sign_seed = 5;
  if (shape.low_pass) {
    spec.decimator = Decimator::kIdealLowPass;
    spec.lead = spec.window = 0;
    spec.taps.clear();
  } else if (shape.p == 1 && spec.derived == 0) {
    spec.decimator = Decimator::kIdentity;
    spec.lead = spec.window = 0;
    spec.taps.clear();
  }
  return spec;
}

const std::vector<Shape>& Shapes() {
  static const std::vector<Shape> shapes = {
      {1, 1, 1, 1, 0, 0, false, false, false, false, 1},
      {2, 2, 2, 1, 7, 0, false, false, false, true, 2},
      {15, 3, 3, 2, 0, 0, false, false, true, false, 3},
      {16, 5, 5, 4, 7, 0, false, false, false, false, 4},
      {17, 7, 7, 4, 3, 0, false, true, true, true, 5},
      {33, 31, 13, 10, 0, 0, true, true, true, false, 9},
      {33, 32, 2, 1, 7, 0, false, false, false, false, 8},
      {65, 33, 5, 2, 1, 0, false, false, false, true, 6},
      {130, 96, 3, 1, 7, 32, false, true, false, true, 7},
      {47, 128, 2, 1, 0, 128, true, true, true, true, 5},
      {100, 288, 237, 100, 0, 128, true, true, true, false, 4},
      {80, 300, 5, 4, 0, 128, true, true, true, false, 1},
      {64, 704, 4, 1, 7, 0, false, false, true, false, 33},
      {144, 704, 3, 2, 9, 0, false, false, false, false, 9},
      {31, 1500, 1, 1, 0, 0, false, false, false, false, 5},
      {100, 200, 2, 1, 7, 0, false, false, false, true, 20},
      {600, 72, 5, 2, 9, 0, false, false, true, false, 41},
      {1, 1, 1, 1, 0, 0, false, false, false, false, 1, 3},
      {17, 7, 7, 4, 3, 0, false, false, false, true, 5, 0x4b},
      {33, 31, 13, 10, 0, 0, false, false, false, false, 9, 0x25},
      {144, 704, 3, 2, 5, 0, false, false, false, false, 9, 0x4b},
      {600, 1100, 1, 1, 7, 0, false, false, false, false, 34, 0x81},
      {130, 1000, 9, 8, 0, 0, false, false, false, true, 1, 0xff},
      {80, 2050, 5, 4, 2, 0, false, false, false, false, 3, 0x4b},
      // Several strips of tiles, the last ones shorter.
      {1000, 3000, 2, 1, 7, 0, false, false, false, true, 1},
      {460, 5000, 3, 2, 5, 0, false, false, true, false, 1, 0x4b},
  };
  return shapes;
}

const Packing kPackings[] = {Packing::kBinary, Packing::kTernaryPlanes, Packing::kTernaryPacked};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// What SCALAR prepared, in the order of the target in use.
std::vector<uint8_t> Arranged(const ActivationMap& map, size_t tokens, Method method,
                              std::vector<uint8_t> prepared) {
  const TableArrangement arrange =
      TableProductOf(map.spec().packing, tokens, test::FormOf(method)).arrange;
  if (method == Method::kPopcount || arrange == nullptr) return prepared;
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t s = 0; s < map.layout().segments.size(); ++s) {
      arrange(Groups(map.layout().segments[s].bytes),
              prepared.data() + t * map.table_bytes() + map.table_offsets()[s]);
    }
  }
  return prepared;
}

}  // namespace

TEST_CASE("every target gives the reference's bits, tables and products") {
  const test::KernelState restore;
  const size_t index = GENERATE(range(size_t{0}, Shapes().size()));
  const Shape& shape = Shapes()[index];
  for (const Packing packing : kPackings) {
    std::mt19937_64 random(index * 10 + size_t(packing));
    const ActivationMap map(SpecOf(random, shape, packing));
    const RandomMatrix w(random, map.layout(), packing, shape.rows, shape.per_block, shape.means,
                         shape.bias);
    const std::vector<float> x = test::RandomFloats(random, shape.tokens * shape.columns);
    for (const Method method : test::kMethods) {
      REQUIRE(ForceTarget("SCALAR"));
      const test::ProductResult expected = RunProduct(w.view, map, x, shape.tokens, method);
      for (const std::string& target : AvailableTargets()) {
        INFO(target << " packing " << int(packing) << " shape " << index);
        REQUIRE(ForceTarget(target));
        const test::ProductResult result = RunProduct(w.view, map, x, shape.tokens, method);
        CHECK((result.prepared == Arranged(map, shape.tokens, method, expected.prepared)));
        CHECK(SameBits(result.y, expected.y));
      }
    }
  }
}

TEST_CASE("batches and thread counts change nothing") {
  const test::KernelState restore;
  const size_t index = GENERATE(range(size_t{0}, Shapes().size()));
  const Shape& shape = Shapes()[index];
  for (const std::string& target : AvailableTargets()) {
    REQUIRE(ForceTarget(target));
    for (const Packing packing : kPackings) {
      INFO(target << " packing " << int(packing) << " shape " << index);
      std::mt19937_64 random(index);
      const ActivationMap map(SpecOf(random, shape, packing));
      const RandomMatrix w(random, map.layout(), packing, shape.rows, shape.per_block, shape.means,
                           shape.bias);
      const std::vector<float> x = test::RandomFloats(random, shape.tokens * shape.columns);
      for (const Method method : test::kMethods) {
        SetThreads(1);
        const std::vector<float> batch = RunProduct(w.view, map, x, shape.tokens, method).y;
        std::vector<float> single;
        for (size_t t = 0; t < shape.tokens; ++t) {
          const auto from = x.begin() + ptrdiff_t(t * shape.columns);
          const std::vector<float> one(from, from + ptrdiff_t(shape.columns));
          const std::vector<float> y = RunProduct(w.view, map, one, 1, method).y;
          single.insert(single.end(), y.begin(), y.end());
        }
        CHECK(SameBits(batch, single));
        SetThreads(3);
        CHECK(SameBits(RunProduct(w.view, map, x, shape.tokens, method).y, batch));
      }
    }
  }
}

TEST_CASE("any number of tokens by tiles is what they are one by one") {
  const test::KernelState restore;
  std::mt19937_64 random(3);
  MapSpec spec =
      test::PolyphaseSpec(random, 600, 9, 5, 8, 2);  // 1080 samples: a short last segment
  const bool derived = GENERATE(false, true);
  if (derived) {
    spec.derived = 0x4b;
    spec.taps = test::RandomFloats(random, spec.osr_den * (16 - DerivedReach(spec)));
  }
  const ActivationMap map(spec);
  const RandomMatrix w(random, map.layout(), Packing::kBinary, 69, false, false, true);
  constexpr size_t kMostTokens = 70;
  const std::vector<float> x = test::RandomFloats(random, kMostTokens * spec.columns);
  REQUIRE(ForceTarget("SCALAR"));
  const std::vector<float> expected = RunProduct(w.view, map, x, kMostTokens, Method::kTables).y;
  for (const std::string& target : AvailableTargets()) {
    REQUIRE(ForceTarget(target));
    for (size_t tokens = kLeastTileTokens - 1; tokens <= kMostTokens; ++tokens) {
      INFO(target << ", " << tokens << " tokens");
      const std::vector<float> some(x.begin(), x.begin() + ptrdiff_t(tokens * spec.columns));
      const std::vector<float> y = RunProduct(w.view, map, some, tokens, Method::kTiles).y;
      CHECK(std::equal(y.begin(), y.end(), expected.begin()));
    }
  }
}

TEST_CASE("tiles are chosen for many tokens only, and where the target has them") {
  const test::KernelState restore;
  for (const std::string& target : AvailableTargets()) {
    REQUIRE(ForceTarget(target));
    INFO(target);
    CHECK(HasTiles() == (target == "AVX3_AMX"));
    CHECK(FasterTableForm(kLeastTileTokens - 1) == TableForm::kLookUp);
    if (!HasTiles()) CHECK(FasterTableForm(64) == TableForm::kLookUp);
  }
}

TEST_CASE("the product is that of the reconstructed rows, within the 8-bit rounding") {
  const test::KernelState restore;
  const size_t index = GENERATE(range(size_t{0}, Shapes().size()));
  const Shape& shape = Shapes()[index];
  for (const Packing packing : kPackings) {
    std::mt19937_64 random(index + 100);
    const ActivationMap map(SpecOf(random, shape, packing));
    const RandomMatrix w(random, map.layout(), packing, shape.rows, shape.per_block, shape.means,
                         shape.bias);
    const std::vector<float> x = test::RandomFloats(random, shape.columns);
    std::vector<float> rows(shape.rows * shape.columns);
    ReconstructRows(w.view, map, 0, shape.rows, rows.data());
    const StreamLayout& layout = map.layout();
    std::vector<float> u(layout.u_samples), scratch(shape.columns);
    map.Interpolate(x.data(), u.data(), scratch.data());
    for (const Method method : test::kMethods) {
      INFO("packing " << int(packing) << " shape " << index << " method " << int(method));
      const test::ProductResult result = RunProduct(w.view, map, x, 1, method);
      // Each of the summed 8-bit numbers is off by half a step at most.
      std::vector<float> steps(layout.segments.size());
      std::memcpy(steps.data(), result.prepared.data(), steps.size() * sizeof(float));
      const double per_sample = method == Method::kPopcount          ? 1.0
                                : packing == Packing::kTernaryPacked ? 0.4
                                                                     : 0.25;
      const double planes = method == Method::kPopcount ? 1.0 : double(layout.planes);
      for (size_t r = 0; r < shape.rows; ++r) {
        double exact = shape.bias ? double(w.bias[r]) : 0.0, bound = 1e-4;
        for (size_t c = 0; c < shape.columns; ++c) {
          exact += double(rows[r * shape.columns + c]) * double(x[c]);
        }
        for (size_t s = 0; s < layout.segments.size(); ++s) {
          const Segment& segment = layout.segments[s];
          const size_t at = shape.per_block ? r * layout.blocks + segment.block : r;
          const double scale = 0.75 * double(F32FromF16(w.scales[at]));
          const double samples = double((segment.samples + 7) / 8 * 8);
          bound += scale * double(steps[s]) * 0.501 * planes * (per_sample * samples + 2);
          for (size_t i = 0; i < segment.samples; ++i) {
            bound += 2e-6 * scale * std::abs(double(u[segment.first_sample + i]));
          }
        }
        CHECK(std::abs(double(result.y[r]) - exact) <= bound);
      }
    }
  }
}

TEST_CASE("activations that tables represent exactly give exact products") {
  // Whole numbers whose largest sum of four is 127: the scale is 1.
  const test::KernelState restore;
  MapSpec spec;
  spec.columns = 64;
  const ActivationMap map(spec);
  std::mt19937_64 random(3);
  RandomMatrix w(random, map.layout(), Packing::kBinary, 16, false, false, false);
  w.view.scale_base = 1.0f;
  std::fill(w.scales.begin(), w.scales.end(), uint16_t{0x3c00});
  std::vector<float> x(64);
  for (float& value : x) value = float(int(random() % 63) - 31);
  x[0] = 31, x[1] = -32, x[2] = 32, x[3] = 32;  // the largest magnitudes: 127
  const std::vector<float> y = RunProduct(w.view, map, x, 1, Method::kTables).y;
  for (size_t r = 0; r < 16; ++r) {
    float expected = 0.0f;
    for (size_t c = 0; c < 64; ++c) {
      expected += (w.bits[c / 8 * 16 + r] >> c % 8 & 1) != 0 ? x[c] : -x[c];
    }
    CHECK(y[r] == expected);
  }
}

TEST_CASE("largest sums do not overflow") {
  const test::KernelState restore;
  for (const Packing packing : kPackings) {
    MapSpec spec;
    spec.columns = 3000;
    spec.packing = packing;
    const ActivationMap map(spec);
    const StreamLayout& layout = map.layout();
    std::vector<uint8_t> bits(layout.tile_bytes() + 64, 0);
    // All samples +1.
    const size_t plus = layout.row_bytes * 16;
    std::fill(bits.begin(), bits.begin() + ptrdiff_t(plus),
              packing == Packing::kTernaryPacked ? uint8_t{250} : uint8_t{255});
    const std::vector<uint16_t> scales(16, 0x3c00);
    StreamMatrix w;
    w.bits = bits.data();
    w.rows = 16;
    w.scales_f16 = scales.data();
    const std::vector<float> x(3000, 1.0f);
    for (const std::string& target : AvailableTargets()) {
      INFO(target << " packing " << int(packing));
      REQUIRE(ForceTarget(target));
      for (const Method method : test::kMethods) {
        for (const float y : RunProduct(w, map, x, 1, method).y) {
          // Two trits' sum of 2 / 3 of the largest one rounds to 85 / 127.
          CHECK(y == Approx(3000.0).epsilon(0.002));
        }
      }
    }
  }
}

TEST_CASE("bytes that are no packed trits are read alike by every target") {
  const test::KernelState restore;
  MapSpec spec;
  spec.columns = 80;
  spec.packing = Packing::kTernaryPacked;
  const ActivationMap map(spec);
  std::mt19937_64 random(8);
  RandomMatrix w(random, map.layout(), spec.packing, 32, false, false, false);
  for (size_t i = 0; i < 512; ++i) w.bits[i] = static_cast<uint8_t>(i * 89);  // each byte twice
  constexpr size_t kMostTokens = 17;
  const std::vector<float> x = test::RandomFloats(random, kMostTokens * 80);
  for (const Method method : test::kMethods) {
    REQUIRE(ForceTarget("SCALAR"));
    const std::vector<float> expected = RunProduct(w.view, map, x, kMostTokens, method).y;
    for (const std::string& target : AvailableTargets()) {
      REQUIRE(ForceTarget(target));
      for (const size_t tokens : {size_t{1}, size_t{5}, kMostTokens}) {
        const std::vector<float> some(x.begin(), x.begin() + ptrdiff_t(tokens * 80));
        const std::vector<float> y = RunProduct(w.view, map, some, tokens, method).y;
        INFO(target << ", " << tokens << " tokens");
        CHECK(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("zeros give zeros and non-finite activations stay visible") {
  const test::KernelState restore;
  for (const std::string& target : AvailableTargets()) {
    REQUIRE(ForceTarget(target));
    for (const Packing packing : kPackings) {
      INFO(target << " packing " << int(packing));
      MapSpec spec;
      spec.columns = 40;
      spec.packing = packing;
      const ActivationMap map(spec);
      std::mt19937_64 random(8);
      const RandomMatrix w(random, map.layout(), packing, 16, false, false, false);
      for (const Method method : test::kMethods) {
        std::vector<float> x(40, 0.0f);
        for (const float y : RunProduct(w.view, map, x, 1, method).y) CHECK(y == 0.0f);
        x[7] = 1e-38f;
        for (const float y : RunProduct(w.view, map, x, 1, method).y) CHECK(y == 0.0f);
        for (const float bad :
             {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
          x[7] = bad;
          for (const float y : RunProduct(w.view, map, x, 1, method).y) CHECK(std::isnan(y));
        }
      }
    }
  }
}

}  // namespace sdq::kernels
