#include "kernels/stream_layout.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <complex>
#include <random>
#include <vector>

#include "tests/kernels/stream_fixture.h"

namespace sdq::kernels {
namespace {

constexpr double kPi = 3.14159265358979323846;

MapSpec LowPassSpec(size_t columns, uint32_t p, uint32_t q, uint32_t block) {
  MapSpec spec;
  spec.columns = columns;
  spec.decimator = Decimator::kIdealLowPass;
  spec.osr_num = p;
  spec.osr_den = q;
  spec.block = block;
  return spec;
}

// scipy.signal.resample of real x to `length`, by naive transforms.
std::vector<double> Resample(const std::vector<double>& x, size_t length) {
  using Complex = std::complex<double>;
  const size_t n = x.size(), common = std::min(n, length);
  std::vector<Complex> spectrum(length / 2 + 1);
  for (size_t f = 0; f < common / 2 + 1; ++f) {
    for (size_t j = 0; j < n; ++j) {
      spectrum[f] += x[j] * std::polar(1.0, -2 * kPi * double(f * j % n) / double(n));
    }
  }
  if (common % 2 == 0 && length < n) spectrum[common / 2] *= 2.0;
  if (common % 2 == 0 && length > n) spectrum[common / 2] *= 0.5;
  std::vector<double> y(length);
  for (size_t c = 0; c < length; ++c) {
    double sum = spectrum[0].real();
    for (size_t f = 1; f < spectrum.size(); ++f) {
      const double weight = 2 * f == length ? 1.0 : 2.0;
      const Complex turned =
          spectrum[f] * std::polar(1.0, 2 * kPi * double(f * c % length) / double(length));
      sum += weight * turned.real();
    }
    y[c] = sum / double(n);  // 1 / length of the inverse, times length / n
  }
  return y;
}

}  // namespace

TEST_CASE("tiles interleave the rows' bytes and put planes one after the other") {
  MapSpec spec;
  spec.columns = 20;
  spec.packing = Packing::kTernaryPlanes;
  const StreamLayout layout(spec);
  CHECK(layout.row_samples == 20);
  CHECK(layout.row_bytes == 3);
  CHECK(layout.tile_bytes() == 2 * 3 * 16);

  // Row 17 (tile 1, row 1): sample 9 is +1, sample 19 is -1, all others 0. f16 1.0 = 0x3c00.
  std::vector<uint8_t> bits(2 * layout.tile_bytes() + 64, 0);
  bits[96 + 1 * 16 + 1] = 1u << 1;
  bits[96 + 48 + 2 * 16 + 1] = 1u << 3;
  const std::vector<uint16_t> scales(18, 0x3c00);
  StreamMatrix w;
  w.bits = bits.data();
  w.rows = 18;
  w.scales_f16 = scales.data();
  const ActivationMap map(spec);
  std::vector<float> row(20);
  ReconstructRows(w, map, 17, 1, row.data());
  for (size_t c = 0; c < 20; ++c) CHECK(row[c] == (c == 9 ? 1.0f : c == 19 ? -1.0f : 0.0f));
  ReconstructRows(w, map, 16, 1, row.data());
  for (const float value : row) CHECK(value == 0.0f);
}

TEST_CASE("packed trits: five per byte, least significant first") {
  MapSpec spec;
  spec.columns = 7;
  spec.packing = Packing::kTernaryPacked;
  const StreamLayout layout(spec);
  CHECK(layout.row_bytes == 2);
  std::vector<uint8_t> bits(layout.tile_bytes() + 64, 0);
  bits[0] = 2 + 1 * 3 + 0 * 9 + 28 * (2 + 1 * 3);  // +1 0 -1 +1 0
  bits[16] = 0 + 2 * 3;                            // -1 +1
  const uint16_t scale = 0x4000;                   // 2.0
  StreamMatrix w;
  w.bits = bits.data();
  w.rows = 1;
  w.scales_f16 = &scale;
  std::vector<float> row(7);
  ReconstructRows(w, ActivationMap(spec), 0, 1, row.data());
  CHECK(row == std::vector<float>{2, 0, -2, 2, 0, -2, 2});
}

TEST_CASE("blocks start on new bytes and are cut into segments") {
  MapSpec spec = LowPassSpec(300, 13, 10, 128);
  const StreamLayout layout(spec);
  // floor(128 * 1.3) = 166, twice, and floor(44 * 1.3) = 57 samples.
  CHECK(layout.blocks == 3);
  CHECK(layout.row_samples == 389);
  CHECK(layout.row_bytes == 21 + 21 + 8);
  REQUIRE(layout.segments.size() == 3);
  CHECK(layout.segments[1].first_sample == 166);
  CHECK(layout.segments[1].first_byte == 21);
  CHECK(layout.segments[2].bytes == 8);

  std::mt19937_64 random(1);
  MapSpec polyphase = test::PolyphaseSpec(random, 1100, 2, 1, 8, 5);
  const StreamLayout whole_row(polyphase);
  CHECK(whole_row.row_samples == 2205);
  REQUIRE(whole_row.segments.size() == 3);
  CHECK(whole_row.segments[2].samples == 157);
  CHECK(whole_row.segments[2].first_byte == 256);
  polyphase.packing = Packing::kTernaryPacked;
  const StreamLayout packed(polyphase);
  REQUIRE(packed.segments.size() == 3);
  CHECK(packed.segments[1].first_sample == 1000);
  CHECK(packed.segments[1].first_byte == 200);
}

TEST_CASE("polyphase decimator: hand-made example") {
  MapSpec spec;
  spec.columns = 4;
  spec.decimator = Decimator::kPolyphase;
  spec.osr_num = 3;
  spec.osr_den = 2;
  spec.window = 2;
  spec.lead = 1;
  spec.taps = {10, 20, 30, 40};
  // Samples seen by weights 0..3: e = 1 + floor(3 (i + 1) / 2) = 2, 4, 5, 7; M = 7.
  const std::vector<float> expected = {
      20, 10, 0,  0,  0,  0,  0,   // q1, q0
      0,  0,  40, 30, 0,  0,  0,   // q3, q2
      0,  0,  0,  20, 10, 0,  0,   // q4, q3
      0,  0,  0,  0,  0,  40, 30,  // q6, q5
  };
  CHECK(DecimatorMatrix(spec) == expected);
  spec.lead = 0;
  spec.window = 3;
  spec.taps = {1, 2, 3, 4, 5, 6};
  const std::vector<float> d = DecimatorMatrix(spec);  // e = 1, 3, 4, 6; taps before 0 dropped
  CHECK(std::vector<float>(d.begin(), d.begin() + 6) == std::vector<float>{1, 0, 0, 0, 0, 0});
  CHECK(std::vector<float>(d.begin() + 6, d.begin() + 12) == std::vector<float>{6, 5, 4, 0, 0, 0});
}

TEST_CASE("ideal low-pass equals resampling by discrete Fourier transforms") {
  struct Case {
    size_t columns;
    uint32_t p, q, block;
  };
  const auto c = GENERATE(values<Case>({{1, 2, 1, 1},
                                        {2, 2, 1, 2},
                                        {5, 2, 1, 0},
                                        {8, 1, 1, 8},
                                        {7, 1, 1, 7},
                                        {8, 3, 2, 8},
                                        {31, 237, 100, 31},
                                        {32, 5, 4, 32},
                                        {33, 13, 10, 16},
                                        {128, 2, 1, 128},
                                        {100, 7, 4, 64},
                                        {12, 1, 2, 12},
                                        {10, 3, 5, 10}}));
  const MapSpec spec = LowPassSpec(c.columns, c.p, c.q, c.block);
  const StreamLayout layout(spec);
  const std::vector<float> d = DecimatorMatrix(spec);
  std::mt19937_64 random(c.columns);
  const std::vector<float> q = test::RandomFloats(random, layout.row_samples);
  const size_t block = c.block == 0 ? c.columns : c.block;
  size_t sample = 0;
  for (size_t at = 0; at < c.columns; at += block) {
    const size_t length = std::min(block, c.columns - at);
    const size_t samples = length * c.p / c.q;
    const std::vector<double> x(q.begin() + ptrdiff_t(sample),
                                q.begin() + ptrdiff_t(sample + samples));
    const std::vector<double> expected = Resample(x, length);
    for (size_t i = 0; i < length; ++i) {
      double w = 0.0;
      for (size_t j = 0; j < layout.row_samples; ++j) {
        w += double(d[(at + i) * layout.row_samples + j]) * double(q[j]);
      }
      CHECK(w == Approx(expected[i]).margin(2e-6));
    }
    sample += samples;
  }
}

TEST_CASE("interpolation is the transposed decimator, with the same bits on every target") {
  const test::KernelState restore;
  struct Case {
    size_t columns;
    uint32_t p, q, window, lead, block;
    bool low_pass;
  };
  const auto c = GENERATE(values<Case>({{1, 1, 1, 1, 0, 0, false},
                                        {2, 2, 1, 8, 7, 0, false},
                                        {3, 3, 2, 8, 0, 0, false},
                                        {33, 5, 4, 10, 3, 0, false},
                                        {96, 7, 4, 16, 15, 0, false},
                                        {129, 5, 2, 8, 8, 32, false},
                                        {500, 4, 1, 5, 1, 0, false},
                                        {288, 3, 1, 12, 40, 0, false},
                                        {288, 13, 10, 8, 2, 96, false},
                                        {300, 237, 100, 9, 6, 0, false},
                                        {300, 2, 1, 0, 0, 128, true},
                                        {33, 13, 10, 0, 0, 16, true},
                                        {20, 3, 2, 0, 0, 0, true}}));
  std::mt19937_64 random(c.columns + c.p);
  MapSpec spec = c.low_pass ? LowPassSpec(c.columns, c.p, c.q, c.block)
                            : test::PolyphaseSpec(random, c.columns, c.p, c.q, c.window, c.lead);
  if (c.q > 64) spec = test::PolyphaseSpec(random, c.columns, 151, 64, c.window, c.lead);
  spec.block = c.block;
  const std::vector<float> x = test::RandomFloats(random, c.columns);
  const std::vector<float> d = DecimatorMatrix(spec);
  std::vector<float> reference;
  for (const char* rotation : {"none", "rotated"}) {
    spec.rotation_block = *rotation == 'r' ? 64 : 0;
    const ActivationMap map(spec);
    const size_t samples = map.layout().row_samples;
    std::vector<float> scratch(c.columns), rotated = x;
    Rotation(c.columns, spec.rotation_block, 0).Apply(rotated.data());
    REQUIRE(ForceTarget("SCALAR"));
    std::vector<float> expected(samples);
    map.Interpolate(x.data(), expected.data(), scratch.data());
    for (size_t k = 0; k < samples; ++k) {
      double sum = 0.0;
      for (size_t i = 0; i < c.columns; ++i) {
        sum += double(d[i * samples + k]) * double(rotated[i]);
      }
      CHECK(double(expected[k]) == Approx(sum).margin(1e-4));
    }
    for (const std::string& target : AvailableTargets()) {
      INFO(target);
      REQUIRE(ForceTarget(target));
      std::vector<float> u(samples);
      map.Interpolate(x.data(), u.data(), scratch.data());
      CHECK(u == expected);
    }
    // Decimate is the adjoint: q . u(x) = w(q) . x.
    const std::vector<float> q = test::RandomFloats(random, samples);
    std::vector<float> w(c.columns);
    map.Decimate(q.data(), w.data());
    double left = 0.0, right = 0.0;
    for (size_t k = 0; k < samples; ++k) left += double(q[k]) * double(expected[k]);
    for (size_t i = 0; i < c.columns; ++i) right += double(w[i]) * double(x[i]);
    CHECK(left == Approx(right).margin(1e-3));
  }
}

}  // namespace sdq::kernels
