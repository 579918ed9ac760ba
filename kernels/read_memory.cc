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

inline constexpr size_t kReadAhead = 4096;  // a page, where hardware prefetchers stop
inline constexpr size_t kLineWords = 8;

// Every line's load comes with the fetch of another line: four fetches and then four loads were
// slower, and how much depended on the loop's alignment. What lies behind the end is fetched in
// vain.
uint64_t XorWords(const uint64_t* words, size_t count) {
  const hn::CappedTag<uint64_t, kLineWords> d;
  const size_t lanes = hn::Lanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  const auto add_line = [&](size_t i, hn::Vec<decltype(d)>& sum) HWY_ATTR {
    hwy::Prefetch(
        reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(words + i) + kReadAhead));
    for (size_t at = i; at < i + kLineWords; at += lanes) {
      sum = hn::Xor(sum, hn::LoadU(d, words + at));
    }
  };
  size_t i = 0;
  for (; i + 2 * kLineWords <= count; i += 2 * kLineWords) {
    add_line(i, even);
    add_line(i + kLineWords, odd);
  }
  HWY_ALIGN uint64_t partial[kLineWords];
  hn::Store(hn::Xor(even, odd), d, partial);
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
