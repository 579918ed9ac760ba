// Segment products of many tokens: the indices of some tiles' bits are made once, into the first
// cache, from where all tokens read them.
#if defined(SDQ_KERNELS_INDEXED_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_INDEXED_KERNELS_INL_H_
#undef SDQ_KERNELS_INDEXED_KERNELS_INL_H_
#else
#define SDQ_KERNELS_INDEXED_KERNELS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/stream_kernels.h"
#include "kernels/stream_sums-inl.h"
#include "kernels/table_steps-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET != HWY_SCALAR
namespace hn = hwy::HWY_NAMESPACE;

// From so many tokens on, indices are worth their stores and loads.
inline constexpr size_t kLeastIndexedTokens = 4;

// The indices of a segment of one plane of two tiles, vector by vector, each of the first tile
// before the one of the other. A vector of tables is then loaded once for both tiles, whose sums
// fit 16 registers.
template <class Step>
class IndexedPair {
 public:
  static constexpr size_t kTiles = 2;
  static constexpr size_t kVectorIndices = kTiles * Step::kIndices;  // of a vector of bits

  // Bytes that a pair takes.
  static constexpr size_t IndexBytes(size_t groups) { return groups * 64 * kVectorIndices; }

  IndexedPair(const uint8_t* indices, size_t groups) : indices_(indices), groups_(groups) {}

  static HWY_INLINE void Make(const uint8_t* bits, size_t tile_stride, size_t groups,
                              uint8_t* out) {
    const Bytes d;
    const size_t vectors = groups * kGroupVectors;
    for (size_t i = 0; i < vectors; ++i) {
      for (size_t tile = 0; tile < kTiles; ++tile) {
        ByteVec indices[Step::kIndices];
        Step::Index(hn::LoadU(d, bits + tile * tile_stride + i * hn::Lanes(d)), indices);
        for (const ByteVec v : indices) {
          hn::Store(v, d, out);
          out += hn::Lanes(d);
        }
      }
    }
  }

  // Sums of the entries less their bias. kFetch: a line is fetched for each group, fetch_ahead
  // behind `bits`.
  template <bool kFetch>
  HWY_INLINE void Sum(const uint8_t* tables, const uint8_t* bits, size_t fetch_ahead,
                      RowSums (&sums)[kTiles]) const {
    for (RowSums& sum : sums) sum = RowSums(SumBias(groups_));
    for (size_t g = 0; g < groups_; g += EntrySums::kMostGroups) {
      SumChunk<kFetch>(tables, bits, fetch_ahead, g, std::min(groups_, g + EntrySums::kMostGroups),
                       sums);
    }
  }

 private:
  template <bool kFetch>
  HWY_INLINE void SumChunk(const uint8_t* tables, const uint8_t* bits, size_t fetch_ahead, size_t g,
                           size_t end, RowSums (&sums)[kTiles]) const {
    EntrySums chunk[kTiles];
    for (; g + kOctetGroups <= end; g += kOctetGroups) {
      if constexpr (kFetch) FetchLines<2>(bits + g * 64, kOctetGroups * 64, fetch_ahead);
      Add(tables, g, kOctetVectors, chunk);
    }
    for (; g < end; ++g) Add(tables, g, kGroupVectors, chunk);
    for (size_t tile = 0; tile < kTiles; ++tile) chunk[tile].AddTo(sums[tile]);
  }

  // `vectors` vectors from group g on.
  HWY_INLINE void Add(const uint8_t* tables, size_t g, size_t vectors,
                      EntrySums (&sums)[kTiles]) const {
    AddOctet<Step>(tables + g * Step::kGroupBytes, vectors, MadeIndices{indices_ + IndexBytes(g)},
                   sums);
  }

  struct MadeIndices {
    HWY_INLINE void operator()(size_t position, size_t tile, ByteVec* indices) const {
      const uint8_t* vectors =
          at + (position * kTiles + tile) * Step::kIndices * hn::MaxLanes(Bytes());
      for (size_t i = 0; i < Step::kIndices; ++i) {
        indices[i] = hn::Load(Bytes(), vectors + i * hn::MaxLanes(Bytes()));
      }
    }

    const uint8_t* at;
  };

  const uint8_t* indices_;
  size_t groups_;
};

// The indices of a segment of some pairs of tiles, of both planes, if there are two: as many as
// leave room for a token's tables in the first cache.
template <class Step>
class IndexedPairs {
 public:
  using Pair = IndexedPair<Step>;

  // Of args' tiles from `first` on.
  HWY_INLINE IndexedPairs(const SegmentArgs& args, size_t first)
      : args_(args),
        first_(first),
        groups_(Groups(args.bytes)),
        planes_(args.plane_stride == 0 ? 1 : 2),
        pairs_(std::min({kMostBytes / (planes_ * Pair::IndexBytes(groups_)), size_t{2},
                         (args.tiles - first) / Pair::kTiles})) {
    for (size_t pair = 0; pair < pairs_; ++pair) {
      for (size_t plane = 0; plane < planes_; ++plane) {
        Pair::Make(Bits(pair) + plane * args.plane_stride, args.tile_stride, groups_,
                   indices_ + (pair * planes_ + plane) * Pair::IndexBytes(groups_));
      }
    }
  }

  size_t tiles() const { return pairs_ * Pair::kTiles; }

  // Products with a token's tables. kFetch: of what is fetched ahead, the lines of one tile of each
  // pair, another one for the next token.
  template <bool kFetch>
  HWY_INLINE void AddToken(size_t token) const {
    const uint8_t* tables = args_.tables + token * args_.token_stride;
    const float scale = TokenScale(args_, token);
    float* acc = args_.acc + token * args_.acc_stride + first_ * kTileRows;
    if (planes_ == 1) {
      AddPairs<kFetch, 1>(token, tables, scale, acc);
    } else {
      AddPairs<kFetch, 2>(token, tables, scale, acc);
    }
  }

 private:
  static constexpr size_t kMostBytes = size_t{20} << 10;
  static_assert(kMostBytes >= Pair::IndexBytes(Step::kMostGroups));

  template <bool kFetch, size_t kPlanes>
  HWY_INLINE void AddPairs(size_t token, const uint8_t* tables, float scale, float* acc) const {
    const uint8_t* indices = indices_;
    const size_t plane_bytes = Pair::IndexBytes(groups_);
    for (size_t pair = 0; pair < pairs_; ++pair) {
      const uint8_t* fetch = Bits(pair) + token % Pair::kTiles * args_.tile_stride;
      RowSums sums[Pair::kTiles];
      Pair(indices, groups_).template Sum<kFetch>(tables, fetch, args_.fetch_ahead, sums);
      indices += plane_bytes;
      if constexpr (kPlanes == 2) {
        RowSums minus[Pair::kTiles];
        Pair(indices, groups_)
            .template Sum<kFetch>(tables, fetch + args_.plane_stride, args_.fetch_ahead, minus);
        indices += plane_bytes;
        for (size_t tile = 0; tile < Pair::kTiles; ++tile) sums[tile].Subtract(minus[tile]);
      }
      for (const RowSums& sum : sums) {
        sum.Accumulate(scale, acc);
        acc += kTileRows;
      }
    }
  }

  const uint8_t* Bits(size_t pair) const {
    return args_.bits + (first_ + pair * Pair::kTiles) * args_.tile_stride;
  }

  const SegmentArgs& args_;
  size_t first_, groups_, planes_, pairs_;
  HWY_ALIGN uint8_t indices_[kMostBytes];
};

// All tiles but an odd one; returns their number.
template <class Step>
HWY_INLINE size_t RunIndexed(const SegmentArgs& args) {
  constexpr size_t kPair = IndexedPair<Step>::kTiles;
  size_t tile = 0;
  while (tile + kPair <= args.tiles) {
    IndexedPairs<Step> pairs(args, tile);
    size_t token = 0;
    for (; token < std::min(kPair, args.tokens); ++token) pairs.template AddToken<true>(token);
    for (; token < args.tokens; ++token) pairs.template AddToken<false>(token);
    tile += pairs.tiles();
  }
  return tile;
}

#endif  // HWY_TARGET != HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_INDEXED_KERNELS_INL_H_
