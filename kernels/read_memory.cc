#include "kernels/read_memory.h"

#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/read_memory.cc"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h before any use of Highway.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr size_t kFetchAheadWords = 512;  // a page, where hardware prefetchers stop
inline constexpr size_t kLineWords = 8;

uint64_t XorWords(const uint64_t* words, size_t count) {
  const hn::ScalableTag<uint64_t> d;
  const size_t lanes = hn::Lanes(d);
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
  size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    for (size_t line = 0; line < 4 * lanes; line += kLineWords) {
      if (i + line + kFetchAheadWords < count) hwy::Prefetch(words + i + line + kFetchAheadWords);
    }
    sum0 = hn::Xor(sum0, hn::LoadU(d, words + i));
    sum1 = hn::Xor(sum1, hn::LoadU(d, words + i + lanes));
    sum2 = hn::Xor(sum2, hn::LoadU(d, words + i + 2 * lanes));
    sum3 = hn::Xor(sum3, hn::LoadU(d, words + i + 3 * lanes));
  }
  HWY_ALIGN uint64_t partial[HWY_MAX_BYTES / sizeof(uint64_t)];
  hn::Store(hn::Xor(hn::Xor(sum0, sum1), hn::Xor(sum2, sum3)), d, partial);
  uint64_t sum = 0;
  for (size_t lane = 0; lane < lanes; ++lane) sum ^= partial[lane];
  for (; i < count; ++i) sum ^= words[i];
  return sum;
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {
namespace {
HWY_EXPORT(XorWords);
}  // namespace

uint64_t XorWords(const uint64_t* words, size_t count) {
  return HWY_DYNAMIC_DISPATCH(XorWords)(words, count);
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
