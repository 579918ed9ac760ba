// Samples and scales in the layout of the file.
#include <algorithm>
#include <cmath>

#include "converter/encoder.h"
#include "format/layout.h"

namespace sdq::converter {
namespace {

constexpr int kLargestExponent = 13;  // the largest scale is stored in [2^13, 2^14)
constexpr float kSmallestNormal = 0x1p-14f;

// One byte of one plane from the first of `count` samples.
uint8_t PackByte(const int8_t* q, size_t count, format::Alphabet alphabet, size_t plane) {
  unsigned byte = 0;
  if (alphabet == format::Alphabet::kTernaryPacked) {
    for (size_t i = count; i-- > 0;) byte = byte * 3 + unsigned(q[i] + 1);
    byte = format::PackedByte(byte);
  } else {
    const int8_t marked = plane == 0 ? 1 : -1;
    for (size_t i = 0; i < count; ++i) byte |= unsigned(q[i] == marked) << i;
  }
  return uint8_t(byte);
}

float Largest(const std::vector<float>& values) {
  float largest = 0;
  for (const float v : values) largest = std::max(largest, std::abs(v));
  return largest;
}

// Round to nearest; below the normal range to zero or to the smallest normal number.
uint16_t NormalF16(float value) {
  const float magnitude = std::abs(value);
  if (magnitude >= kSmallestNormal) return format::F32ToF16(value);
  if (magnitude < 0.5f * kSmallestNormal) return 0;
  return format::F32ToF16(std::copysign(kSmallestNormal, value));
}

}  // namespace

std::vector<uint8_t> PackSamples(const std::vector<int8_t>& samples, uint32_t rows,
                                 uint32_t columns, const format::DecimatorSpec& decimator,
                                 format::Alphabet alphabet) {
  constexpr size_t kTile = format::kTileRows;
  const size_t per_byte = alphabet == format::Alphabet::kTernaryPacked ? 5 : 8;
  const size_t planes = alphabet == format::Alphabet::kTernaryPlanes ? 2 : 1;
  const size_t row_samples = format::RowSamples(decimator, columns);
  const size_t row_bytes = format::RowBytes(decimator, alphabet, columns);
  const uint32_t blocks = format::BlockCount(decimator, columns);
  std::vector<uint8_t> bits(
      format::BitstreamBytes(decimator, alphabet, rows, columns) + format::kReadSlack, uint8_t{0});
  for (size_t row = 0; row < rows; ++row) {
    for (size_t plane = 0; plane < planes; ++plane) {
      const int8_t* q = samples.data() + row * row_samples;
      uint8_t* out = bits.data() + (row / kTile * planes + plane) * row_bytes * kTile + row % kTile;
      for (uint32_t b = 0; b < blocks; ++b) {
        const size_t count = format::BlockSamples(decimator, columns, b);
        for (size_t i = 0; i < count; i += per_byte, out += kTile) {
          *out = PackByte(q + i, std::min(per_byte, count - i), alphabet, plane);
        }
        q += count;
      }
    }
  }
  return bits;
}

uint32_t FreeLead(const format::DecimatorSpec& decimator, format::Alphabet alphabet,
                  size_t columns) {
  const uint32_t per_byte = alphabet == format::Alphabet::kTernaryPacked ? 5 : 8;
  const uint64_t samples = uint64_t(columns) * decimator.osr_num / decimator.osr_den;
  const uint32_t room = uint32_t((per_byte - samples % per_byte) % per_byte);
  const uint32_t own = decimator.osr_num / decimator.osr_den;
  return std::min(room, decimator.window - std::min(own, decimator.window));
}

void PackScales(const std::vector<float>& scales, std::vector<uint16_t>* f16, float* base) {
  const float largest = Largest(scales);
  *base = 1.0f;
  if (largest > 0) {
    const float ideal = std::ldexp(1.0f, std::ilogb(largest) - kLargestExponent);
    *base = std::clamp(ideal, format::kMinScaleBase, format::kMaxScaleBase);
  }
  f16->resize(scales.size());
  for (size_t i = 0; i < scales.size(); ++i) (*f16)[i] = NormalF16(scales[i] / *base);
}

}  // namespace sdq::converter
