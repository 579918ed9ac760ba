// Segment products, per target, from 16-entry byte shuffles and byte-wise bit counts.
#if defined(SDQ_KERNELS_STREAM_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_STREAM_KERNELS_INL_H_
#undef SDQ_KERNELS_STREAM_KERNELS_INL_H_
#else
#define SDQ_KERNELS_STREAM_KERNELS_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/reference.h"
#include "kernels/stream_kernels.h"
#include "kernels/table_layout.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

const StreamKernels* StreamTable() { return &ReferenceStreamKernels(); }

#else
namespace hn = hwy::HWY_NAMESPACE;

using Bytes = hn::CappedTag<uint8_t, 64>;  // a group of tables is 64 bytes wide
using ByteVec = hn::Vec<Bytes>;
using Words = hn::Repartition<uint16_t, Bytes>;
using WordVec = hn::Vec<Words>;

// Groups of 4 bytes whose biased entries (at most 255, two per byte) fit 16-bit sums.
inline constexpr size_t kChunkGroups = 32;

// Adds the bytes of v to 16-bit sums: `all` gets 256 * odd + even bytes modulo 2^16, `odd` the odd
// bytes. The even ones are the difference, found once per chunk by AddRows.
HWY_INLINE void AddBytes(ByteVec v, WordVec& all, WordVec& odd) {
  const WordVec words = hn::BitCast(Words(), v);
  all = hn::Add(all, words);
  odd = hn::Add(odd, hn::ShiftRight<8>(words));
}

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

using Rows = hn::CappedTag<int32_t, 8>;  // divides the 16 rows of a tile

// Adds 16-bit sums (byte i of each 16-byte block belongs to row i) to the rows' sums. A row's sum
// over the blocks fits 16 bits as well: kChunkGroups counts the entries of all blocks.
HWY_INLINE void AddRows(WordVec all, WordVec odd, int32_t* sums) {
  const hn::CappedTag<uint16_t, 8> d;
  const auto odd_rows = FoldBlocks(Words(), odd);
  const auto even_rows = hn::Sub(FoldBlocks(Words(), all), hn::ShiftLeft<8>(odd_rows));
  HWY_ALIGN uint16_t words[16];
  hn::Store(hn::InterleaveLower(d, even_rows, odd_rows), d, words);
  hn::Store(hn::InterleaveUpper(d, even_rows, odd_rows), d, words + 8);
  const Rows rows;
  const hn::Rebind<uint16_t, Rows> narrow;
  for (size_t r = 0; r < 16; r += hn::Lanes(rows)) {
    const auto widened = hn::PromoteTo(rows, hn::Load(narrow, words + r));
    hn::Store(hn::Add(hn::Load(rows, sums + r), widened), rows, sums + r);
  }
}

// AccumulateTile, for sums at an aligned address.
HWY_INLINE void AccumulateRows(const int32_t* sums, float scale, float* acc) {
  const Rows rows;
  const hn::RebindToFloat<Rows> d;
  for (size_t r = 0; r < 16; r += hn::Lanes(rows)) {
    const auto product = hn::Mul(hn::Set(d, scale), hn::ConvertTo(d, hn::Load(rows, sums + r)));
    hn::StoreU(hn::Add(hn::LoadU(d, acc + r), product), d, acc + r);
  }
}

// The 16 tables at p for nibbles of 8 binary samples per byte.
struct NibbleStep {
  static constexpr size_t kGroupBytes = kNibbleGroupBytes;
  ByteVec low, high;
  explicit HWY_INLINE NibbleStep(const uint8_t* p)
      : low(hn::LoadU(Bytes(), p)), high(hn::LoadU(Bytes(), p + 64)) {}
  HWY_INLINE void Add(ByteVec x, WordVec& all, WordVec& odd) const {
    AddBytes(hn::TableLookupBytes(low, hn::And(x, hn::Set(Bytes(), uint8_t{15}))), all, odd);
    AddBytes(hn::TableLookupBytes(high, hn::ShiftRight<4>(x)), all, odd);
  }
};

// Five trits per byte: 27 entries for the low three (two shuffles), 9 for the high two.
struct TritStep {
  static constexpr size_t kGroupBytes = kTritGroupBytes;
  ByteVec low, middle, high;
  explicit HWY_INLINE TritStep(const uint8_t* p)
      : low(hn::LoadU(Bytes(), p)),
        middle(hn::LoadU(Bytes(), p + 64)),
        high(hn::LoadU(Bytes(), p + 128)) {}
  HWY_INLINE void Add(ByteVec x, WordVec& all, WordVec& odd) const {
    const Bytes d;
    const hn::RebindToSigned<Bytes> di;
    const Words dw;
    // x / 27 = 19 x >> 9 for x < 256 (the remainder never reaches the next multiple).
    const auto words = hn::BitCast(dw, x);
    const auto factor = hn::Set(dw, uint16_t{19});
    const auto even =
        hn::ShiftRight<9>(hn::Mul(hn::And(words, hn::Set(dw, uint16_t{255})), factor));
    const auto odd_bytes = hn::ShiftRight<9>(hn::Mul(hn::ShiftRight<8>(words), factor));
    const auto quotient = hn::BitCast(d, hn::Or(even, hn::ShiftLeft<8>(odd_bytes)));
    HWY_ALIGN static constexpr uint8_t kTimes27[16] = {0, 27, 54, 81, 108, 135, 162, 189, 216, 243};
    const auto times_27 = hn::TableLookupBytes(hn::LoadDup128(d, kTimes27), quotient);
    const auto rest = hn::Sub(x, times_27);
    const auto index = hn::And(rest, hn::Set(d, uint8_t{15}));
    const auto upper = hn::RebindMask(d, hn::Gt(hn::BitCast(di, rest), hn::Set(di, int8_t{15})));
    AddBytes(hn::IfThenElse(upper, hn::TableLookupBytes(middle, index),
                            hn::TableLookupBytes(low, index)),
             all, odd);
    AddBytes(hn::TableLookupBytes(high, quotient), all, odd);
  }
};

// Into the second cache. An address, not a pointer: it may lie behind the bitstream, where fetching
// is harmless.
HWY_INLINE void Fetch(const uint8_t* bits, size_t distance) {
#if defined(__GNUC__)
  const uintptr_t address = reinterpret_cast<uintptr_t>(bits) + distance;
  __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 2);
#endif
}

// Sums of biased entries over up to kChunkGroups groups, one or two tiles with the same tables.
template <class Step, bool kPair>
HWY_INLINE void AddChunk(const uint8_t* bits, size_t tile_stride, const uint8_t* tables,
                         size_t groups, size_t fetch_ahead, int32_t* sums) {
  const Bytes d;
  const Words dw;
  WordVec all0 = hn::Zero(dw), odd0 = hn::Zero(dw), all1 = hn::Zero(dw), odd1 = hn::Zero(dw);
  for (size_t g = 0; g < groups; ++g) {
    if (fetch_ahead != 0) {
      Fetch(bits + g * 64, fetch_ahead);
      if constexpr (kPair) Fetch(bits + tile_stride + g * 64, fetch_ahead);
    }
    for (size_t j = 0; j < 64; j += hn::Lanes(d)) {
      const Step step(tables + g * Step::kGroupBytes + j);
      step.Add(hn::LoadU(d, bits + g * 64 + j), all0, odd0);
      if constexpr (kPair) step.Add(hn::LoadU(d, bits + tile_stride + g * 64 + j), all1, odd1);
    }
  }
  AddRows(all0, odd0, sums);
  if constexpr (kPair) AddRows(all1, odd1, sums + 16);
}

template <class Step, bool kPair>
HWY_INLINE void SumPlane(const SegmentArgs& args, const uint8_t* bits, const uint8_t* tables,
                         size_t fetch_ahead, int32_t* sums) {
  const size_t groups = Groups(args.bytes);
  const int32_t bias = -static_cast<int32_t>(groups * 4 * 2 * 128);
  std::fill(sums, sums + (kPair ? 32 : 16), bias);
  for (size_t g = 0; g < groups; g += kChunkGroups) {
    AddChunk<Step, kPair>(bits + g * 64, args.tile_stride, tables + g * Step::kGroupBytes,
                          std::min(kChunkGroups, groups - g), fetch_ahead, sums);
  }
}

template <class Step, bool kPair>
HWY_INLINE void TableTiles(const SegmentArgs& args, size_t tile, size_t token) {
  const uint8_t* bits = args.bits + tile * args.tile_stride;
  const uint8_t* tables = args.tables + token * args.token_stride;
  const size_t fetch_ahead = token == 0 ? args.fetch_ahead : 0;
  HWY_ALIGN int32_t sums[32];
  SumPlane<Step, kPair>(args, bits, tables, fetch_ahead, sums);
  if (args.plane_stride != 0) {
    HWY_ALIGN int32_t minus[32];
    SumPlane<Step, kPair>(args, bits + args.plane_stride, tables, fetch_ahead, minus);
    for (size_t i = 0; i < (kPair ? 32 : 16); ++i) sums[i] -= minus[i];
  }
  float* acc = args.acc + token * args.acc_stride + tile * 16;
  AccumulateRows(sums, TokenScale(args, token), acc);
  if constexpr (kPair) AccumulateRows(sums + 16, TokenScale(args, token), acc + 16);
}

template <class Step>
HWY_INLINE void TableSegment(const SegmentArgs& args) {
  size_t tile = 0;
  for (; tile + 2 <= args.tiles; tile += 2) {
    for (size_t token = 0; token < args.tokens; ++token) TableTiles<Step, true>(args, tile, token);
  }
  if (tile == args.tiles) return;
  for (size_t token = 0; token < args.tokens; ++token) TableTiles<Step, false>(args, tile, token);
}

void NibbleSegment(const SegmentArgs& args) { TableSegment<NibbleStep>(args); }
void TritSegment(const SegmentArgs& args) { TableSegment<TritStep>(args); }

// ---- Bit-planes ----

using Row16 = hn::CappedTag<uint8_t, 16>;  // one byte of each of 16 rows

HWY_INLINE hn::Vec<Row16> CountUnder(hn::Vec<Row16> mask, uint8_t plane) {
  return hn::PopulationCount(hn::And(mask, hn::Set(Row16(), plane)));
}

HWY_INLINE hn::Vec<Row16> TwicePlus(hn::Vec<Row16> v, hn::Vec<Row16> w) {
  return hn::Add(hn::Add(v, v), w);
}

// Sums of the 8-bit values under the set bits of 16 rows. Planes 0-3 and 4-7 are weighed within
// bytes (at most 8 * 15); plane 7 counts -8 there, kept non-negative by a bias of 64.
void MaskedSums(const uint8_t* bits, const uint8_t* planes, size_t bytes, int32_t* sums) {
  const Row16 d;
  const hn::Repartition<uint16_t, Row16> dw;
  auto low_all = hn::Zero(dw), low_odd = low_all, high_all = low_all, high_odd = low_all;
  for (size_t k = 0; k < bytes; ++k) {
    const auto x = hn::LoadU(d, bits + 16 * k);
    const uint8_t* p = planes + 8 * k;
    auto low = TwicePlus(CountUnder(x, p[3]), CountUnder(x, p[2]));
    low = TwicePlus(TwicePlus(low, CountUnder(x, p[1])), CountUnder(x, p[0]));
    const auto sign = CountUnder(x, p[7]);
    auto high = hn::Sub(CountUnder(x, p[6]), hn::Add(sign, sign));
    high = TwicePlus(TwicePlus(high, CountUnder(x, p[5])), CountUnder(x, p[4]));
    const auto low_words = hn::BitCast(dw, low);
    const auto high_words = hn::BitCast(dw, hn::Add(high, hn::Set(d, uint8_t{64})));
    low_all = hn::Add(low_all, low_words);
    low_odd = hn::Add(low_odd, hn::ShiftRight<8>(low_words));
    high_all = hn::Add(high_all, high_words);
    high_odd = hn::Add(high_odd, hn::ShiftRight<8>(high_words));
  }
  uint16_t even[2][8], odd[2][8];
  hn::StoreU(hn::Sub(low_all, hn::ShiftLeft<8>(low_odd)), dw, even[0]);
  hn::StoreU(low_odd, dw, odd[0]);
  hn::StoreU(hn::Sub(high_all, hn::ShiftLeft<8>(high_odd)), dw, even[1]);
  hn::StoreU(high_odd, dw, odd[1]);
  const int32_t bias = static_cast<int32_t>(64 * bytes);
  for (size_t r = 0; r < 8; ++r) {
    sums[2 * r] = even[0][r] + 16 * (even[1][r] - bias);
    sums[2 * r + 1] = odd[0][r] + 16 * (odd[1][r] - bias);
  }
}

HWY_INLINE void FinishPlanes(const SegmentArgs& args, size_t tile, size_t token,
                             const int32_t* sums) {
  AccumulateTile(sums, TokenScale(args, token), args.acc + token * args.acc_stride + tile * 16);
}

HWY_INLINE void SignedSums(const uint8_t* plus_bits, const uint8_t* minus_bits,
                           const uint8_t* planes, size_t bytes, int32_t* sums) {
  MaskedSums(plus_bits, planes + kPlaneHeaderBytes, bytes, sums);
  if (minus_bits == nullptr) {  // +-1: twice the sum under the bits, minus the sum of all
    int32_t all = 0;
    std::memcpy(&all, planes, sizeof(all));
    for (size_t r = 0; r < 16; ++r) sums[r] = 2 * sums[r] - all;
    return;
  }
  int32_t minus[16];
  MaskedSums(minus_bits, planes + kPlaneHeaderBytes, bytes, minus);
  for (size_t r = 0; r < 16; ++r) sums[r] -= minus[r];
}

void PopcountSegment(const SegmentArgs& args) {
  for (size_t tile = 0; tile < args.tiles; ++tile) {
    const uint8_t* bits = args.bits + tile * args.tile_stride;
    const uint8_t* minus = args.plane_stride == 0 ? nullptr : bits + args.plane_stride;
    for (size_t token = 0; token < args.tokens; ++token) {
      int32_t sums[16];
      SignedSums(bits, minus, args.tables + token * args.token_stride, args.bytes, sums);
      FinishPlanes(args, tile, token, sums);
    }
  }
}

// UnpackTrits of every byte.
struct TritPlanes {
  std::array<uint8_t, 256> plus{}, minus{};
  TritPlanes() {
    for (size_t byte = 0; byte < 256; ++byte) {
      UnpackTrits(static_cast<uint8_t>(byte), &plus[byte], &minus[byte]);
    }
  }
};

void PopcountTritSegment(const SegmentArgs& args) {
  static const TritPlanes unpacked;
  constexpr size_t kMostBytes = kSegmentSamplesPacked / 5 * 16;
  uint8_t plus[kMostBytes], minus[kMostBytes];
  for (size_t tile = 0; tile < args.tiles; ++tile) {
    const uint8_t* bits = args.bits + tile * args.tile_stride;
    for (size_t i = 0; i < args.bytes * 16; ++i) {
      plus[i] = unpacked.plus[bits[i]];
      minus[i] = unpacked.minus[bits[i]];
    }
    for (size_t token = 0; token < args.tokens; ++token) {
      int32_t sums[16];
      SignedSums(plus, minus, args.tables + token * args.token_stride, args.bytes, sums);
      FinishPlanes(args, tile, token, sums);
    }
  }
}

const StreamKernels* StreamTable() {
  static constexpr StreamKernels kernels = {NibbleSegment, TritSegment, PopcountSegment,
                                            PopcountTritSegment};
  return &kernels;
}

#endif  // HWY_TARGET == HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_STREAM_KERNELS_INL_H_
