// One token's products with stored and derived samples, with AVX2 and GFNI: many processors have
// both that lack AVX-512.
//
// As derived_kernels-inl.h, but affine maps of bytes over GF(2) make derived bytes of stored ones,
// and move upper nibbles down, each in one instruction.
#if defined(SDQ_KERNELS_GFNI_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_GFNI_KERNELS_INL_H_
#undef SDQ_KERNELS_GFNI_KERNELS_INL_H_
#else
#define SDQ_KERNELS_GFNI_KERNELS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/derived_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET == HWY_AVX2
#define SDQ_GFNI_ATTR __attribute__((target(HWY_TARGET_STR ",gfni")))
#define SDQ_GFNI_INLINE SDQ_GFNI_ATTR __attribute__((always_inline)) inline

// kComplement: of DerivedMaps::complement.
template <bool kComplement>
struct AffineMaps {
  explicit SDQ_GFNI_INLINE AffineMaps(const DerivedMaps& maps)
      : of_byte(_mm256_set1_epi64x(static_cast<int64_t>(maps.of_byte))),
        of_before(_mm256_set1_epi64x(static_cast<int64_t>(maps.of_before))),
        // Bit i of the result is bit i + 4: byte 7 - i names it.
        down(_mm256_set1_epi64x(0x1020408000000000)),
        low(_mm256_set1_epi8(15)) {}

  SDQ_GFNI_INLINE Nibbles OfStored(__m256i x) const {
    return {ByteVec{_mm256_and_si256(x, low)}, ByteVec{_mm256_gf2p8affine_epi64_epi8(x, down, 0)}};
  }
  // before: the bytes before those of x in their rows.
  SDQ_GFNI_INLINE Nibbles OfDerived(__m256i x, __m256i before) const {
    const __m256i d = _mm256_xor_si256(_mm256_gf2p8affine_epi64_epi8(x, of_byte, 0),
                                       _mm256_gf2p8affine_epi64_epi8(before, of_before, 0));
    return {ByteVec{kComplement ? _mm256_andnot_si256(d, low) : _mm256_and_si256(d, low)},
            ByteVec{_mm256_gf2p8affine_epi64_epi8(d, down, kComplement ? 15 : 0)}};
  }

  __m256i of_byte, of_before, down, low;
};

// SumPair. first: the rows begin here.
template <bool kComplement, size_t kTiles>
SDQ_GFNI_INLINE void SumPairAffine(const PairPlane& plane, const AffineMaps<kComplement>& maps,
                                   bool first, const FetchTiles<kTiles>& fetch, size_t tile,
                                   RowSums& sums, RowSums& derived_sums) {
  constexpr size_t kVectorBytes = sizeof(__m256i);
  static_assert(kOctetVectors * kVectorBytes == 2 * 64);  // half an octet is a group
  const auto load = [](const uint8_t* at) SDQ_GFNI_ATTR {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  };
  const size_t groups = Groups(plane.bytes);
  for (size_t g = 0; g < groups;) {
    const size_t end = std::min(groups, g + EntrySums::kMostGroups);
    EntrySums stored, derived;
    // Entries of group g, of the stored samples and of the others: half an octet from `position`
    // on.
    const auto add_stored = [&](size_t position) SDQ_GFNI_ATTR {
      const uint8_t* at = plane.bits + g * 64;
      const uint8_t* tables = plane.tables + g * kNibbleGroupBytes;
      stored.Add(position, LookUp(tables, maps.OfStored(load(at))));
      stored.Add(position + 1,
                 LookUp(tables + kVectorBytes, maps.OfStored(load(at + kVectorBytes))));
    };
    const auto add_derived = [&](size_t position) SDQ_GFNI_ATTR {
      const uint8_t* at = plane.bits + g * 64;
      const uint8_t* tables = plane.derived_tables + g * kNibbleGroupBytes;
      const __m256i x = load(at), next = load(at + kVectorBytes);
      // Where the rows begin, zeros and x's first 16 bytes: nothing before the matrix may be read.
      const __m256i before =
          first && g == 0 ? _mm256_permute2x128_si256(x, x, 0x08) : load(at - kTileRows);
      derived.Add(position, LookUp(tables, maps.OfDerived(x, before)));
      derived.Add(position + 1,
                  LookUp(tables + kVectorBytes, maps.OfDerived(next, load(at + kTileRows))));
    };
    while (g < end) {
      FetchLines<1>(plane.bits + g * 64, 2 * 64, fetch.Of(g, tile));
      add_stored(0);
      add_derived(0);
      if (++g < end) {
        add_stored(2);
        add_derived(2);
        ++g;
      } else {
        for (EntrySums* sum : {&stored, &derived}) {
          sum->AddNone(2);
          sum->AddNone(3);
        }
      }
    }
    stored.AddTo(sums);
    derived.AddTo(derived_sums);
  }
}

template <bool kComplement, size_t kTiles>
SDQ_GFNI_INLINE void AffineTokenTiles(const TokenArgs& args, const AffineMaps<kComplement>& maps,
                                      size_t first) {
  float* acc = args.acc + first * kTileRows;
  std::fill(acc, acc + kTiles * kTileRows, 0.0f);
  for (size_t s = 0; s < args.segments.size(); s += 2) {
    const FetchTiles<kTiles> fetch = args.Fetch<kTiles>(first, s);
    for (size_t tile = 0; tile < kTiles; ++tile) {
      PairProduct pair(args, s, first + tile);
      SumPairAffine(pair.plane, maps, s == 0, fetch, tile, pair.sums, pair.derived_sums);
      pair.Accumulate(args, s, acc + tile * kTileRows);
    }
  }
}

template <bool kComplement>
SDQ_GFNI_ATTR void AffineToken(const TokenArgs& args) {
  const AffineMaps<kComplement> maps(*args.derived);
  size_t tile = 0;
  for (; tile + 2 <= args.tiles; tile += 2) AffineTokenTiles<kComplement, 2>(args, maps, tile);
  if (tile < args.tiles) AffineTokenTiles<kComplement, 1>(args, maps, tile);
}

void DerivedTokenGfni(const TokenArgs& args) {
  args.derived->complement != 0 ? AffineToken<true>(args) : AffineToken<false>(args);
}

#undef SDQ_GFNI_ATTR
#undef SDQ_GFNI_INLINE
#endif  // HWY_TARGET == HWY_AVX2
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_GFNI_KERNELS_INL_H_
