// Segment products by look-up tables, per target, from 16-entry byte shuffles.
#if defined(SDQ_KERNELS_STREAM_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_STREAM_KERNELS_INL_H_
#undef SDQ_KERNELS_STREAM_KERNELS_INL_H_
#else
#define SDQ_KERNELS_STREAM_KERNELS_INL_H_
#endif

#include <algorithm>

#include "hwy/highway.h"
#include "kernels/derived_kernels-inl.h"
#include "kernels/gfni_kernels-inl.h"
#include "kernels/popcount_kernels-inl.h"
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

// Five trits per byte, 28 high + low: 27 entries for the low three, 9 for the high two.
struct TritStep {
  static constexpr size_t kGroupBytes = kTritGroupBytes;
  static HWY_INLINE void LookUp(const uint8_t* tables, ByteVec x, ByteVec* entries) {
    const Bytes d;
    const ByteVec quotient = By28(x);
    entries[0] = EntryLow(tables, x, quotient);
    entries[1] = hn::TableLookupBytes(hn::LoadU(d, tables + 128), quotient);
  }

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

  // Entry x - 28 quotient of the 32 at `tables` and `tables + 64`.
  static HWY_INLINE ByteVec EntryLow(const uint8_t* tables, ByteVec x, ByteVec quotient) {
    const Bytes d;
    const ByteVec low = hn::LoadU(d, tables), high = hn::LoadU(d, tables + 64);
#if HWY_TARGET == HWY_NEON
    const uint8x16x2_t table = {{low.raw, high.raw}};
    return ByteVec(vqtbl2q_u8(table, vmlsq_u8(x.raw, quotient.raw, vdupq_n_u8(28))));
#elif HWY_ARCH_X86
    // The shuffle takes bits 0-3 of an index, and gives 0 where bit 7 is set: a remainder plus 112
    // has it from 16 on.
    HWY_ALIGN static constexpr uint8_t kTimes28Minus112[16] = {144, 172, 200, 228, 0,
                                                               28,  56,  84,  112, 140};
    const ByteVec index =
        hn::Sub(x, hn::TableLookupBytes(hn::LoadDup128(d, kTimes28Minus112), quotient));
    return hn::Or(hn::TableLookupBytes(low, index),
                  hn::TableLookupBytes(high, hn::Xor(index, hn::Set(d, uint8_t{128}))));
#else
    HWY_ALIGN static constexpr uint8_t kTimes28[16] = {0, 28, 56, 84, 112, 140, 168, 196, 224, 252};
    const ByteVec rest = hn::Sub(x, hn::TableLookupBytes(hn::LoadDup128(d, kTimes28), quotient));
    const ByteVec index = hn::And(rest, hn::Set(d, uint8_t{15}));
    return hn::IfThenElse(hn::Eq(rest, index), hn::TableLookupBytes(low, index),
                          hn::TableLookupBytes(high, index));
#endif
  }
};

// One octet: entries of `vectors` vectors of bits, zeros for what lacks.
template <class Step>
HWY_INLINE void AddOctet(const uint8_t* bits, const uint8_t* tables, size_t vectors,
                         EntrySums& sums) {
  const Bytes d;
  for (size_t half = 0; half < 2; ++half) {
    ByteVec entries[kOctet / 2];
    for (size_t i = 0; i < kOctetVectors / 2; ++i) {
      const size_t vector = half * kOctetVectors / 2 + i, offset = vector * hn::Lanes(d);
      if (vector < vectors) {
        Step::LookUp(tables + offset / 64 * Step::kGroupBytes + offset % 64,
                     hn::LoadU(d, bits + offset), entries + 2 * i);
      } else {
        entries[2 * i] = entries[2 * i + 1] = hn::Zero(d);
      }
    }
    if (half == 0) sums.Begin(entries);
    if (half == 1) sums.Finish(entries);
  }
}

// A segment of one plane, of some tiles.
template <class Fetch>
struct Plane {
  const uint8_t* bits;
  size_t tile_stride;
  size_t bytes;  // per row
  const uint8_t* tables;
  Fetch fetch;
};

// p, of which a compiler with 16 registers then knows nothing. Else it keeps one tile's tables for
// the next tile and has none left for the sums; to load tables again costs less.
HWY_INLINE const uint8_t* Forgotten(const uint8_t* p) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_AVX3 && defined(__GNUC__)
  asm volatile("" : "+r"(p));
#endif
  return p;
}

// Sums of biased entries, of kTiles tiles with the same tables: groups [g, end), at most
// EntrySums::kMostGroups.
template <class Step, size_t kTiles, class Fetch>
HWY_INLINE void SumChunk(const Plane<Fetch>& plane, size_t g, size_t end, RowSums* sums) {
  constexpr size_t kVectorsPerGroup = 64 / hn::MaxLanes(Bytes());
  constexpr size_t kOctetGroups = kOctetVectors / kVectorsPerGroup;
  EntrySums chunk[kTiles];
  const auto add = [&](size_t tile, size_t vectors) HWY_ATTR {
    AddOctet<Step>(plane.bits + tile * plane.tile_stride + g * 64,
                   Forgotten(plane.tables + g * Step::kGroupBytes), vectors, chunk[tile]);
  };
  const auto add_octets = [&](size_t until, const auto& distance) HWY_ATTR {
    for (; g + kOctetGroups <= until; g += kOctetGroups) {
      HWY_UNROLL(2)
      for (size_t tile = 0; tile < kTiles; ++tile) {
        const uint8_t* at = plane.bits + tile * plane.tile_stride + g * 64;
        FetchLines<Fetch::kCache>(at, kOctetGroups * 64, distance(tile));
        add(tile, kOctetVectors);
      }
    }
  };
  add_octets(std::min(plane.fetch.SteadyGroups(), end),
             [&](size_t tile) { return plane.fetch.Steady(tile); });
  if constexpr (Fetch::kChanges) {
    add_octets(end, [&](size_t tile) { return plane.fetch.Of(g, tile); });
  }
  for (; g < end; ++g) {
    for (size_t tile = 0; tile < kTiles; ++tile) add(tile, kVectorsPerGroup);
  }
  for (size_t tile = 0; tile < kTiles; ++tile) chunk[tile].AddTo(sums[tile]);
}

template <class Step, size_t kTiles, class Fetch>
HWY_INLINE void SumPlane(const Plane<Fetch>& plane, RowSums* sums) {
  const size_t groups = Groups(plane.bytes);
  for (size_t tile = 0; tile < kTiles; ++tile) sums[tile] = RowSums(SumBias(groups));
  for (size_t g = 0; g < groups; g += EntrySums::kMostGroups) {
    SumChunk<Step, kTiles>(plane, g, std::min(groups, g + EntrySums::kMostGroups), sums);
  }
}

// acc[r] += scale * sums, of kTiles tiles; of both planes, if there are two, plane_stride apart.
template <class Step, size_t kTiles, class Fetch>
HWY_INLINE void AddPlanes(const Plane<Fetch>& plane, size_t plane_stride, float scale, float* acc) {
  RowSums sums[kTiles];
  SumPlane<Step, kTiles>(plane, sums);
  if (plane_stride != 0) {
    Plane<Fetch> minus_plane = plane;
    minus_plane.bits += plane_stride;
    RowSums minus[kTiles];
    SumPlane<Step, kTiles>(minus_plane, minus);
    for (size_t tile = 0; tile < kTiles; ++tile) sums[tile].Subtract(minus[tile]);
  }
  for (size_t tile = 0; tile < kTiles; ++tile) sums[tile].Accumulate(scale, acc + tile * kTileRows);
}

template <class Step, size_t kTiles>
HWY_INLINE void SegmentTiles(const SegmentArgs& args, size_t tile) {
  for (size_t token = 0; token < args.tokens; ++token) {
    const Plane<FetchAhead> plane = {args.bits + tile * args.tile_stride,
                                     args.tile_stride,
                                     args.bytes,
                                     args.tables + token * args.token_stride,
                                     {token == 0 ? args.fetch_ahead : 0}};
    AddPlanes<Step, kTiles>(plane, args.plane_stride, TokenScale(args, token),
                            args.acc + token * args.acc_stride + tile * kTileRows);
  }
}

// Pairs of tiles share the loads of their tables where there are registers enough.
template <class Step>
HWY_INLINE void RunSegment(const SegmentArgs& args) {
  size_t tile = 0;
  for (; tile + 2 <= args.tiles; tile += 2) SegmentTiles<Step, 2>(args, tile);
  if (tile < args.tiles) SegmentTiles<Step, 1>(args, tile);
}

template <class Step, size_t kTiles>
HWY_INLINE void TokenTiles(const TokenArgs& args, size_t tile) {
  const uint8_t* bits = args.bits + tile * args.tile_stride;
  float* acc = args.acc + tile * kTileRows;
  std::fill(acc, acc + kTiles * kTileRows, 0.0f);
  for (size_t s = 0; s < args.segments.size(); ++s) {
    const Segment& segment = args.segments[s];
    using Fetch = FetchTiles<kTiles>;
    const Plane<Fetch> plane = {bits + segment.first_byte * kTileRows, args.tile_stride,
                                segment.bytes, args.tables + args.table_offsets[s],
                                args.Fetch<kTiles>(tile, s)};
    AddPlanes<Step, kTiles>(plane, args.plane_stride, args.scales[s], acc);
  }
}

template <class Step>
HWY_INLINE void RunToken(const TokenArgs& args) {
  size_t tile = 0;
  for (; tile + 4 <= args.tiles; tile += 4) TokenTiles<Step, 4>(args, tile);
  for (; tile < args.tiles; ++tile) TokenTiles<Step, 1>(args, tile);
}

void NibbleSegment(const SegmentArgs& args) { RunSegment<NibbleStep>(args); }
void TritSegment(const SegmentArgs& args) { RunSegment<TritStep>(args); }
void NibbleToken(const TokenArgs& args) { RunToken<NibbleStep>(args); }
void TritToken(const TokenArgs& args) { RunToken<TritStep>(args); }

const StreamKernels* StreamTable() {
  static constexpr StreamKernels kernels = {
    .nibbles = NibbleSegment,
    .trits = TritSegment,
    .popcount = PopcountSegment,
    .popcount_trits = PopcountTritSegment,
    .derive = Derive,
    .nibble_token = {NibbleToken, 4},
    .trit_token = {TritToken, 4},
    .derived_token = {DerivedToken, 2},
#if HWY_TARGET == HWY_AVX2
    .derived_token_gfni = {DerivedTokenGfni, 2},
#endif
  };
  return &kernels;
}

#endif  // HWY_TARGET == HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_STREAM_KERNELS_INL_H_
