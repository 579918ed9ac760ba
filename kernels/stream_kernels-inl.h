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
#include "kernels/stream_sums-inl.h"
#include "kernels/table_layout.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

const StreamKernels* StreamTable() { return &ReferenceStreamKernels(); }

#else
namespace hn = hwy::HWY_NAMESPACE;

// AccumulateTile, for sums at an aligned address.
HWY_INLINE void AccumulateRows(const int32_t* sums, float scale, float* acc) {
  const Rows rows;
  const hn::RebindToFloat<Rows> d;
  for (size_t r = 0; r < 16; r += hn::Lanes(rows)) {
    const auto product = hn::Mul(hn::Set(d, scale), hn::ConvertTo(d, hn::Load(rows, sums + r)));
    hn::StoreU(hn::Add(hn::LoadU(d, acc + r), product), d, acc + r);
  }
}

// Two entries of each byte of x, from the tables at `tables`: 8 binary samples per byte.
struct NibbleStep {
  static constexpr size_t kGroupBytes = kNibbleGroupBytes;
  static HWY_INLINE void LookUp(const uint8_t* tables, ByteVec x, ByteVec* entries) {
    const Bytes d;
    const ByteVec low = hn::And(x, hn::Set(d, uint8_t{15}));
    entries[0] = hn::TableLookupBytes(hn::LoadU(d, tables), low);
    entries[1] = hn::TableLookupBytes(hn::LoadU(d, tables + 64), hn::ShiftRight<4>(x));
  }
};

// Five trits per byte: 27 entries for the low three, 9 for the high two.
struct TritStep {
  static constexpr size_t kGroupBytes = kTritGroupBytes;
  static HWY_INLINE void LookUp(const uint8_t* tables, ByteVec x, ByteVec* entries) {
    const Bytes d;
    const ByteVec quotient = By27(x);
    entries[0] = Entry27(tables, x, quotient);
    entries[1] = hn::TableLookupBytes(hn::LoadU(d, tables + 128), quotient);
  }

 private:
  // x / 27 = 19 x >> 9 for x < 256 (the remainder never reaches the next multiple).
  static HWY_INLINE ByteVec By27(ByteVec x) {
#if HWY_TARGET == HWY_NEON
    const uint8x8_t factor = vdup_n_u8(152);  // 8 x 19
    const uint8x16_t first = vreinterpretq_u8_u16(vmull_u8(vget_low_u8(x.raw), factor));
    const uint8x16_t second = vreinterpretq_u8_u16(vmull_u8(vget_high_u8(x.raw), factor));
    return ByteVec(vshrq_n_u8(vuzp2q_u8(first, second), 4));
#else
    const Words d;
    const WordVec factor = hn::Set(d, uint16_t{19 * 128});
    const WordVec odd_bytes = hn::Set(d, uint16_t{0xff00});
    const WordVec words = hn::BitCast(d, x);
    const WordVec even = hn::MulHigh(hn::AndNot(odd_bytes, words), factor);
    const WordVec odd = hn::And(hn::MulHigh(hn::And(words, odd_bytes), factor), odd_bytes);
    return hn::BitCast(Bytes(), hn::Or(even, odd));
#endif
  }

  // Entry x - 27 quotient of the 32 at `tables` and `tables + 64`.
  static HWY_INLINE ByteVec Entry27(const uint8_t* tables, ByteVec x, ByteVec quotient) {
    const Bytes d;
    const ByteVec low = hn::LoadU(d, tables), high = hn::LoadU(d, tables + 64);
#if HWY_TARGET == HWY_NEON
    const uint8x16x2_t table = {{low.raw, high.raw}};
    return ByteVec(vqtbl2q_u8(table, vmlsq_u8(x.raw, quotient.raw, vdupq_n_u8(27))));
#elif HWY_ARCH_X86
    // The shuffle takes bits 0-3 of an index, and gives 0 where bit 7 is set: a remainder plus 112
    // has it from 16 on.
    HWY_ALIGN static constexpr uint8_t kTimes27Minus112[16] = {144, 171, 198, 225, 252,
                                                               23,  50,  77,  104, 131};
    const ByteVec index =
        hn::Sub(x, hn::TableLookupBytes(hn::LoadDup128(d, kTimes27Minus112), quotient));
    return hn::Or(hn::TableLookupBytes(low, index),
                  hn::TableLookupBytes(high, hn::Xor(index, hn::Set(d, uint8_t{128}))));
#else
    HWY_ALIGN static constexpr uint8_t kTimes27[16] = {0, 27, 54, 81, 108, 135, 162, 189, 216, 243};
    const ByteVec rest = hn::Sub(x, hn::TableLookupBytes(hn::LoadDup128(d, kTimes27), quotient));
    const ByteVec index = hn::And(rest, hn::Set(d, uint8_t{15}));
    return hn::IfThenElse(hn::Eq(rest, index), hn::TableLookupBytes(low, index),
                          hn::TableLookupBytes(high, index));
#endif
  }
};

// Into the second cache. An address, not a pointer: it may lie behind the bitstream, where fetching
// is harmless. Nothing to fetch is distance 0, which is cheaper than a branch.
HWY_INLINE void Fetch(const uint8_t* bits, size_t distance) {
#if defined(__GNUC__)
  const uintptr_t address = reinterpret_cast<uintptr_t>(bits) + distance;
  __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 2);
#endif
}

// One octet: entries of `vectors` vectors of bits, zeros for what lacks.
template <class Step>
HWY_INLINE void AddOctet(const uint8_t* bits, const uint8_t* tables, size_t vectors,
                         EntrySums& sums) {
  const Bytes d;
  ByteVec entries[kOctet];
  for (size_t i = 0; i < kOctetVectors; ++i) {
    const size_t offset = i * hn::Lanes(d);
    if (i < vectors) {
      Step::LookUp(tables + offset / 64 * Step::kGroupBytes + offset % 64,
                   hn::LoadU(d, bits + offset), entries + 2 * i);
    } else {
      entries[2 * i] = entries[2 * i + 1] = hn::Zero(d);
    }
  }
  sums.Add(entries);
}

// Sums of biased entries over up to EntrySums::kMostGroups groups, kTiles tiles with the same
// tables.
template <class Step, size_t kTiles>
HWY_INLINE void AddChunk(const uint8_t* bits, size_t tile_stride, const uint8_t* tables,
                         size_t groups, size_t fetch_ahead, int32_t* sums) {
  constexpr size_t kVectorsPerGroup = 64 / hn::MaxLanes(Bytes());
  constexpr size_t kOctetGroups = kOctetVectors / kVectorsPerGroup;
  EntrySums chunk[kTiles];
  size_t g = 0;
  for (; g + kOctetGroups <= groups; g += kOctetGroups) {
    for (size_t tile = 0; tile < kTiles; ++tile) {
      const uint8_t* at = bits + tile * tile_stride + g * 64;
      for (size_t i = 0; i < kOctetGroups; ++i) Fetch(at + i * 64, fetch_ahead);
      AddOctet<Step>(at, tables + g * Step::kGroupBytes, kOctetVectors, chunk[tile]);
    }
  }
  for (; g < groups; ++g) {
    for (size_t tile = 0; tile < kTiles; ++tile) {
      AddOctet<Step>(bits + tile * tile_stride + g * 64, tables + g * Step::kGroupBytes,
                     kVectorsPerGroup, chunk[tile]);
    }
  }
  for (size_t tile = 0; tile < kTiles; ++tile) chunk[tile].AddTo(sums + tile * kTileRows);
}

template <class Step, size_t kTiles>
HWY_INLINE void SumPlane(const SegmentArgs& args, const uint8_t* bits, const uint8_t* tables,
                         size_t fetch_ahead, int32_t* sums) {
  const size_t groups = Groups(args.bytes);
  const int32_t bias = -static_cast<int32_t>(groups * 4 * 2 * 128);
  std::fill(sums, sums + kTiles * kTileRows, bias);
  for (size_t g = 0; g < groups; g += EntrySums::kMostGroups) {
    AddChunk<Step, kTiles>(bits + g * 64, args.tile_stride, tables + g * Step::kGroupBytes,
                           std::min(EntrySums::kMostGroups, groups - g), fetch_ahead, sums);
  }
}

template <class Step, size_t kTiles>
HWY_INLINE void TableTiles(const SegmentArgs& args, size_t tile, size_t token) {
  const uint8_t* bits = args.bits + tile * args.tile_stride;
  const uint8_t* tables = args.tables + token * args.token_stride;
  const size_t fetch_ahead = token == 0 ? args.fetch_ahead : 0;
  HWY_ALIGN int32_t sums[kTiles * kTileRows];
  SumPlane<Step, kTiles>(args, bits, tables, fetch_ahead, sums);
  if (args.plane_stride != 0) {
    HWY_ALIGN int32_t minus[kTiles * kTileRows];
    SumPlane<Step, kTiles>(args, bits + args.plane_stride, tables, fetch_ahead, minus);
    for (size_t i = 0; i < kTiles * kTileRows; ++i) sums[i] -= minus[i];
  }
  float* acc = args.acc + token * args.acc_stride + tile * kTileRows;
  for (size_t i = 0; i < kTiles * kTileRows; i += kTileRows) {
    AccumulateRows(sums + i, TokenScale(args, token), acc + i);
  }
}

// Pairs of tiles share the loads of their tables.
template <class Step>
HWY_INLINE void TableSegment(const SegmentArgs& args) {
  size_t tile = 0;
  for (; tile + 2 <= args.tiles; tile += 2) {
    for (size_t token = 0; token < args.tokens; ++token) TableTiles<Step, 2>(args, tile, token);
  }
  if (tile == args.tiles) return;
  for (size_t token = 0; token < args.tokens; ++token) TableTiles<Step, 1>(args, tile, token);
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
