// From bits to the table entries that they choose, per target, by 16-entry byte shuffles.
#if defined(SDQ_KERNELS_TABLE_STEPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_TABLE_STEPS_INL_H_
#undef SDQ_KERNELS_TABLE_STEPS_INL_H_
#else
#define SDQ_KERNELS_TABLE_STEPS_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/stream_sums-inl.h"
#include "kernels/table_layout.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET != HWY_SCALAR
namespace hn = hwy::HWY_NAMESPACE;

// A step makes a vector of bits into indices, kIndices vectors of them, and has what these choose
// from the tables at `tables`.

// Two nibbles per byte: 8 binary samples.
struct NibbleStep {
  static constexpr size_t kGroupBytes = kNibbleGroupBytes;
  static constexpr size_t kMostGroups = 2 * (kSegmentSamples / 8 / 4);  // of a segment, two planes
  static constexpr size_t kIndices = 2;
  static HWY_INLINE void Index(ByteVec x, ByteVec* indices) {
    indices[0] = hn::And(x, hn::Set(Bytes(), uint8_t{15}));
    indices[1] = hn::ShiftRight<4>(x);
  }

  explicit HWY_INLINE NibbleStep(const uint8_t* tables)
      : low(hn::LoadU(Bytes(), tables)), high(hn::LoadU(Bytes(), tables + 64)) {}
  // For several look-ups: the compiler shall not load the tables again for each.
  HWY_INLINE void Keep() {
    low = Unknown(low);
    high = Unknown(high);
  }
  HWY_INLINE EntryPair LookUp(const ByteVec* indices) const {
    return {hn::TableLookupBytes(low, indices[0]), hn::TableLookupBytes(high, indices[1])};
  }

  ByteVec low, high;
};

// Five trits per byte, 28 high + low: 27 entries for the low three, 9 for the high two.
struct TritStep {
  static constexpr size_t kGroupBytes = kTritGroupBytes;
  static constexpr size_t kMostGroups = kSegmentSamplesPacked / 5 / 4;
#if HWY_ARCH_X86
  // The shuffle takes bits 0-3 of an index, and gives 0 where bit 7 is set: the remainder plus 112
  // has it from 16 on; likewise the other way round.
  static constexpr size_t kIndices = 3;
  static HWY_INLINE void Index(ByteVec x, ByteVec* indices) {
    HWY_ALIGN static constexpr uint8_t kTimes28Minus112[16] = {144, 172, 200, 228, 0,
                                                               28,  56,  84,  112, 140};
    const Bytes d;
    indices[2] = By28(x);
    indices[0] = hn::Sub(x, hn::TableLookupBytes(hn::LoadDup128(d, kTimes28Minus112), indices[2]));
    indices[1] = hn::Xor(indices[0], hn::Set(d, uint8_t{128}));
  }
#else
  static constexpr size_t kIndices = 2;
  static HWY_INLINE void Index(ByteVec x, ByteVec* indices) {
    indices[1] = By28(x);
#if HWY_TARGET == HWY_NEON
    indices[0] = ByteVec(vmlsq_u8(x.raw, indices[1].raw, vdupq_n_u8(28)));
#else
    HWY_ALIGN static constexpr uint8_t kTimes28[16] = {0, 28, 56, 84, 112, 140, 168, 196, 224, 252};
    indices[0] = hn::Sub(x, hn::TableLookupBytes(hn::LoadDup128(Bytes(), kTimes28), indices[1]));
#endif
  }
#endif

  explicit HWY_INLINE TritStep(const uint8_t* tables)
      : low(hn::LoadU(Bytes(), tables)),
        low_16(hn::LoadU(Bytes(), tables + 64)),
        high(hn::LoadU(Bytes(), tables + 128)) {}
  HWY_INLINE void Keep() {
    low = Unknown(low);
    low_16 = Unknown(low_16);
    high = Unknown(high);
  }
  HWY_INLINE EntryPair LookUp(const ByteVec* indices) const {
    return {EntryLow(indices), hn::TableLookupBytes(high, indices[kIndices - 1])};
  }

  ByteVec low, low_16, high;  // low_16: low entries from 16 on

 private:
  // floor(x / 28).
  static HWY_INLINE ByteVec By28(ByteVec x) {
#if HWY_TARGET == HWY_NEON
    // floor(y / 7) = floor(37 y / 256) for y < 64.
    const uint8x16_t y = vshrq_n_u8(x.raw, 2);
    const uint8x8_t factor = vdup_n_u8(37);
    const uint8x16_t first = vreinterpretq_u8_u16(vmull_u8(vget_low_u8(y), factor));
    const uint8x16_t second = vreinterpretq_u8_u16(vmull_u8(vget_high_u8(y), factor));
    return ByteVec(vuzp2q_u8(first, second));
#else
    // floor(2341 x / 2^16) for x < 256.
    const Words d;
    const WordVec factor = hn::Set(d, uint16_t{2341});
    const WordVec odd_bytes = hn::Set(d, uint16_t{0xff00});
    const WordVec words = hn::BitCast(d, x);
    const WordVec even = hn::MulHigh(hn::AndNot(odd_bytes, words), factor);
    const WordVec odd = hn::And(hn::MulHigh(hn::And(words, odd_bytes), factor), odd_bytes);
    return hn::BitCast(Bytes(), hn::Or(even, odd));
#endif
  }

  // Of the 32 low ones.
  HWY_INLINE ByteVec EntryLow(const ByteVec* indices) const {
#if HWY_TARGET == HWY_NEON
    const uint8x16x2_t table = {{low.raw, low_16.raw}};
    return ByteVec(vqtbl2q_u8(table, indices[0].raw));
#elif HWY_ARCH_X86
    return hn::Or(hn::TableLookupBytes(low, indices[0]), hn::TableLookupBytes(low_16, indices[1]));
#else
    const ByteVec index = hn::And(indices[0], hn::Set(Bytes(), uint8_t{15}));
    return hn::IfThenElse(hn::Eq(indices[0], index), hn::TableLookupBytes(low, index),
                          hn::TableLookupBytes(low_16, index));
#endif
  }
};

// A group of four bytes of 16 rows is so many vectors, an octet so many groups.
inline constexpr size_t kGroupVectors = 64 / hn::MaxLanes(Bytes());
inline constexpr size_t kOctetGroups = kOctetVectors / kGroupVectors;

// Where the tables of a vector of bits are, from those of its octet's first group on.
template <class Step>
constexpr size_t TableOffset(size_t position) {
  const size_t offset = position * hn::MaxLanes(Bytes());
  return offset / 64 * Step::kGroupBytes + offset % 64;
}

// One octet of some tiles: entries of `vectors` vectors of bits. indices_of(position, tile,
// indices) gives a vector's indices. Tables are loaded once for all tiles.
template <class Step, size_t kTiles, class IndicesOf>
HWY_INLINE void AddOctet(const uint8_t* tables, size_t vectors, const IndicesOf& indices_of,
                         EntrySums (&sums)[kTiles]) {
  for (size_t position = 0; position < kOctetVectors; ++position) {
    if (position >= vectors) {
      for (EntrySums& sum : sums) sum.AddNone(position);
      continue;
    }
    Step step(tables + TableOffset<Step>(position));
    if constexpr (kTiles > 1) step.Keep();
    for (size_t tile = 0; tile < kTiles; ++tile) {
      ByteVec indices[Step::kIndices];
      indices_of(position, tile, indices);
      sums[tile].Add(position, step.LookUp(indices));
    }
  }
}

#endif  // HWY_TARGET != HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_TABLE_STEPS_INL_H_
