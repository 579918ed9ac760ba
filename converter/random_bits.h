// Reproducible random words: the same on any machine, in any order of use.
#ifndef SDQ_CONVERTER_RANDOM_BITS_H_
#define SDQ_CONVERTER_RANDOM_BITS_H_

#include <cstdint>
#include <string_view>

namespace sdq::converter {

// SplitMix64 (Steele, Lea and Flood 2014): 64 bits per step, any seed is a good one.
class SplitMix64 {
 public:
  // Continues behind the first `skipped` words.
  explicit SplitMix64(uint64_t seed, uint64_t skipped = 0) : state_(seed + skipped * kStep) {}
  uint64_t Next() {
    state_ += kStep;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;
  uint64_t state_;
};

// FNV-1a.
inline uint64_t HashName(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ uint8_t(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_RANDOM_BITS_H_
