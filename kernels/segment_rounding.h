// The scale of a segment's 8-bit numbers.
#ifndef SDQ_KERNELS_SEGMENT_ROUNDING_H_
#define SDQ_KERNELS_SEGMENT_ROUNDING_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace sdq::kernels {

// |x|; of a NaN too.
inline float Magnitude(float x) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0x7fffffffu);
}

// Maximum of non-negative floats in the order finite < infinity < NaN, whatever the NaN's sign.
class LargestMagnitude {
 public:
  explicit LargestMagnitude(uint32_t bits = 0) : bits_(bits) {}
  void Add(float magnitude) { bits_ = std::max(bits_, std::bit_cast<uint32_t>(magnitude)); }
  bool finite() const { return bits_ < 0x7f800000u; }
  float value() const { return std::bit_cast<float>(bits_); }
  uint32_t bits() const { return bits_; }

 private:
  uint32_t bits_;
};

// Values times `inverse` lie in [-127, 127] after rounding; `scale` undoes it.
struct SegmentRounding {
  // Magnitudes below this count as zeros: their inverse would overflow.
  static constexpr float kSmallest = 0x1p-100f;

  explicit SegmentRounding(const LargestMagnitude& largest) {
    if (!largest.finite()) {
      scale = std::numeric_limits<float>::quiet_NaN();  // an overflowed activation stays visible
    } else if (largest.value() >= kSmallest) {
      scale = largest.value() / 127.0f;
      inverse = 127.0f / largest.value();
    }
  }

  void Scale(float* v, size_t n) const {
    if (inverse == 0.0f) {
      std::fill(v, v + n, 0.0f);
      return;
    }
    for (size_t i = 0; i < n; ++i) v[i] *= inverse;
  }

  float scale = 0.0f;
  float inverse = 0.0f;
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_SEGMENT_ROUNDING_H_
