// An exact over-sampling ratio.
#ifndef SDQ_CONVERTER_RATE_H_
#define SDQ_CONVERTER_RATE_H_

#include <cstdint>
#include <string>

namespace sdq::converter {

// OSR = num / den, in lowest terms.
struct Rate {
  uint32_t num = 2;
  uint32_t den = 1;
  double osr() const { return double(num) / double(den); }
  bool operator==(const Rate&) const = default;
};

// In the place of a decimator's window: the one that suits the rate.
inline constexpr uint32_t kWindowByRate = 0;

// In the place of a rate: no bitstream, but 8-bit rows (embeddings and head only).
inline constexpr Rate kEightBitRows = {8, 0};

// The fraction nearest to `osr` with a denominator up to max_den.
Rate NearestRate(double osr, uint32_t max_den);

struct NamedRate {
  std::string name;  // canonical name of the linear
  Rate rate;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_RATE_H_
