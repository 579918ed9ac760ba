// Shared by the tests of the float kernels: random data, every target, both thread counts.
#ifndef SDQ_TESTS_KERNELS_DENSE_SUPPORT_H_
#define SDQ_TESTS_KERNELS_DENSE_SUPPORT_H_

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/parallel.h"

namespace sdq::test {

inline std::vector<float> RandomFloats(size_t n, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(n);
  for (float& v : values) v = normal(generator);
  return values;
}

// An array of exactly n elements that begins one element behind an aligned address: ASan sees reads
// past its end, and kernels that assume aligned vectors fault.
template <class T>
class OddArray {
 public:
  explicit OddArray(size_t n) : storage_(new T[n + 1]()), size_(n) {}
  explicit OddArray(const std::vector<T>& values) : OddArray(values.size()) {
    for (size_t i = 0; i < size_; ++i) data()[i] = values[i];
  }
  T* data() { return storage_.get() + 1; }
  const T* data() const { return storage_.get() + 1; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  size_t size() const { return size_; }

 private:
  std::unique_ptr<T[]> storage_;
  size_t size_;
};

// Runs fn() once per target, each forced; back to the best one at the end.
template <class Function>
void ForEachTarget(const Function& fn) {
  for (const std::string& name : kernels::AvailableTargets()) {
    REQUIRE(kernels::ForceTarget(name));
    INFO("target " << name);
    fn();
  }
  kernels::ForceTarget("");
}

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) return false;
  }
  return true;
}

// Distance in units in the last place of the expected value (at least the smallest subnormal).
inline double UlpError(float actual, double expected) {
  if (std::isnan(actual) || std::isnan(expected)) {
    return std::isnan(actual) && std::isnan(expected) ? 0.0 : HUGE_VAL;
  }
  const float rounded = static_cast<float>(expected);
  if (std::isinf(actual) || std::isinf(rounded)) return actual == rounded ? 0.0 : HUGE_VAL;
  const int exponent = std::max(std::ilogb(rounded == 0.0f ? 1e-45f : rounded), -126);
  return std::abs(static_cast<double>(actual) - expected) / std::ldexp(1.0, exponent - 23);
}

// Lengths around the vector widths of all targets.
inline const std::vector<size_t>& OddSizes() {
  static const std::vector<size_t> sizes = {1,  2,  3,  4,  5,  7,  8,   9,   15,  16,  17, 31,
                                            32, 33, 47, 63, 64, 65, 100, 127, 128, 129, 257};
  return sizes;
}

}  // namespace sdq::test

#endif  // SDQ_TESTS_KERNELS_DENSE_SUPPORT_H_
