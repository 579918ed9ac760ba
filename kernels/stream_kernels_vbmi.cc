// Segment products with AVX-512 VBMI and VNNI, of samples that are stored (vbmi_steps.h). Several
// tokens share the indices of the bits: few of them in registers, many in memory.
#include "kernels/vbmi_steps.h"

#if defined(__x86_64__)

#include <algorithm>

#include "kernels/fetch.h"

namespace sdq::kernels {
namespace {

using namespace vbmi;

// The high entries of a group: from e + 16 j to (e & 3) + 4 j + 16 (e >> 2), four by four.
SDQ_VBMI_ATTR void ArrangeTrits(size_t groups, uint8_t* tables) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (size_t g = 0; g < groups; ++g) {
    uint8_t* high = tables + g * kTritGroupBytes + 128;
    _mm512_storeu_si512(high, _mm512_permutexvar_epi32(order, _mm512_loadu_si512(high)));
  }
}

// sums[tile * kTokens + token]; entries are biased by 128.
template <class Step, size_t kTiles, size_t kTokens, class Fetch>
SDQ_VBMI_INLINE void SumPlane(const Constants& c, const SegmentPlane<Fetch>& plane, Int32s* sums) {
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
          sum =
              Add(c, step, plane.tables + token * plane.token_stride + g * Step::kGroupBytes, sum);
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
SDQ_VBMI_INLINE void SumPlanes(const Constants& c, SegmentPlane<Fetch> plane, size_t plane_stride,
                               Int32s* sums) {
  SumPlane<Step, kTiles, kTokens>(c, plane, sums);
  if (plane_stride == 0) return;
  plane.bits += plane_stride;
  Int32s minus[kTiles * kTokens];
  SumPlane<Step, kTiles, kTokens>(c, plane, minus);
  for (size_t i = 0; i < kTiles * kTokens; ++i) sums[i] = sums[i] - minus[i];
}

// acc += scale * sum for some tiles from `tile` on and tokens from `token` on.
template <size_t kTiles, size_t kTokens>
SDQ_VBMI_INLINE void AddScaled(const SegmentArgs& args, size_t tile, size_t token,
                               const Int32s* sums) {
  for (size_t t = 0; t < kTokens; ++t) {
    const float scale = TokenScale(args, token + t);
    for (size_t i = 0; i < kTiles; ++i) {
      float* acc = args.acc + (token + t) * args.acc_stride + (tile + i) * kTileRows;
      _mm512_storeu_ps(acc,
                       _mm512_add_ps(_mm512_loadu_ps(acc), Scaled(scale, sums[i * kTokens + t])));
    }
  }
}

template <class Step, size_t kTiles, size_t kTokens>
SDQ_VBMI_INLINE void SumTiles(const Constants& c, const SegmentArgs& args, size_t tile,
                              size_t token) {
  Int32s sums[kTiles * kTokens];
  SumPlanes<Step, kTiles, kTokens>(c, args.PlaneOf(tile, token), args.plane_stride, sums);
  AddScaled<kTiles, kTokens>(args, tile, token, sums);
}

// Few tokens: two tiles by eight tokens at most, whose sums fit the registers, and whose tables of
// a segment leave room for the tiles' bits in the first cache.
template <class Step>
SDQ_VBMI_INLINE void RunDirect(const Constants& c, const SegmentArgs& args) {
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

// Entry indices of a segment of four tiles, which many tokens share: a load costs less than the
// permute and the other operations that make them.
template <class Step>
class IndexedTiles {
 public:
  static constexpr size_t kTiles = 4;

  // Of args' tiles from `first` on.
  SDQ_VBMI_INLINE IndexedTiles(const Constants& c, const SegmentArgs& args, size_t first)
      : groups_(Groups(args.bytes)), planes_(args.plane_stride == 0 ? 1 : 2) {
    for (size_t tile = 0; tile < kTiles; ++tile) {
      for (size_t plane = 0; plane < planes_; ++plane) {
        const uint8_t* bits =
            args.bits + (first + tile) * args.tile_stride + plane * args.plane_stride;
        Step* steps = steps_ + (tile * planes_ + plane) * groups_;
        for (size_t g = 0; g < groups_; ++g) steps[g].Index(c, bits + g * 64);
      }
    }
  }

  // As SumPlanes, but that plane.bits, from where one line is fetched ahead for each group, may be
  // those of any tile.
  template <size_t kTokens>
  SDQ_VBMI_INLINE void Sum(const Constants& c, SegmentPlane<FetchAhead> plane, size_t plane_stride,
                           Int32s* sums) const {
    SumPlane<kTokens>(c, steps_, plane, sums);
    if (planes_ == 1) return;
    plane.bits += plane_stride;
    Int32s minus[kTiles * kTokens];
    SumPlane<kTokens>(c, steps_ + groups_, plane, minus);
    for (size_t i = 0; i < kTiles * kTokens; ++i) sums[i] = sums[i] - minus[i];
  }

 private:
  // Of packed trits, or of bits in two planes.
  static constexpr size_t kMostGroups = 64;
  static_assert(kMostGroups >= kSegmentSamplesPacked / 5 / 4 &&
                kMostGroups >= 2 * kSegmentSamples / 8 / 4);

  template <size_t kTokens>
  SDQ_VBMI_INLINE void SumPlane(const Constants& c, const Step* steps,
                                const SegmentPlane<FetchAhead>& plane, Int32s* sums) const {
    const size_t tile_steps = planes_ * groups_;
    const Int32s bias = Int32s{} + SumBias(groups_);
    Int32s acc[kTiles * kTokens];
    for (Int32s& sum : acc) sum = bias;
    for (size_t g = 0; g < groups_; ++g) {
      FetchLine<FetchAhead::kCache>(plane.bits + g * 64, plane.fetch.Steady(0));
      Step step[kTiles];
#pragma GCC unroll 4
      for (size_t i = 0; i < kTiles; ++i) step[i] = steps[i * tile_steps + g];
#pragma GCC unroll 4
      for (size_t token = 0; token < kTokens; ++token) {
        const typename Step::Tables tables(plane.tables + token * plane.token_stride +
                                           g * Step::kGroupBytes);
#pragma GCC unroll 4
        for (size_t i = 0; i < kTiles; ++i) {
          Int32s& sum = acc[i * kTokens + token];
          sum = AddEntries(sum, step[i].LowEntries(tables), c.ones);
        }
#pragma GCC unroll 4
        for (size_t i = 0; i < kTiles; ++i) {
          Int32s& sum = acc[i * kTokens + token];
          sum = AddEntries(sum, step[i].HighEntries(tables), c.ones);
        }
      }
    }
    for (size_t i = 0; i < kTiles * kTokens; ++i) sums[i] = acc[i];
  }

  size_t groups_, planes_;
  Step steps_[kTiles * kMostGroups];  // [tile][plane][group]
};

// The indexed tiles, of which `first` is the first, by kTokens tokens. What is fetched ahead, the
// first turns of four tokens share, a tile each.
template <class Step, size_t kTokens>
SDQ_VBMI_INLINE void AddIndexed(const Constants& c, const SegmentArgs& args,
                                const IndexedTiles<Step>& indexed, size_t first, size_t token) {
  constexpr size_t kTiles = IndexedTiles<Step>::kTiles;
  const size_t turn = token / 4;
  SegmentPlane<FetchAhead> plane = args.PlaneOf(first + turn % kTiles, token);
  plane.fetch.distance = turn < kTiles ? args.fetch_ahead : 0;
  Int32s sums[kTiles * kTokens];
  indexed.template Sum<kTokens>(c, plane, args.plane_stride, sums);
  AddScaled<kTiles, kTokens>(args, first, token, sums);
}

// Many tokens: four tiles by four tokens, whose sums and indices, and a token's tables, fit the
// registers; a segment's indices and tables fit the first cache.
template <class Step>
SDQ_VBMI_INLINE void RunIndexed(const Constants& c, const SegmentArgs& args) {
  constexpr size_t kTiles = IndexedTiles<Step>::kTiles;
  size_t tile = 0;
  for (; tile + kTiles <= args.tiles; tile += kTiles) {
    const IndexedTiles<Step> indexed(c, args, tile);
    size_t token = 0;
    for (; token + 4 <= args.tokens; token += 4) {
      AddIndexed<Step, 4>(c, args, indexed, tile, token);
    }
    for (; token < args.tokens; ++token) AddIndexed<Step, 1>(c, args, indexed, tile, token);
  }
  if (tile < args.tiles) RunDirect<Step>(c, args.From(tile));
}

// From so many tokens on, indices are worth their stores and loads.
constexpr size_t kLeastIndexedTokens = 16;

template <class Step>
SDQ_VBMI_INLINE void RunSegment(const SegmentArgs& args) {
  const Constants c = MakeConstants();
  if (args.tokens < kLeastIndexedTokens) return RunDirect<Step>(c, args);
  RunIndexed<Step>(c, args);
}

// All segments of kTiles tiles, for one token.
template <class Step, size_t kTiles>
SDQ_VBMI_INLINE void TokenTiles(const Constants& c, const TokenArgs& args, size_t tile) {
  __m512 acc[kTiles];
  for (__m512& a : acc) a = _mm512_setzero_ps();
  for (size_t s = 0; s < args.segments.size(); ++s) {
    Int32s sums[kTiles];
    SumPlanes<Step, kTiles, 1>(c, args.PlaneOf<kTiles>(tile, s), args.plane_stride, sums);
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

SDQ_VBMI_ATTR void NibbleToken(const TokenArgs& args) { RunToken<NibbleStep>(args); }
SDQ_VBMI_ATTR void TritToken(const TokenArgs& args) { RunToken<TritStep>(args); }
SDQ_VBMI_ATTR void NibbleSegment(const SegmentArgs& args) { RunSegment<NibbleStep>(args); }
SDQ_VBMI_ATTR void TritSegment(const SegmentArgs& args) { RunSegment<TritStep>(args); }

}  // namespace

TokenProduct VbmiNibbleToken() { return {NibbleToken, kTokenTiles}; }
TokenProduct VbmiTritToken() { return {TritToken, kTokenTiles}; }
SegmentKernel VbmiNibbles() { return NibbleSegment; }
SegmentKernel VbmiTrits() { return TritSegment; }
TableArrangement VbmiArrangeTrits() { return ArrangeTrits; }

}  // namespace sdq::kernels

#endif  // defined(__x86_64__)
