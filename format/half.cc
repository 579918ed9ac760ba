// IEEE binary16 and bfloat16: conversions declared in tensor.h.
#include <bit>
#include <cstdint>

#include "format/tensor.h"

namespace sdq::format {
namespace {

// Drops the low `bits` of a magnitude, rounding to nearest, ties to even. Carries into the exponent
// are right as they are: the encodings are ordered.
uint32_t ShiftRoundEven(uint32_t value, uint32_t bits) {
  const uint32_t half = 1u << (bits - 1);
  const uint32_t odd = (value >> bits) & 1u;
  return (value + half - 1 + odd) >> bits;
}

}  // namespace

float F16ToF32(uint16_t h) {
  const uint32_t sign = uint32_t{h & 0x8000u} << 16;
  const uint32_t magnitude = h & 0x7fffu;
  if (magnitude < 0x0400) {  // zero and subnormals: a multiple of 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  const uint32_t exponent_shift = magnitude >= 0x7c00 ? (255u - 31u) << 23 : (127u - 15u) << 23;
  return std::bit_cast<float>(((magnitude << 13) + exponent_shift) | sign);
}

uint16_t F32ToF16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;  // NaN, quiet
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;                       // 65520 and more round to infinity
  } else if (magnitude >= 0x38800000u) {  // at least 2^-14: normal
    half = ShiftRoundEven(magnitude - ((127u - 15u) << 23), 13);
  } else if (magnitude >= 0x33000000u) {  // at least 2^-25: subnormal, or rounds to the least one
    const uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
    half = ShiftRoundEven(significand, 126u - (magnitude >> 23));
  }
  return static_cast<uint16_t>(half | sign);
}

float BF16ToF32(uint16_t h) { return std::bit_cast<float>(uint32_t{h} << 16); }

uint16_t F32ToBF16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint32_t sign = bits & 0x80000000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<uint16_t>(ShiftRoundEven(magnitude, 16) | (sign >> 16));
}

}  // namespace sdq::format
