#include "kernels/read_memory.h"

#include <algorithm>

#include "kernels/fetch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/read_memory.cc"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h before any use of Highway.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr size_t kLineWords = kLineBytes / sizeof(uint64_t);
inline constexpr size_t kStripWords = kStripBytes / sizeof(uint64_t);
inline constexpr size_t kPlaces = 4;

// kRuns runs of so many lines, one behind the other, a line of each in turn. Every line's loads
// come with the fetch of another line: four fetches and then four lines were slower. What lies
// behind the end is fetched in vain.
template <size_t kRuns, bool kFetch>
uint64_t XorRuns(const uint64_t* words, size_t lines) {
  const hn::CappedTag<uint64_t, kLineWords> d;
  const size_t lanes = hn::Lanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  const auto add_line = [&](size_t run, size_t line, hn::Vec<decltype(d)>& sum) HWY_ATTR {
    const uint64_t* at = words + (run * lines + line) * kLineWords;
    // Not into a new page in all places together.
    if (kFetch) FetchLine<1>(at, kRuns == 1 ? 4096 : 3072 + run * 256);
    for (size_t i = 0; i < kLineWords; i += lanes) sum = hn::Xor(sum, hn::LoadU(d, at + i));
  };
  for (size_t line = 0; line < lines; ++line) {
    for (size_t run = 0; run < kRuns; ++run) add_line(run, line, run % 2 == 0 ? even : odd);
  }
  HWY_ALIGN uint64_t partial[kLineWords];
  hn::Store(hn::Xor(even, odd), d, partial);
  uint64_t sum = 0;
  for (size_t lane = 0; lane < lanes; ++lane) sum ^= partial[lane];
  return sum;
}

template <size_t kRuns, bool kFetch>
uint64_t XorAll(const uint64_t* words, size_t count) {
  uint64_t sum = 0;
  size_t i = 0;
  while (count - i >= kRuns * kLineWords) {
    const size_t words_per_run =
        kRuns == 1 ? count - i : std::min((count - i) / kRuns, kStripWords);
    const size_t lines = words_per_run / kLineWords;
    sum ^= XorRuns<kRuns, kFetch>(words + i, lines);
    i += kRuns * lines * kLineWords;
  }
  for (; i < count; ++i) sum ^= words[i];
  return sum;
}

uint64_t XorWordsTarget(ReadWay way, const uint64_t* words, size_t count) {
  switch (way) {
    case ReadWay::kForward:
      return XorAll<1, false>(words, count);
    case ReadWay::kForwardFetched:
      return XorAll<1, true>(words, count);
    case ReadWay::kStrips:
      return XorAll<kPlaces, false>(words, count);
    case ReadWay::kStripsFetched:
      break;
  }
  return XorAll<kPlaces, true>(words, count);
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {
namespace {
HWY_EXPORT(XorWordsTarget);
}  // namespace

uint64_t XorWords(ReadWay way, const uint64_t* words, size_t count) {
  return HWY_DYNAMIC_DISPATCH(XorWordsTarget)(way, words, count);
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
