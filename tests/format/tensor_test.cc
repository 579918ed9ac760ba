// Geometry and rules of tensors; half-precision conversions; UTF-8.
#include "format/tensor.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "format/utf8.h"
#include "tests/format/sample_file.h"

namespace sdq::test {
namespace {

using Catch::Contains;
using format::Alphabet;
using format::DecimatorSpec;
using format::RotationKind;

TEST_CASE("geometry of a polyphase row") {
  const DecimatorSpec spec = PolyphaseSample();
  CHECK(format::BlockCount(spec, 25) == 1);
  CHECK(format::BlockSamples(spec, 25, 0) == 2 + 37);
  CHECK(format::RowSamples(spec, 25) == 39);
  CHECK(format::RowBytes(spec, Alphabet::kBinary, 25) == 5);
  CHECK(format::BitstreamBytes(spec, Alphabet::kBinary, 17, 25) == 2 * 16 * 5);
  CHECK(format::BitstreamBytes(spec, Alphabet::kTernaryPlanes, 16, 25) == 2 * 16 * 5);
  CHECK(format::BitstreamBytes(spec, Alphabet::kTernaryPacked, 1, 25) == 16 * 8);
}

TEST_CASE("packed trits: 243 bytes stand for all fives of digits, 13 for none") {
  bool used[256] = {};
  for (unsigned low = 0; low < 27; ++low) {
    for (unsigned high = 0; high < 9; ++high) {
      const uint8_t byte = format::PackedByte(low + 27 * high);
      CHECK(byte == low + 28 * high);
      CHECK(format::PackedNumber(byte) == low + 27 * high);
      CHECK(format::IsPackedByte(byte));
      CHECK(!used[byte]);
      used[byte] = true;
    }
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    CHECK(format::IsPackedByte(uint8_t(byte)) == used[byte]);
  }
}

TEST_CASE("a derived stream: its taps, and what is none") {
  DecimatorSpec spec = PolyphaseSample();  // Q = 2, L = 4
  const auto validate = [&](uint32_t derived, uint32_t taps) {
    spec.derived = derived;
    spec.taps.assign(size_t{2} * taps, 0.5f);
    return format::ValidateDecimator(spec, 25);
  };
  CHECK(validate(0b11, 4 + 3).ok());
  CHECK(format::DerivedReach(spec) == 1);
  CHECK(format::PhaseTaps(spec) == 7);
  CHECK(format::RowSamples(spec, 25) == 39);  // nothing of it is stored
  CHECK(validate(0b1011, 4 + 1).ok());
  CHECK_THAT(validate(0b11, 4).message(), Contains("8 taps for 2 phases of 7"));
  CHECK_THAT(validate(0b10, 7).message(), Contains("derived stream of the samples 0x2"));
  CHECK_THAT(validate(0b1, 8).message(), Contains("0x1"));
  CHECK_THAT(validate(0b10001, 4).message(), Contains("less than the window of 4"));
  CHECK_THAT(validate(0xffffffff, 4).message(), Contains("derived stream"));
  spec.window = 16;
  CHECK(validate(0x81, 16 + 9).ok());
  CHECK_THAT(validate(0x101, 16 + 8).message(), Contains("up to 7"));
  DecimatorSpec low_pass = LowPassSample();
  low_pass.derived = 3;
  CHECK_THAT(format::ValidateDecimator(low_pass, 37).message(), Contains("only a polyphase"));
}

TEST_CASE("geometry of low-pass blocks: each starts on a new byte") {
  const DecimatorSpec spec = LowPassSample();  // 7/4, blocks of 16
  CHECK(format::BlockCount(spec, 37) == 3);
  CHECK(format::BlockColumns(spec, 37, 1) == 16);
  CHECK(format::BlockColumns(spec, 37, 2) == 5);
  CHECK(format::BlockSamples(spec, 37, 0) == 28);
  CHECK(format::BlockSamples(spec, 37, 2) == 8);
  CHECK(format::RowSamples(spec, 37) == 64);
  CHECK(format::RowBytes(spec, Alphabet::kBinary, 37) == 4 + 4 + 1);
  CHECK(format::RowBytes(spec, Alphabet::kTernaryPacked, 37) == 6 + 6 + 2);
  CHECK(format::BlockCount(spec, 12) == 1);  // a block wider than the row
  CHECK(format::RowSamples(spec, 12) == 21);
}

TEST_CASE("geometry at the caps stays inside 64 bits") {
  DecimatorSpec spec = LowPassSample();
  spec.osr_num = 16;
  spec.osr_den = 1;
  spec.block = 1;
  const uint32_t most = format::kMaxDimension;
  REQUIRE(format::ValidateDecimator(spec, most).ok());
  CHECK(format::RowSamples(spec, most) == uint64_t{16} << 24);
  CHECK(format::BitstreamBytes(spec, Alphabet::kTernaryPlanes, most, most) == uint64_t{1} << 50);
}

TEST_CASE("low-pass blocks whose matrix would be huge are refused") {
  DecimatorSpec spec = LowPassSample();
  spec.block = 4096;
  spec.osr_num = 16;
  spec.osr_den = 1;
  CHECK_THAT(format::ValidateDecimator(spec, 4096).message(), Contains("must not exceed"));
  CHECK(format::ValidateDecimator(spec, 512).ok());  // the row is narrower than the block
}

TEST_CASE("rotation blocks: any length whose odd factor is small") {
  const auto validate = [](uint32_t block, uint32_t columns) {
    return format::ValidateRotation({RotationKind::kHadamard, block, 1}, columns);
  };
  for (const uint32_t columns : {1u, 60u, 288u, 704u, 4096u, 11008u, 13824u, 28672u, 1023u << 10}) {
    CHECK(validate(columns, columns).ok());
  }
  CHECK(validate(128, 288).ok());
  CHECK_THAT(validate(1031, 1031).message(), Contains("odd factor 1031"));
  CHECK_THAT(validate(2048, 2048 + 1027).message(), Contains("odd factor 1027"));  // the tail
  CHECK_FALSE(validate(0, 16).ok());
  CHECK_FALSE(validate(17, 16).ok());
}

TEST_CASE("f16 and f32: every half survives, and rounding is to nearest even") {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = format::F16ToF32(uint16_t(h));
    if ((h & 0x7fff) > 0x7c00) {
      if (!std::isnan(f) || !std::isnan(format::F16ToF32(format::F32ToF16(f)))) FAIL(h);
    } else if (format::F32ToF16(f) != h) {
      FAIL("half " << h << " became " << format::F32ToF16(f));
    }
  }
  // Between neighbours a < b: just below, at and just above the middle.
  for (uint32_t h = 0; h < 0x7bff; ++h) {
    const double a = double(format::F16ToF32(uint16_t(h)));
    const double b = double(format::F16ToF32(uint16_t(h + 1)));
    const float middle = float((a + b) / 2);
    const uint32_t even = h % 2 == 0 ? h : h + 1;
    if (format::F32ToF16(middle) != even) FAIL("middle above " << h);
    if (format::F32ToF16(std::nextafter(middle, 0.0f)) != h) FAIL("below middle above " << h);
    if (format::F32ToF16(std::nextafter(middle, 1e9f)) != h + 1) FAIL("above middle above " << h);
  }
  CHECK(format::F32ToF16(65519.996f) == 0x7bff);
  CHECK(format::F32ToF16(65520.0f) == 0x7c00);
  CHECK(format::F32ToF16(-1e30f) == 0xfc00);
  CHECK(format::F32ToF16(0x1p-26f) == 0);
  CHECK(format::F16ToF32(0x0001) == 0x1p-24f);
  CHECK(format::F16ToF32(0xc500) == -5.0f);
}

TEST_CASE("bf16 and f32") {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = format::BF16ToF32(uint16_t(h));
    if (std::isnan(f)) continue;
    if (format::F32ToBF16(f) != h) FAIL("bf16 " << h);
  }
  CHECK(format::F32ToBF16(1.00390625f) == 0x3f80);  // the middle: to even
  CHECK(format::F32ToBF16(1.01171875f) == 0x3f82);
  CHECK(format::F32ToBF16(3.4e38f) == 0x7f80);
  CHECK(std::isnan(format::BF16ToF32(format::F32ToBF16(NAN))));
}

TEST_CASE("UTF-8 is told from other bytes") {
  for (const char* good : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "h\xc3\xa9!"}) {
    CHECK(format::IsUtf8(good));
  }
  for (const char* bad : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41",
                          "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe1\x80", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe2\x82"}) {
    CHECK_FALSE(format::IsUtf8(bad));
  }
}

}  // namespace
}  // namespace sdq::test
