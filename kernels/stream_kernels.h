// Products of one segment of the bitstream: what each instruction set implements.
#ifndef SDQ_KERNELS_STREAM_KERNELS_H_
#define SDQ_KERNELS_STREAM_KERNELS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "hwy/base.h"
#include "kernels/stream_layout.h"
#include "kernels/table_form.h"

namespace sdq::kernels {

// One segment, `tiles` x 16 rows, `tokens` activations:
//   acc[token * acc_stride + tile * 16 + row] += scale(token) * float(integer sum).
// Reads up to 63 bytes behind the segment's bits.
struct SegmentArgs {
  const uint8_t* bits = nullptr;  // of the first tile
  size_t tile_stride = 0;         // bytes
  size_t plane_stride = 0;        // bytes from the plus to the minus plane; 0 = binary
  size_t bytes = 0;               // of the segment, per row and plane
  size_t tiles = 0;
  const uint8_t* tables = nullptr;  // the segment's, of the first token
  const float* scale = nullptr;     // the segment's, of the first token
  size_t token_stride = 0;          // bytes from a token's tables, and scale, to the next one's
  size_t tokens = 0;
  float* acc = nullptr;
  size_t acc_stride = 0;
  // Distance in bytes (modulo 2^64) from the bits to those of the same shape that the thread reads
  // next, for the kernel to fetch into the second cache while it serves the first tokens. 0 = none.
  size_t fetch_ahead = 0;
};

using SegmentKernel = void (*)(const SegmentArgs& args);

// The bytes of a segment's derived samples: bit i of a byte is the product of the samples i - b of
// the same row for all bits b of `derived`, from the bytes themselves and those before them.
struct DeriveArgs {
  const uint8_t* bits = nullptr;  // of the first tile; 16 bytes before them are readable if !first
  size_t tile_stride = 0;         // bytes
  size_t bytes = 0;               // per row
  size_t tiles = 0;
  bool first = false;      // the row begins here: what would come before counts as zero bits
  uint32_t derived = 0;    // MapSpec::derived
  uint8_t* out = nullptr;  // tiles, out_stride apart
  size_t out_stride = 0;
};

using DeriveKernel = void (*)(const DeriveArgs& args);

// What a kernel fetches while it reads a segment: before its group of four bytes `change`, what
// lies `near` bytes on; from there on, what lies `far` on (modulo 2^64). 0 = nothing.
struct FetchPlan {
  size_t near = 0, far = 0;
  size_t change = 0;
  size_t Distance(size_t group) const { return group < change ? near : far; }
  static FetchPlan Always(size_t distance) { return {distance, distance, 0}; }
};

// One token and all segments of a block, `tiles` x 16 rows: with the segments in their order,
//   acc[tile * 16 + row] = sum of scale * float(integer sum).
// Reads up to 63 bytes behind the bits.
struct TokenArgs {
  const uint8_t* bits = nullptr;  // the first tile
  size_t tile_stride = 0;         // bytes
  size_t plane_stride = 0;        // as in SegmentArgs
  size_t row_bytes = 0;           // of a plane, all blocks
  std::span<const Segment> segments;
  const uint8_t* tables = nullptr;        // the token's
  const size_t* table_offsets = nullptr;  // from there to those of each segment
  const float* scales = nullptr;          // of each segment
  uint32_t derived = 0;                   // MapSpec::derived
  size_t tiles = 0;
  float* acc = nullptr;
  // Distance in bytes (modulo 2^64) from the first tile to the one that the thread reads after
  // these tiles. 0 = none.
  size_t fetch_next = 0;

  // For segment s of `count` tiles at `tile` that a kernel reads together: into the first cache,
  // always as far ahead, so that memory is never asked for much at once.
  FetchPlan Fetch(size_t tile, size_t count, size_t s) const {
    const size_t ahead = std::min(kFetchRowBytes, row_bytes);
    const size_t first = segments[s].first_byte, last = row_bytes - ahead;
    FetchPlan plan;
    plan.near = ahead * kTileRows;
    plan.change = first < last ? (last - first + 3) / 4 : 0;
    if (tile + count < tiles) {
      plan.far = count * tile_stride - last * kTileRows;
    } else if (fetch_next != 0) {
      plan.far = fetch_next - tile * tile_stride - last * kTileRows;
    }
    return plan;
  }

  static constexpr size_t kFetchRowBytes = 160;
};

using TokenKernel = void (*)(const TokenArgs& args);

// From the order of a segment's tables in kernels/README.md to a kernel's own, in place.
using TableArrangement = void (*)(size_t groups, uint8_t* tables);

struct StreamKernels {
  SegmentKernel nibbles;         // tables, binary or two planes
  SegmentKernel trits;           // tables, packed trits
  SegmentKernel popcount;        // bit-planes, binary or two planes
  SegmentKernel popcount_trits;  // bit-planes, packed trits
  DeriveKernel derive;           // binary
  // The same tables. Null: segment by segment, deriving what is derived.
  TokenKernel nibble_token = nullptr;
  TokenKernel trit_token = nullptr;
  TokenKernel derived_token = nullptr;  // binary with derived samples
  // What `trits` expects of its tables; null: nothing.
  TableArrangement arrange_trits = nullptr;
  // Tables, binary, kLeastTileTokens to kMostTileTokens tokens, on a unit that multiplies tiles;
  // and what it expects of the tables. Null: there is none.
  SegmentKernel tile_nibbles = nullptr;
  TableArrangement arrange_tile_nibbles = nullptr;
};

inline constexpr size_t kLeastTileTokens = 16, kMostTileTokens = 32;

// Of the target in use.
StreamKernels ActiveStreamKernels();

// How that target multiplies tables of this form, and what this expects of them (or null).
struct TableProduct {
  SegmentKernel kernel;
  TableArrangement arrange;
};
TableProduct TableProductOf(Packing packing, size_t tokens, TableForm form);
// How it multiplies one token's look-up tables; may be null.
TokenKernel TokenKernelOf(Packing packing, bool derived);

// Table kernels with AVX-512 VBMI and VNNI (stream_kernels_vbmi.cc); x86-64 only.
SegmentKernel VbmiNibbles();
SegmentKernel VbmiTrits();
TableArrangement VbmiArrangeTrits();
// Null without GFNI, which the first processors with VBMI lack.
DeriveKernel VbmiDerive();
TokenKernel VbmiDerivedToken();
TokenKernel VbmiNibbleToken();
TokenKernel VbmiTritToken();

// On the tile unit (stream_kernels_amx.cc); needs TileUnitGranted(), x86-64 only.
SegmentKernel AmxNibbles();
TableArrangement AmxArrangeNibbles();

// ---- Shared by the implementations ----

// Into the first or second cache. An address, not a pointer: it may lie behind the bitstream, where
// fetching is harmless. Nothing to fetch is distance 0, which is cheaper than a branch. Calls that
// are not inlined would be removed, since fetching has no effect that a compiler knows of.
template <int kCache>
HWY_INLINE void FetchBits(const uint8_t* bits, size_t distance) {
#if defined(__GNUC__)
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(bits) + distance), 0,
                     4 - kCache);
#endif
}

// scale(token) of a segment.
inline float TokenScale(const SegmentArgs& args, size_t token) {
  return args.scale[token * (args.token_stride / sizeof(float))];
}

// acc[r] += scale * float(sums[r]) for a tile's 16 rows.
inline void AccumulateTile(const int32_t* sums, float scale, float* acc) {
  for (size_t r = 0; r < 16; ++r) acc[r] += scale * static_cast<float>(sums[r]);
}

// A packed byte's five trits as bits of a plus and a minus plane (bit i = trit i). A byte is
// low + 28 high with low = t0 + 3 t1 + 9 t2 (t = trit + 1) and high = t3 + 3 t4. One with low = 27
// is not legal and reads its first three trits as zeros, here as in the tables; likewise with high
// = 9 the last two.
inline void UnpackTrits(uint8_t byte, uint8_t* plus, uint8_t* minus) {
  unsigned low = byte % 28u, high = byte / 28u;
  if (low > 26) low = 13;
  if (high > 8) high = 4;
  const unsigned digits[5] = {low % 3, low / 3 % 3, low / 9, high % 3, high / 3};
  *plus = *minus = 0;
  for (unsigned i = 0; i < 5; ++i) {
    *plus = static_cast<uint8_t>(*plus | unsigned{digits[i] == 2} << i);
    *minus = static_cast<uint8_t>(*minus | unsigned{digits[i] == 0} << i);
  }
}

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_STREAM_KERNELS_H_
