// Segment products by counting bits: the stream's bits and-ed with each plane of the activation.
#if defined(SDQ_KERNELS_POPCOUNT_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_POPCOUNT_KERNELS_INL_H_
#undef SDQ_KERNELS_POPCOUNT_KERNELS_INL_H_
#else
#define SDQ_KERNELS_POPCOUNT_KERNELS_INL_H_
#endif

#include <algorithm>

#include "hwy/highway.h"
#include "kernels/popcount_segment.h"
#include "kernels/stream_kernels.h"
#include "kernels/stream_sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET != HWY_SCALAR
namespace hn = hwy::HWY_NAMESPACE;

// Bits of x that plane `b` has too, counted in bytes.
HWY_INLINE ByteVec CountUnder(ByteVec x, ByteVec planes, uint8_t b) {
  const ByteVec plane = hn::TableLookupBytes(planes, hn::Set(Bytes(), b));
  return hn::PopulationCount(hn::And(x, plane));
}

HWY_INLINE ByteVec TwicePlus(ByteVec v, ByteVec w) { return hn::Add(hn::Add(v, v), w); }

// 16-bit sums of bytes. A row's sum over all blocks fits: at most 200 bytes of at most 120.
struct ByteSums {
  WordVec all, odd;
  HWY_INLINE ByteSums() : all(hn::Zero(Words())), odd(hn::Zero(Words())) {}
  HWY_INLINE void Add(ByteVec v) {
    const WordVec words = hn::BitCast(Words(), v);
    all = hn::Add(all, words);
    odd = hn::Add(odd, hn::ShiftRight<8>(words));
  }
  HWY_INLINE void AddTo(RowSums& sums) const {
    const auto even_rows = FoldBlocks(Words(), hn::Sub(all, hn::ShiftLeft<8>(odd)));
    const auto odd_rows = FoldBlocks(Words(), odd);
    sums.Add(hn::InterleaveLower(RowWords(), even_rows, odd_rows),
             hn::InterleaveUpper(RowWords(), even_rows, odd_rows));
  }
};

// Sums of the 8-bit values under the set bits of 16 rows. Planes 0-3 and 4-7 are weighed within
// bytes (at most 8 * 15); plane 7 counts -8 there, kept non-negative by a bias of 64.
void MaskedSums(const uint8_t* bits, const SpreadPlanes& planes, int32_t* sums) {
  const Bytes d;
  ByteSums low_sums, high_sums;
  const size_t end = planes.padded_bytes() * 16;
  for (size_t at = 0; at < end; at += hn::Lanes(d)) {
    const ByteVec x = hn::LoadU(d, bits + at), p = hn::LoadU(d, planes.data() + at);
    ByteVec low = TwicePlus(CountUnder(x, p, 3), CountUnder(x, p, 2));
    low = TwicePlus(TwicePlus(low, CountUnder(x, p, 1)), CountUnder(x, p, 0));
    const ByteVec sign = CountUnder(x, p, 7);
    ByteVec high = hn::Sub(CountUnder(x, p, 6), hn::Add(sign, sign));
    high = TwicePlus(TwicePlus(high, CountUnder(x, p, 5)), CountUnder(x, p, 4));
    low_sums.Add(low);
    high_sums.Add(hn::Add(high, hn::Set(d, uint8_t{64})));
  }
  RowSums low_rows(0), high_rows(-static_cast<int32_t>(64 * planes.padded_bytes()));
  low_sums.AddTo(low_rows);
  high_sums.AddTo(high_rows);
  HWY_ALIGN int32_t high[kTileRows];
  low_rows.Store(sums);
  high_rows.Store(high);
  for (size_t r = 0; r < kTileRows; ++r) sums[r] += 16 * high[r];
}

void PopcountSegment(const SegmentArgs& args) { PopcountTiles(args, MaskedSums); }
void PopcountTritSegment(const SegmentArgs& args) { PopcountTritTiles(args, MaskedSums); }

#endif  // HWY_TARGET != HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_POPCOUNT_KERNELS_INL_H_
