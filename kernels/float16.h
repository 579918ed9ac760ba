// IEEE 754 half precision in plain code: the definition that hardware conversions agree with.
#ifndef SDQ_KERNELS_FLOAT16_H_
#define SDQ_KERNELS_FLOAT16_H_

#include <bit>
#include <cstdint>

namespace sdq::kernels {

// Exact, subnormals and infinities included. NaNs come out quiet with their payload.
inline float F32FromF16(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t magnitude = uint32_t{half & 0x7fffu} << 13;
  if (magnitude >= 0x0f800000u) {  // infinity, NaN
    const uint32_t quiet = magnitude > 0x0f800000u ? 0x00400000u : 0u;
    return std::bit_cast<float>(sign | magnitude | 0x7f800000u | quiet);
  }
  // The half's exponent sits in a float's exponent field with the wrong bias: 2^(127 - 15) mends
  // normal and subnormal numbers alike.
  const float value = std::bit_cast<float>(magnitude) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
}

// Rounds to nearest, ties to even; too large values become infinite.
inline uint16_t F16FromF32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  }
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // >= 65520
  if (magnitude < 0x38800000u) {  // < 2^-14: subnormal; 0.5 has the ulp 2^-24 in its last place
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + odd;
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_FLOAT16_H_
