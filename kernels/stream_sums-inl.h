// Exact sums of biased table entries (bytes) over a chunk of a segment, 16 rows at a time.
#if defined(SDQ_KERNELS_STREAM_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_STREAM_SUMS_INL_H_
#undef SDQ_KERNELS_STREAM_SUMS_INL_H_
#else
#define SDQ_KERNELS_STREAM_SUMS_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET != HWY_SCALAR
namespace hn = hwy::HWY_NAMESPACE;

using Bytes = hn::CappedTag<uint8_t, 64>;  // a group of tables is 64 bytes wide
using ByteVec = hn::Vec<Bytes>;
using Words = hn::Repartition<uint16_t, Bytes>;
using WordVec = hn::Vec<Words>;
using RowWords = hn::CappedTag<uint16_t, 8>;  // one block: eight rows
using Rows = hn::CappedTag<int32_t, 8>;       // divides the 16 rows of a tile

// The entries that a vector of bits chooses: two of each byte.
struct EntryPair {
  ByteVec first, second;
};

// Vectors of entries that are added together, an octet, and the bits' vectors that give them: its
// positions.
inline constexpr size_t kOctet = 8;
inline constexpr size_t kOctetVectors = kOctet / 2;

// The sum of a vector's 16-byte blocks.
template <class D, class V>
HWY_INLINE auto FoldBlocks(D d, V v) {
  if constexpr (hn::MaxLanes(d) > 8) {
    const hn::Half<D> half;
    return FoldBlocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    return v;
  }
}

// 32-bit sums of a tile's 16 rows.
class RowSums {
 public:
  HWY_INLINE RowSums() : RowSums(0) {}
  // Each begins with `first`.
  explicit HWY_INLINE RowSums(int32_t first) {
    for (RowVec& v : sums_) v = hn::Set(Rows(), first);
  }

  // 16-bit sums of rows 0-7 and 8-15.
  HWY_INLINE void Add(hn::Vec<RowWords> first, hn::Vec<RowWords> second) {
    if constexpr (kVectors == 2) {
      AddPart(0, first);
      AddPart(1, second);
    } else {
      const hn::Half<RowWords> half;
      AddPart(0, hn::LowerHalf(half, first));
      AddPart(1, hn::UpperHalf(half, first));
      AddPart(2, hn::LowerHalf(half, second));
      AddPart(3, hn::UpperHalf(half, second));
    }
  }
  HWY_INLINE void Subtract(const RowSums& other) {
    for (size_t i = 0; i < kVectors; ++i) sums_[i] = hn::Sub(sums_[i], other.sums_[i]);
  }

  // AccumulateTile.
  HWY_INLINE void Accumulate(float scale, float* acc) const {
    const hn::RebindToFloat<Rows> d;
    for (const RowVec& v : sums_) {
      hn::StoreU(hn::Add(hn::LoadU(d, acc), hn::Mul(hn::Set(d, scale), hn::ConvertTo(d, v))), d,
                 acc);
      acc += hn::Lanes(d);
    }
  }
  HWY_INLINE void Store(int32_t* sums) const {
    for (const RowVec& v : sums_) {
      hn::StoreU(v, Rows(), sums);
      sums += hn::Lanes(Rows());
    }
  }

 private:
  using RowVec = hn::Vec<Rows>;
  static constexpr size_t kVectors = 16 / hn::MaxLanes(Rows());

  template <class V>
  HWY_INLINE void AddPart(size_t i, V words) {
    sums_[i] = hn::Add(sums_[i], hn::PromoteTo(Rows(), words));
  }

  RowVec sums_[kVectors];
};

// v, of which the compiler then knows nothing: neither in which other order it could be summed, nor
// from where it could be loaded again.
HWY_INLINE ByteVec Unknown(ByteVec v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128 && defined(__GNUC__)
  asm("" : "+x"(v.raw));
#endif
  return v;
}

#if HWY_TARGET == HWY_NEON

// NEON adds bytes to words in one instruction, half a vector at a time.
class EntrySums {
 public:
  // 256 entries of at most 255 fit 16 bits.
  static constexpr size_t kMostGroups = 32;

  HWY_INLINE EntrySums() : first_(hn::Zero(Words())), second_(hn::Zero(Words())) {}

  HWY_INLINE void Add(size_t /*position*/, const EntryPair& entries) {
    for (const ByteVec v : {entries.first, entries.second}) {
      first_.raw = vaddw_u8(first_.raw, vget_low_u8(v.raw));
      second_.raw = vaddw_high_u8(second_.raw, v.raw);
    }
  }
  HWY_INLINE void AddNone(size_t /*position*/) {}

  HWY_INLINE void AddTo(RowSums& sums) const { sums.Add(first_, second_); }

 private:
  WordVec first_, second_;
};

#else

// Elsewhere widening costs three instructions per vector of entries. Averages need fewer: eight
// entries' rounded average M lies at most 12 / 8 above the exact one (each of the tree's three
// levels adds at most half a unit to each average), so that
//   8 sum(M) - sum(entries) = error,  0 <= error <= 12 per octet,
// and the sum of the entries modulo 256, which is one addition of bytes each, tells the error as
// long as it is below 256.
class EntrySums {
 public:
  // Octets of a row and block: 21 x 12 < 256, and 8 sum(M) fits 16 bits.
  static constexpr size_t kMostOctets = 16;
  // A group is 64 / kOctet / Lanes(bytes) octets, and a row's sum over the blocks fits 16 bits:
  // 256 entries.
  static constexpr size_t kMostGroups = hn::MaxLanes(Bytes()) == 16 ? kMostOctets : 2 * kMostOctets;

  HWY_INLINE EntrySums()
      : all_(hn::Zero(Words())),
        odd_(hn::Zero(Words())),
        low_(hn::Zero(Bytes())),
        pair_(hn::Zero(Bytes())),
        half_(hn::Zero(Bytes())) {}
  // Of whole octets: not what waits for the rest of one.
  HWY_INLINE EntrySums(const EntrySums& other) : EntrySums() { *this = other; }
  HWY_INLINE EntrySums& operator=(const EntrySums& other) {
    all_ = other.all_;
    odd_ = other.odd_;
    low_ = other.low_;
    return *this;
  }

  HWY_INLINE void Add(size_t position, const EntryPair& entries) {
    // In another order, sums would take more registers than there are.
    low_ = Unknown(hn::Add(Unknown(hn::Add(low_, entries.first)), entries.second));
    AddAverage(position, hn::AverageRound(entries.first, entries.second));
  }
  HWY_INLINE void AddNone(size_t position) { AddAverage(position, hn::Zero(Bytes())); }

  HWY_INLINE void AddTo(RowSums& sums) const {
    const WordVec low = hn::BitCast(Words(), low_);
    const auto even = FoldBlocks(Words(), Exact(hn::Sub(all_, hn::ShiftLeft<8>(odd_)), low));
    const auto odd = FoldBlocks(Words(), Exact(odd_, hn::ShiftRight<8>(low)));
    sums.Add(hn::InterleaveLower(RowWords(), even, odd),
             hn::InterleaveUpper(RowWords(), even, odd));
  }

 private:
  // Sums of entries from sums of averages and, in the low bytes, sums of entries modulo 256.
  static HWY_INLINE WordVec Exact(WordVec averages, WordVec low) {
    const WordVec above = hn::ShiftLeft<3>(averages);
    const WordVec error = hn::And(hn::Sub(above, low), hn::Set(Words(), uint16_t{255}));
    return hn::Sub(above, error);
  }

  // The average of a pair. Callers' positions are constants.
  HWY_INLINE void AddAverage(size_t position, ByteVec average) {
    if (position % 2 == 0) {
      pair_ = average;
      return;
    }
    average = hn::AverageRound(pair_, average);
    if (position == 1) {
      half_ = average;
      return;
    }
    const WordVec words = hn::BitCast(Words(), hn::AverageRound(half_, average));
    all_ = hn::Add(all_, words);  // 256 odd + even, modulo 2^16
    odd_ = hn::Add(odd_, hn::ShiftRight<8>(words));
  }

  WordVec all_, odd_;
  ByteVec low_;
  ByteVec pair_, half_;  // averages of an octet's pair, and half, that waits for the other one
};

#endif  // HWY_TARGET == HWY_NEON
#endif  // HWY_TARGET != HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_STREAM_SUMS_INL_H_
