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
#include "kernels/indexed_kernels-inl.h"
#include "kernels/popcount_kernels-inl.h"
#include "kernels/reference.h"
#include "kernels/stream_kernels.h"
#include "kernels/stream_sums-inl.h"
#include "kernels/table_steps-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

const StreamKernels* StreamTable() { return &ReferenceStreamKernels(); }

#else
namespace hn = hwy::HWY_NAMESPACE;

// Octets that some tiles have before the others' turn comes: so long their sums stay in registers.
inline constexpr size_t kTurnOctets = 512 / (kOctetGroups * 64);

// Indices of some tiles' bits, made as they are read.
template <class Step>
struct BitIndices {
  HWY_INLINE void operator()(size_t position, size_t tile, ByteVec* indices) const {
    const uint8_t* at = bits + tile * tile_stride + position * hn::MaxLanes(Bytes());
    Step::Index(hn::LoadU(Bytes(), at), indices);
  }

  const uint8_t* bits;
  size_t tile_stride;
};

// Sums of biased entries of kTiles tiles with the same tables, over at most EntrySums::kMostGroups
// groups. Tiles take turns, in pairs, if they can.
template <class Step, size_t kTiles, class Fetch>
class TileSums {
 public:
  explicit HWY_INLINE TileSums(const SegmentPlane<Fetch>& plane) : plane_(plane) {}

  // Groups [g, end).
  HWY_INLINE void Add(size_t g, size_t end) {
    g = AddTurns<true>(g, std::min(plane_.fetch.SteadyGroups(), end));
    if constexpr (Fetch::kChanges) g = AddTurns<false>(g, end);
    for (; g < end; ++g) {
      for (size_t first = 0; first < kTiles; first += kPair) {
        Pair pair(sums_ + first);
        AddVectors(first, g, kGroupVectors, pair.sums);
        pair.Store(sums_ + first);
      }
    }
  }
  HWY_INLINE void AddTo(RowSums* sums) const {
    for (size_t tile = 0; tile < kTiles; ++tile) sums_[tile].AddTo(sums[tile]);
  }

 private:
  static constexpr size_t kPair = kTiles % 2 == 0 ? 2 : 1;

  // A pair's sums, for the registers.
  struct Pair {
    explicit HWY_INLINE Pair(const EntrySums* from) {
      for (size_t i = 0; i < kPair; ++i) sums[i] = from[i];
    }
    HWY_INLINE void Store(EntrySums* to) const {
      for (size_t i = 0; i < kPair; ++i) to[i] = sums[i];
    }
    EntrySums sums[kPair];
  };

  // Whole octets of [g, end); returns the first group behind them. kSteady: what is fetched does
  // not change on the way.
  template <bool kSteady>
  HWY_INLINE size_t AddTurns(size_t g, size_t end) {
    constexpr size_t kTurn = kTurnOctets * kOctetGroups;
    for (; g + kTurn <= end; g += kTurn) AddTurn<kSteady>(g, kTurnOctets);
    for (; g + kOctetGroups <= end; g += kOctetGroups) AddTurn<kSteady>(g, 1);
    return g;
  }

  template <bool kSteady>
  HWY_INLINE void AddTurn(size_t g, size_t octets) {
    for (size_t first = 0; first < kTiles; first += kPair) {
      Pair pair(sums_ + first);
      for (size_t octet = 0; octet < octets; ++octet) {
        const size_t group = g + octet * kOctetGroups;
        for (size_t tile = first; tile < first + kPair; ++tile) {
          FetchLines<Fetch::kCache>(
              Bits(tile, group), kOctetGroups * 64,
              kSteady ? plane_.fetch.Steady(tile) : plane_.fetch.Of(group, tile));
        }
        AddVectors(first, group, kOctetVectors, pair.sums);
      }
      pair.Store(sums_ + first);
    }
  }

  // `vectors` vectors from a group on.
  HWY_INLINE void AddVectors(size_t first_tile, size_t group, size_t vectors,
                             EntrySums (&sums)[kPair]) const {
    AddOctet<Step>(plane_.tables + group * Step::kGroupBytes, vectors,
                   BitIndices<Step>{Bits(first_tile, group), plane_.tile_stride}, sums);
  }

  HWY_INLINE const uint8_t* Bits(size_t tile, size_t group) const {
    return plane_.bits + tile * plane_.tile_stride + group * 64;
  }

  const SegmentPlane<Fetch>& plane_;
  EntrySums sums_[kTiles];
};

template <class Step, size_t kTiles, class Fetch>
HWY_INLINE void SumPlane(const SegmentPlane<Fetch>& plane, RowSums* sums) {
  const size_t groups = Groups(plane.bytes);
  for (size_t tile = 0; tile < kTiles; ++tile) sums[tile] = RowSums(SumBias(groups));
  for (size_t g = 0; g < groups; g += EntrySums::kMostGroups) {
    TileSums<Step, kTiles, Fetch> chunk(plane);
    chunk.Add(g, std::min(groups, g + EntrySums::kMostGroups));
    chunk.AddTo(sums);
  }
}

// acc[r] += scale * sums, of kTiles tiles; of both planes, if there are two, plane_stride apart.
template <class Step, size_t kTiles, class Fetch>
HWY_INLINE void AddPlanes(const SegmentPlane<Fetch>& plane, size_t plane_stride, float scale,
                          float* acc) {
  RowSums sums[kTiles];
  SumPlane<Step, kTiles>(plane, sums);
  if (plane_stride != 0) {
    SegmentPlane<Fetch> minus_plane = plane;
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
    AddPlanes<Step, kTiles>(args.PlaneOf(tile, token), args.plane_stride, TokenScale(args, token),
                            args.acc + token * args.acc_stride + tile * kTileRows);
  }
}

template <class Step>
HWY_INLINE void RunSegment(const SegmentArgs& args) {
  size_t tile = args.tokens < kLeastIndexedTokens ? 0 : RunIndexed<Step>(args);
  for (; tile + 2 <= args.tiles; tile += 2) SegmentTiles<Step, 2>(args, tile);
  if (tile < args.tiles) SegmentTiles<Step, 1>(args, tile);
}

template <class Step, size_t kTiles>
HWY_INLINE void TokenTiles(const TokenArgs& args, size_t tile) {
  float* acc = args.acc + tile * kTileRows;
  std::fill(acc, acc + kTiles * kTileRows, 0.0f);
  for (size_t s = 0; s < args.segments.size(); ++s) {
    AddPlanes<Step, kTiles>(args.PlaneOf<kTiles>(tile, s), args.plane_stride, args.scales[s], acc);
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
#if HWY_TARGET == HWY_AVX2
void NibbleTokenGfni(const TokenArgs& args) { RunToken<AffineNibbleStep>(args); }
#endif

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
    .nibble_token_gfni = {NibbleTokenGfni, 4},
    .derived_token_gfni = {DerivedTokenGfni, 2},
#endif
  };
  return &kernels;
}

#endif  // HWY_TARGET == HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_STREAM_KERNELS_INL_H_
