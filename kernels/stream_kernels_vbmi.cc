// Segment products with AVX-512 VBMI and VNNI, which Highway 1.0.3 does not reach.
//
// 64 bytes of a tile are 4 bytes of 16 rows. One byte permute brings a row's 4 bytes together; each
// nibble plus 16 times its byte's number indexes the group's 64 table entries in one permute, and
// one dot product with ones adds the 4 entries of a row into its 32-bit sum. With several tokens
// the permute and the indices are shared. Derived samples, with GFNI, stand at the end.
#include "kernels/stream_kernels.h"

#if defined(__x86_64__)

// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "kernels/table_layout.h"

#define SDQ_VBMI_ATTR __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))
#define SDQ_VBMI_INLINE SDQ_VBMI_ATTR __attribute__((always_inline)) inline
#define SDQ_GFNI_ATTR \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni,gfni")))

namespace sdq::kernels {
namespace {

// (x & mask) | pattern
constexpr int kAndOr = 0xEA;
// x | (y & ~mask)
constexpr int kOrAndNot = 0xF4;

// Sums of 32 bits, of sixteen rows. GCC moves accumulators about needlessly unless their type says
// what they hold.
typedef int Int32s __attribute__((vector_size(64)));

SDQ_VBMI_INLINE Int32s AddEntries(Int32s sum, __m512i entries, __m512i ones) {
  return (Int32s)_mm512_dpbusd_epi32((__m512i)sum, entries, ones);
}

struct Constants {
  __m512i by_row;   // output byte 4 r + j = input byte 16 j + r
  __m512i pattern;  // 16 j
  __m512i ones;
  __m512i low_nibble;
  __m512i trit_parts, high_pattern, high_bits, low_bits;  // TritStep
};

// Of a packed byte's upper six bits y = 7 high + floor(low / 4): the bits of `high` at 0, 1, 4, 5,
// those of floor(low / 4) at 2, 3, 6, where the entries' indices have them (TritStep).
struct TritParts {
  alignas(64) uint8_t of[64];
  constexpr TritParts() : of{} {
    for (unsigned y = 0; y < 64; ++y) {
      const unsigned high = y / 7, low = y % 7;
      of[y] = static_cast<uint8_t>((high & 3) | (high & 12) << 2 | (low & 3) << 2 | (low & 4) << 4);
    }
  }
};
constexpr TritParts kTritParts;

struct RowOrder {
  alignas(64) uint8_t of[64];
  constexpr RowOrder() : of{} {
    for (size_t i = 0; i < 64; ++i) of[i] = static_cast<uint8_t>(i % 4 * 16 + i / 4);
  }
};
constexpr RowOrder kByRow;

SDQ_VBMI_INLINE Constants MakeConstants() {
  return {_mm512_load_si512(kByRow.of),
          _mm512_set1_epi32(0x30201000),
          _mm512_set1_epi8(1),
          _mm512_set1_epi8(15),
          _mm512_load_si512(kTritParts.of),
          _mm512_set1_epi32(0x0c080400),
          _mm512_set1_epi8(0x33),
          _mm512_set1_epi8(3)};
}

SDQ_VBMI_INLINE __m512i LoadRows(const Constants& c, const uint8_t* bits) {
  return _mm512_permutexvar_epi8(c.by_row, _mm512_loadu_si512(bits));
}

// Entry indices of 4 bytes of 16 rows, and their sum from a token's tables of the group.
struct NibbleStep {
  static constexpr size_t kGroupBytes = kNibbleGroupBytes;
  __m512i low, high;
  SDQ_VBMI_INLINE void Index(const Constants& c, const uint8_t* bits) {
    IndexRows(c, LoadRows(c, bits));
  }
  SDQ_VBMI_INLINE void IndexRows(const Constants& c, __m512i x) {
    low = _mm512_ternarylogic_epi32(x, c.low_nibble, c.pattern, kAndOr);
    high = _mm512_ternarylogic_epi32(_mm512_srli_epi16(x, 4), c.low_nibble, c.pattern, kAndOr);
  }
  SDQ_VBMI_INLINE Int32s Add(const Constants& c, const uint8_t* tables, Int32s sum) const {
    const __m512i t0 = _mm512_loadu_si512(tables);
    const __m512i t1 = _mm512_loadu_si512(tables + 64);
    sum = AddEntries(sum, _mm512_permutexvar_epi8(low, t0), c.ones);
    return AddEntries(sum, _mm512_permutexvar_epi8(high, t1), c.ones);
  }
};

// A byte is 28 high + low, so that its upper six bits give `high` and all of `low` but its lowest
// two bits, which are the byte's: one permute of a constant serves both indices. Bits of an index:
//   low:   0-3 of low, the position j at 4, 5, bit 4 of low at 6 (which names the second table)
//   high:  0, 1 of high, the position at 2, 3, and 2, 3 of high at 4, 5: see ArrangeTrits.
struct TritStep {
  static constexpr size_t kGroupBytes = kTritGroupBytes;
  __m512i low, high;
  SDQ_VBMI_INLINE void Index(const Constants& c, const uint8_t* bits) {
    const __m512i x = LoadRows(c, bits);
    // The permute ignores bits 6 and 7, which the shift takes from the neighbour.
    const __m512i parts = _mm512_permutexvar_epi8(_mm512_srli_epi16(x, 2), c.trit_parts);
    high = _mm512_ternarylogic_epi32(parts, c.high_bits, c.high_pattern, kAndOr);
    const __m512i rest = _mm512_ternarylogic_epi32(x, c.low_bits, c.pattern, kAndOr);
    low = _mm512_ternarylogic_epi32(rest, parts, c.high_bits, kOrAndNot);
  }
  SDQ_VBMI_INLINE Int32s Add(const Constants& c, const uint8_t* tables, Int32s sum) const {
    const __m512i t0 = _mm512_loadu_si512(tables);
    const __m512i t1 = _mm512_loadu_si512(tables + 64);
    const __m512i t2 = _mm512_loadu_si512(tables + 128);
    sum = AddEntries(sum, _mm512_permutex2var_epi8(t0, low, t1), c.ones);
    return AddEntries(sum, _mm512_permutexvar_epi8(high, t2), c.ones);
  }
};

// The high entries of a group: from e + 16 j to (e & 3) + 4 j + 16 (e >> 2), four by four.
SDQ_VBMI_ATTR void ArrangeTrits(size_t groups, uint8_t* tables) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (size_t g = 0; g < groups; ++g) {
    uint8_t* high = tables + g * kTritGroupBytes + 128;
    _mm512_storeu_si512(high, _mm512_permutexvar_epi32(order, _mm512_loadu_si512(high)));
  }
}

// A segment of one plane, of the first of some tiles and tokens.
template <class Fetch>
struct Plane {
  const uint8_t* bits;
  size_t tile_stride;
  size_t bytes;  // per row
  const uint8_t* tables;
  size_t token_stride;
  Fetch fetch;
};

// sums[tile * kTokens + token]; entries are biased by 128.
template <class Step, size_t kTiles, size_t kTokens, class Fetch>
SDQ_VBMI_INLINE void SumPlane(const Constants& c, const Plane<Fetch>& plane, Int32s* sums) {
  const size_t groups = Groups(plane.bytes);
  const Int32s bias = Int32s{} + SumBias(groups);
  Int32s acc[kTiles * kTokens];
  for (size_t i = 0; i < kTiles * kTokens; ++i) acc[i] = bias;
  size_t g = 0;
  const auto add_until = [&](size_t end, auto distance) SDQ_VBMI_ATTR {
    for (; g < end; ++g) {
#pragma GCC unroll 4
      for (size_t tile = 0; tile < kTiles; ++tile) {
        const uint8_t* at = plane.bits + tile * plane.tile_stride + g * 64;
        FetchLine<Fetch::kCache>(at, distance(g, tile));
        Step step;
        step.Index(c, at);
#pragma GCC unroll 8
        for (size_t token = 0; token < kTokens; ++token) {
          Int32s& sum = acc[tile * kTokens + token];
          sum = step.Add(c, plane.tables + token * plane.token_stride + g * Step::kGroupBytes, sum);
        }
      }
    }
  };
  add_until(std::min(plane.fetch.SteadyGroups(), groups),
            [&](size_t, size_t tile) { return plane.fetch.Steady(tile); });
  if constexpr (Fetch::kChanges) {
    add_until(groups, [&](size_t group, size_t tile) { return plane.fetch.Of(group, tile); });
  }
  for (size_t i = 0; i < kTiles * kTokens; ++i) sums[i] = acc[i];
}

// Both planes, if there are two: plane_stride bytes apart.
template <class Step, size_t kTiles, size_t kTokens, class Fetch>
SDQ_VBMI_INLINE void SumPlanes(const Constants& c, Plane<Fetch> plane, size_t plane_stride,
                               Int32s* sums) {
  SumPlane<Step, kTiles, kTokens>(c, plane, sums);
  if (plane_stride == 0) return;
  plane.bits += plane_stride;
  Int32s minus[kTiles * kTokens];
  SumPlane<Step, kTiles, kTokens>(c, plane, minus);
  for (size_t i = 0; i < kTiles * kTokens; ++i) sums[i] = sums[i] - minus[i];
}

SDQ_VBMI_INLINE __m512 Scaled(float scale, Int32s sums) {
  return _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_cvtepi32_ps((__m512i)sums));
}

template <class Step, size_t kTiles, size_t kTokens>
SDQ_VBMI_INLINE void SumTiles(const Constants& c, const SegmentArgs& args, size_t tile,
                              size_t token) {
  const Plane<FetchAhead> plane = {args.bits + tile * args.tile_stride,
                                   args.tile_stride,
                                   args.bytes,
                                   args.tables + token * args.token_stride,
                                   args.token_stride,
                                   {token == 0 ? args.fetch_ahead : 0}};
  Int32s sums[kTiles * kTokens];
  SumPlanes<Step, kTiles, kTokens>(c, plane, args.plane_stride, sums);
  for (size_t t = 0; t < kTokens; ++t) {
    const float scale = TokenScale(args, token + t);
    for (size_t i = 0; i < kTiles; ++i) {
      float* acc = args.acc + (token + t) * args.acc_stride + (tile + i) * 16;
      _mm512_storeu_ps(acc,
                       _mm512_add_ps(_mm512_loadu_ps(acc), Scaled(scale, sums[i * kTokens + t])));
    }
  }
}

// Sixteen 32-bit sums' registers at most: 4 tiles x 1 token (decode) or 2 tiles x 8 tokens, whose
// tables of a segment leave room for the tiles' bits in the first cache.
template <class Step>
SDQ_VBMI_INLINE void RunSegment(const SegmentArgs& args) {
  const Constants c = MakeConstants();
  size_t token = 0;
  for (; token + 8 <= args.tokens; token += 8) {
    size_t tile = 0;
    for (; tile + 2 <= args.tiles; tile += 2) SumTiles<Step, 2, 8>(c, args, tile, token);
    for (; tile < args.tiles; ++tile) SumTiles<Step, 1, 8>(c, args, tile, token);
  }
  for (; token + 4 <= args.tokens; token += 4) {
    size_t tile = 0;
    for (; tile + 2 <= args.tiles; tile += 2) SumTiles<Step, 2, 4>(c, args, tile, token);
    for (; tile < args.tiles; ++tile) SumTiles<Step, 1, 4>(c, args, tile, token);
  }
  for (; token < args.tokens; ++token) {
    size_t tile = 0;
    for (; tile + 4 <= args.tiles; tile += 4) SumTiles<Step, 4, 1>(c, args, tile, token);
    for (; tile < args.tiles; ++tile) SumTiles<Step, 1, 1>(c, args, tile, token);
  }
}

// All segments of kTiles tiles, for one token.
template <class Step, size_t kTiles>
SDQ_VBMI_INLINE void TokenTiles(const Constants& c, const TokenArgs& args, size_t tile) {
  const uint8_t* bits = args.bits + tile * args.tile_stride;
  __m512 acc[kTiles];
  for (__m512& a : acc) a = _mm512_setzero_ps();
  for (size_t s = 0; s < args.segments.size(); ++s) {
    const Segment& segment = args.segments[s];
    const Plane<FetchTiles<kTiles>> plane = {bits + segment.first_byte * kTileRows,
                                             args.tile_stride,
                                             segment.bytes,
                                             args.tables + args.table_offsets[s],
                                             0,
                                             args.Fetch<kTiles>(tile, s)};
    Int32s sums[kTiles];
    SumPlanes<Step, kTiles, 1>(c, plane, args.plane_stride, sums);
    for (size_t i = 0; i < kTiles; ++i) {
      acc[i] = _mm512_add_ps(acc[i], Scaled(args.scales[s], sums[i]));
    }
  }
  for (size_t i = 0; i < kTiles; ++i) _mm512_storeu_ps(args.acc + (tile + i) * kTileRows, acc[i]);
}

template <class Step>
SDQ_VBMI_INLINE void RunToken(const TokenArgs& args) {
  const Constants c = MakeConstants();
  size_t tile = 0;
  for (; tile + 4 <= args.tiles; tile += 4) TokenTiles<Step, 4>(c, args, tile);
  for (; tile < args.tiles; ++tile) TokenTiles<Step, 1>(c, args, tile);
}

constexpr size_t kTokenTiles = 4;

SDQ_VBMI_ATTR void NibbleToken(const TokenArgs& args) { RunToken<NibbleStep>(args); }
SDQ_VBMI_ATTR void TritToken(const TokenArgs& args) { RunToken<TritStep>(args); }
SDQ_VBMI_ATTR void NibbleSegment(const SegmentArgs& args) { RunSegment<NibbleStep>(args); }
SDQ_VBMI_ATTR void TritSegment(const SegmentArgs& args) { RunSegment<TritStep>(args); }

struct DeriveConstants {
  __m512i of_byte, of_before, complement;
};

SDQ_VBMI_INLINE DeriveConstants MakeDeriveConstants(const DerivedMaps& maps) {
  return {_mm512_set1_epi64(static_cast<long long>(maps.of_byte)),
          _mm512_set1_epi64(static_cast<long long>(maps.of_before)),
          _mm512_set1_epi8(static_cast<char>(maps.complement))};
}

// Of bytes and the bytes before them in their rows.
SDQ_GFNI_ATTR __attribute__((always_inline)) inline __m512i Derive(const DeriveConstants& c,
                                                                   __m512i x, __m512i before) {
  return _mm512_ternarylogic_epi64(_mm512_gf2p8affine_epi64_epi8(x, c.of_byte, 0),
                                   _mm512_gf2p8affine_epi64_epi8(before, c.of_before, 0),
                                   c.complement, 0x96);  // exclusive or
}

SDQ_GFNI_ATTR void DeriveBytes(const DeriveArgs& args) {
  const DeriveConstants c = MakeDeriveConstants(*args.maps);
  const size_t count = kTileRows * args.bytes;
  for (size_t tile = 0; tile < args.tiles; ++tile) {
    const uint8_t* bits = args.bits + tile * args.tile_stride;
    uint8_t* out = args.out + tile * args.out_stride;
    // What comes before a byte of 16 rows lies 16 bytes earlier: in this vector or the last one.
    __m512i previous = _mm512_setzero_si512();
    if (!args.first) {
      previous = _mm512_inserti32x4(
          previous, _mm_loadu_si128(reinterpret_cast<const __m128i*>(bits - 16)), 3);
    }
    for (size_t i = 0; i < count; i += 64) {
      const __mmask64 here = count - i < 64 ? (__mmask64{1} << (count - i)) - 1 : ~__mmask64{0};
      const __m512i x = _mm512_maskz_loadu_epi8(here, bits + i);
      const __m512i before = _mm512_alignr_epi64(x, previous, 6);
      _mm512_mask_storeu_epi8(out + i, here, Derive(c, x, before));
      previous = x;
    }
  }
}

// A stored segment and the one of its derived samples. The four bytes of a row are one 32-bit lane
// here, so that the byte before each comes with a shift, and nothing is stored between the two
// look-ups. previous: the last four bytes of the rows so far.
template <size_t kTiles>
SDQ_GFNI_ATTR __attribute__((always_inline)) inline void SumPair(
    const Constants& c, const DeriveConstants& d, const Plane<FetchTiles<kTiles>>& plane,
    const uint8_t* derived_tables, __m512i* previous, Int32s* sums, Int32s* derived_sums) {
  const size_t groups = Groups(plane.bytes);
  const Int32s bias = Int32s{} + SumBias(groups);
  for (size_t i = 0; i < kTiles; ++i) sums[i] = derived_sums[i] = bias;
  size_t g = 0;
  const auto add_until = [&](size_t end, auto distance) SDQ_GFNI_ATTR {
    for (; g < end; ++g) {
      const size_t table = g * NibbleStep::kGroupBytes;
#pragma GCC unroll 4
      for (size_t i = 0; i < kTiles; ++i) {
        const uint8_t* at = plane.bits + i * plane.tile_stride + g * 64;
        FetchLine<1>(at, distance(g, i));
        const __m512i x = LoadRows(c, at);
        NibbleStep step;
        step.IndexRows(c, x);
        sums[i] = step.Add(c, plane.tables + table, sums[i]);
        step.IndexRows(c, Derive(d, x, _mm512_shldi_epi32(x, previous[i], 8)));
        derived_sums[i] = step.Add(c, derived_tables + table, derived_sums[i]);
        previous[i] = x;
      }
    }
  };
  add_until(std::min(plane.fetch.SteadyGroups(), groups),
            [&](size_t, size_t tile) { return plane.fetch.Steady(tile); });
  add_until(groups, [&](size_t group, size_t tile) { return plane.fetch.Of(group, tile); });
}

template <size_t kTiles>
SDQ_GFNI_ATTR __attribute__((always_inline)) inline void DerivedTokenTiles(const Constants& c,
                                                                           const DeriveConstants& d,
                                                                           const TokenArgs& args,
                                                                           size_t tile) {
  const uint8_t* bits = args.bits + tile * args.tile_stride;
  __m512 acc[kTiles];
  __m512i previous[kTiles];
  for (size_t i = 0; i < kTiles; ++i) {
    acc[i] = _mm512_setzero_ps();
    previous[i] = _mm512_setzero_si512();
  }
  for (size_t s = 0; s < args.segments.size(); s += 2) {
    const Segment& segment = args.segments[s];
    const Plane<FetchTiles<kTiles>> plane = {bits + segment.first_byte * kTileRows,
                                             args.tile_stride,
                                             segment.bytes,
                                             args.tables + args.table_offsets[s],
                                             0,
                                             args.Fetch<kTiles>(tile, s)};
    Int32s sums[kTiles], derived_sums[kTiles];
    SumPair<kTiles>(c, d, plane, args.tables + args.table_offsets[s + 1], previous, sums,
                    derived_sums);
    for (size_t i = 0; i < kTiles; ++i) {
      acc[i] = _mm512_add_ps(acc[i], Scaled(args.scales[s], sums[i]));
      acc[i] = _mm512_add_ps(acc[i], Scaled(args.scales[s + 1], derived_sums[i]));
    }
  }
  for (size_t i = 0; i < kTiles; ++i) _mm512_storeu_ps(args.acc + (tile + i) * kTileRows, acc[i]);
}

SDQ_GFNI_ATTR void DerivedToken(const TokenArgs& args) {
  const Constants c = MakeConstants();
  const DeriveConstants d = MakeDeriveConstants(*args.derived);
  size_t tile = 0;
  for (; tile + 4 <= args.tiles; tile += 4) DerivedTokenTiles<4>(c, d, args, tile);
  for (; tile < args.tiles; ++tile) DerivedTokenTiles<1>(c, d, args, tile);
}

bool HasGfni() { return __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512vbmi2"); }

}  // namespace

DeriveKernel VbmiDerive() { return HasGfni() ? DeriveBytes : nullptr; }
TokenProduct VbmiDerivedToken() {
  return HasGfni() ? TokenProduct{DerivedToken, kTokenTiles} : TokenProduct();
}
TokenProduct VbmiNibbleToken() { return {NibbleToken, kTokenTiles}; }
TokenProduct VbmiTritToken() { return {TritToken, kTokenTiles}; }
SegmentKernel VbmiNibbles() { return NibbleSegment; }
SegmentKernel VbmiTrits() { return TritSegment; }
TableArrangement VbmiArrangeTrits() { return ArrangeTrits; }

}  // namespace sdq::kernels

#endif  // defined(__x86_64__)
