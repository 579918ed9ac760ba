// Derived samples with AVX-512 VBMI and GFNI: their bytes by affine maps over GF(2), for many
// tokens into memory, for one together with the look-ups of the stored ones (vbmi_steps.h).
#include "kernels/vbmi_steps.h"

#if defined(__x86_64__)

#include <algorithm>

#include "kernels/derived_maps.h"
#include "kernels/fetch.h"

#define SDQ_GFNI_ATTR \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni,gfni")))

namespace sdq::kernels {
namespace {

using namespace vbmi;

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
    const Constants& c, const DeriveConstants& d, const SegmentPlane<FetchTiles<kTiles>>& plane,
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
        sums[i] = Add(c, step, plane.tables + table, sums[i]);
        step.IndexRows(c, Derive(d, x, _mm512_shldi_epi32(x, previous[i], 8)));
        derived_sums[i] = Add(c, step, derived_tables + table, derived_sums[i]);
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
  __m512 acc[kTiles];
  __m512i previous[kTiles];
  for (size_t i = 0; i < kTiles; ++i) {
    acc[i] = _mm512_setzero_ps();
    previous[i] = _mm512_setzero_si512();
  }
  for (size_t s = 0; s < args.segments.size(); s += 2) {
    Int32s sums[kTiles], derived_sums[kTiles];
    SumPair<kTiles>(c, d, args.PlaneOf<kTiles>(tile, s), args.tables + args.table_offsets[s + 1],
                    previous, sums, derived_sums);
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

}  // namespace sdq::kernels

#endif  // defined(__x86_64__)
