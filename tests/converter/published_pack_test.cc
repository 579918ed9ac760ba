#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "converter/encoder.h"

namespace sdq::converter {
namespace {

using format::Alphabet;

format::DecimatorSpec Blocks(uint32_t num, uint32_t den, uint32_t block) {
  format::DecimatorSpec spec;
  spec.kind = format::DecimatorKind::kIdealLowPass;
  spec.osr_num = num;
  spec.osr_den = den;
  spec.block = block;
  return spec;
}

std::vector<uint8_t> Tiles(size_t bytes) { return std::vector<uint8_t>(bytes + 64, uint8_t{0}); }

TEST_CASE("binary samples: bit i of byte k is sample 8k+i, rows interleaved by byte") {
  // Two rows of 5 columns at OSR 2: 10 samples, 2 bytes.
  const std::vector<int8_t> samples = {1,  -1, -1, 1, -1, -1, -1, 1,  1,  -1,  //
                                       -1, -1, 1,  1, 1,  1,  -1, -1, -1, 1};
  std::vector<uint8_t> expected = Tiles(2 * 16);
  expected[0] = 0x89;
  expected[1] = 0x3c;
  expected[16] = 0x01;
  expected[17] = 0x02;
  CHECK(PackSamples(samples, 2, 5, Blocks(2, 1, 5), Alphabet::kBinary) == expected);
}

TEST_CASE("every block of a row starts on a new byte, every 17th row in a new tile") {
  // Columns 4 + 3 at OSR 3/2: 6 + 4 samples, one byte each; 17 rows: two tiles.
  std::vector<int8_t> samples(17 * 10, int8_t{-1});
  samples[16 * 10 + 5] = 1;
  samples[16 * 10 + 6] = 1;
  samples[3 * 10 + 9] = 1;
  std::vector<uint8_t> expected = Tiles(2 * 2 * 16);
  expected[32] = 0x20;
  expected[48] = 0x01;
  expected[16 + 3] = 0x08;
  CHECK(PackSamples(samples, 17, 7, Blocks(3, 2, 4), Alphabet::kBinary) == expected);
}

TEST_CASE("ternary planes: plus, then minus") {
  const std::vector<int8_t> samples = {1, 0, -1, -1};
  std::vector<uint8_t> expected = Tiles(2 * 16);
  expected[0] = 0x01;
  expected[16] = 0x0c;
  CHECK(PackSamples(samples, 1, 4, Blocks(1, 1, 4), Alphabet::kTernaryPlanes) == expected);
}

TEST_CASE("packed ternary: five trits per byte, least significant first") {
  // Digits 2 1 0 1 2 | 2 0: (2 + 3 + 0) + 28 (1 + 6) = 201 | 2.
  const std::vector<int8_t> samples = {1, 0, -1, 0, 1, 1, -1};
  std::vector<uint8_t> expected = Tiles(2 * 16);
  expected[0] = 201;
  expected[16] = 2;
  CHECK(PackSamples(samples, 1, 7, Blocks(1, 1, 7), Alphabet::kTernaryPacked) == expected);
}

double Stored(uint16_t f16, float base) { return double(format::F16ToF32(f16)) * double(base); }

TEST_CASE("scales of any magnitude keep f16's precision and avoid its denormals") {
  const float magnitude = GENERATE(1e-30f, 1e-6f, 1.0f, 3e4f, 1e30f);
  const std::vector<float> scales = {magnitude, magnitude / 3,  magnitude / 1e4f,
                                     0.0f,      -magnitude / 7, magnitude * 1e-9f};
  std::vector<uint16_t> f16;
  float base = 0;
  PackScales(scales, &f16, &base);
  CHECK(base >= format::kMinScaleBase);
  CHECK(base <= format::kMaxScaleBase);
  for (size_t i = 0; i < 5; ++i) {
    CHECK(Stored(f16[i], base) == Approx(double(scales[i])).epsilon(1.0 / 2048).margin(0));
  }
  for (const uint16_t h : f16) {
    const float value = std::abs(format::F16ToF32(h));
    CHECK((h == 0 || (value >= 0x1p-14f && value <= 65504.0f)));
  }
}

TEST_CASE("scales that are all zero stay zero") {
  std::vector<uint16_t> f16;
  float base = 0;
  PackScales({0.0f, 0.0f}, &f16, &base);
  CHECK(f16 == std::vector<uint16_t>{0, 0});
  CHECK(base == 1.0f);
}

}  // namespace
}  // namespace sdq::converter
