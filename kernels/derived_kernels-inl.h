// Derived samples, per target: made from stored ones by 16-entry byte shuffles, and one token's
// products with both.
#if defined(SDQ_KERNELS_DERIVED_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_DERIVED_KERNELS_INL_H_
#undef SDQ_KERNELS_DERIVED_KERNELS_INL_H_
#else
#define SDQ_KERNELS_DERIVED_KERNELS_INL_H_
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

// A byte's nibbles, one per byte.
struct Nibbles {
  ByteVec low, high;
};

template <class Step = NibbleStep>
HWY_INLINE Nibbles NibblesOf(ByteVec x) {
  ByteVec indices[2];
  Step::Index(x, indices);
  return {indices[0], indices[1]};
}

// x moved up by one 16-byte block, with the last block of the vector before it moved in.
HWY_INLINE ByteVec BlocksBefore(ByteVec before, ByteVec x) {
#if HWY_TARGET == HWY_AVX3
  return ByteVec{_mm512_alignr_epi64(x.raw, before.raw, 6)};
#elif HWY_TARGET == HWY_AVX2
  return hn::ConcatLowerUpper(Bytes(), x, before);
#else
  static_assert(hn::MaxLanes(Bytes()) == 16);
  (void)x;
  return before;
#endif
}

// The bytes of derived samples from those of stored ones, vector by vector as they lie in a tile,
// where a row's byte before another lies 16 bytes earlier: by their nibbles.
class ShuffleDeriver {
 public:
  explicit HWY_INLINE ShuffleDeriver(const DerivedMaps& maps)
      : low_(hn::LoadDup128(Bytes(), maps.low)),
        high_(hn::LoadDup128(Bytes(), maps.high)),
        low_next_(hn::LoadDup128(Bytes(), maps.low_next)),
        high_next_(hn::LoadDup128(Bytes(), maps.high_next)) {}

  // For the products: nibbles of a vector x of stored bytes, and of the bytes derived from it.
  // carry: what the bytes before have to do with these, zero where rows begin; updated for the next
  // vector.
  static HWY_INLINE Nibbles OfStored(ByteVec x) { return NibblesOf(x); }
  HWY_INLINE Nibbles OfDerived(ByteVec /*x*/, const Nibbles& stored, ByteVec* carry) const {
    return NibblesOf(Next(stored, carry));
  }
  HWY_INLINE ByteVec Next(const Nibbles& x, ByteVec* carry) const {
    const ByteVec here =
        hn::Xor(hn::TableLookupBytes(low_, x.low), hn::TableLookupBytes(high_, x.high));
    const ByteVec next =
        hn::Xor(hn::TableLookupBytes(low_next_, x.low), hn::TableLookupBytes(high_next_, x.high));
    const ByteVec derived = hn::Xor(here, BlocksBefore(*carry, next));
    *carry = next;
    return derived;
  }

 private:
  ByteVec low_, high_, low_next_, high_next_;
};

HWY_INLINE void DeriveTile(const ShuffleDeriver& deriver, bool first, const uint8_t* bits,
                           size_t count, uint8_t* out) {
  const Bytes d;
  constexpr size_t kLanes = hn::MaxLanes(Bytes());
  HWY_ALIGN uint8_t padded[kLanes] = {};
  ByteVec carry = hn::Zero(d);
  if (!first) {
    std::copy_n(bits - 16, 16, padded + kLanes - 16);
    deriver.Next(NibblesOf(hn::Load(d, padded)), &carry);
  }
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(deriver.Next(NibblesOf(hn::LoadU(d, bits + i)), &carry), d, out + i);
  }
  if (i == count) return;
  std::copy_n(bits + i, count - i, padded);
  hn::Store(deriver.Next(NibblesOf(hn::Load(d, padded)), &carry), d, padded);
  std::copy_n(padded, count - i, out + i);
}

void Derive(const DeriveArgs& args) {
  const ShuffleDeriver deriver(*args.maps);
  for (size_t tile = 0; tile < args.tiles; ++tile) {
    DeriveTile(deriver, args.first, args.bits + tile * args.tile_stride, 16 * args.bytes,
               args.out + tile * args.out_stride);
  }
}

// ---- One token's products with stored and derived samples ----

HWY_INLINE EntryPair LookUp(const uint8_t* tables, const Nibbles& x) {
  const ByteVec indices[] = {x.low, x.high};
  return NibbleStep(tables).LookUp(indices);
}

// The stored bytes of one tile's segment, and the tables of these and of their derived samples.
struct PairPlane {
  const uint8_t* bits;
  size_t bytes;  // per row
  const uint8_t* tables;
  const uint8_t* derived_tables;
};

// Segment s of the stored bits and the one of its derived samples, of one tile.
struct PairProduct {
  HWY_INLINE PairProduct(const TokenArgs& args, size_t s, size_t tile)
      : plane{args.bits + tile * args.tile_stride + args.segments[s].first_byte * kTileRows,
              args.segments[s].bytes, args.tables + args.table_offsets[s],
              args.tables + args.table_offsets[s + 1]},
        sums(SumBias(Groups(plane.bytes))),
        derived_sums(SumBias(Groups(plane.bytes))) {}

  HWY_INLINE void Accumulate(const TokenArgs& args, size_t s, float* acc) const {
    sums.Accumulate(args.scales[s], acc);
    derived_sums.Accumulate(args.scales[s + 1], acc);
  }

  PairPlane plane;
  RowSums sums, derived_sums;
};

// Groups up to `end`, at most EntrySums::kMostGroups. One tile, since registers hold no more.
// last_carry: the deriver's, of the bytes before these.
template <class Deriver, class Distance>
HWY_INLINE void AddPairChunk(const PairPlane& plane, size_t group, size_t end,
                             const Deriver& deriver, const Distance& distance, ByteVec* last_carry,
                             RowSums& sums, RowSums& derived_sums) {
  EntrySums stored, derived;
  ByteVec carry = *last_carry;
  const auto add_octet = [&](size_t vectors) HWY_ATTR {
    for (size_t position = 0; position < kOctetVectors; ++position) {
      if (position < vectors) {
        const size_t table = group * kNibbleGroupBytes + TableOffset<NibbleStep>(position);
        const uint8_t* bits = plane.bits + group * 64 + position * hn::MaxLanes(Bytes());
        const ByteVec x = hn::LoadU(Bytes(), bits);
        const Nibbles nibbles = deriver.OfStored(x);
        stored.Add(position, LookUp(plane.tables + table, nibbles));
        derived.Add(position,
                    LookUp(plane.derived_tables + table, deriver.OfDerived(x, nibbles, &carry)));
      } else {
        stored.AddNone(position);
        derived.AddNone(position);
      }
    }
  };
  for (; group + kOctetGroups <= end; group += kOctetGroups) {
    FetchLines<1>(plane.bits + group * 64, kOctetGroups * 64, distance(group));
    add_octet(kOctetVectors);
  }
  for (; group < end; ++group) add_octet(kGroupVectors);
  *last_carry = carry;
  stored.AddTo(sums);
  derived.AddTo(derived_sums);
}

template <class Deriver, class Distance>
HWY_INLINE void SumPair(const PairPlane& plane, const Deriver& deriver, const Distance& distance,
                        ByteVec* carry, RowSums& sums, RowSums& derived_sums) {
  const size_t groups = Groups(plane.bytes);
  for (size_t g = 0; g < groups; g += EntrySums::kMostGroups) {
    AddPairChunk(plane, g, std::min(groups, g + EntrySums::kMostGroups), deriver, distance, carry,
                 sums, derived_sums);
  }
}

template <size_t kTiles, class Deriver>
HWY_INLINE void DerivedTokenTiles(const TokenArgs& args, const Deriver& deriver, size_t first) {
  float* acc = args.acc + first * kTileRows;
  std::fill(acc, acc + kTiles * kTileRows, 0.0f);
  ByteVec carries[kTiles];
  for (ByteVec& carry : carries) carry = hn::Zero(Bytes());
  for (size_t s = 0; s < args.segments.size(); s += 2) {
    const FetchTiles<kTiles> fetch = args.Fetch<kTiles>(first, s);
    for (size_t tile = 0; tile < kTiles; ++tile) {
      PairProduct pair(args, s, first + tile);
      SumPair(
          pair.plane, deriver, [&](size_t g) { return fetch.Of(g, tile); }, &carries[tile],
          pair.sums, pair.derived_sums);
      pair.Accumulate(args, s, acc + tile * kTileRows);
    }
  }
}

template <class Deriver>
HWY_INLINE void RunDerivedToken(const TokenArgs& args, const Deriver& deriver) {
  size_t tile = 0;
  for (; tile + 2 <= args.tiles; tile += 2) DerivedTokenTiles<2>(args, deriver, tile);
  if (tile < args.tiles) DerivedTokenTiles<1>(args, deriver, tile);
}

void DerivedToken(const TokenArgs& args) { RunDerivedToken(args, ShuffleDeriver(*args.derived)); }

#endif  // HWY_TARGET != HWY_SCALAR
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_DERIVED_KERNELS_INL_H_
