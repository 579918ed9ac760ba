// Products of one segment of the bitstream: what each instruction set implements.
#ifndef SDQ_KERNELS_STREAM_KERNELS_H_
#define SDQ_KERNELS_STREAM_KERNELS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/derived_maps.h"
#include "kernels/fetch.h"
#include "kernels/stream_layout.h"
#include "kernels/table_form.h"

namespace sdq::kernels {

// What a kernel fetches while it reads groups of four bytes of some tiles, as distances from what
// it reads (fetch.h): SteadyGroups() groups long the Steady() one of each tile, then, if it
// kChanges, the one that Of() tells.

// The same for all tiles, into the second cache.
struct FetchAhead {
  static constexpr int kCache = 2;
  static constexpr bool kChanges = false;
  size_t distance = 0;

  size_t SteadyGroups() const { return SIZE_MAX; }
  size_t Steady(size_t /*tile*/) const { return distance; }
  size_t Of(size_t /*group*/, size_t /*tile*/) const { return distance; }
};

// Into the first cache, always as far ahead, so that memory is never asked for much at once. In
// each tile at another place of a page, lest all enter a new page together: hardware prefetchers
// start anew there. Behind a tile's end: in what the thread reads next.
template <size_t kTiles>
struct FetchTiles {
  static constexpr int kCache = 1;
  static constexpr bool kChanges = true;
  // Bytes, for the first tile and by how much more for each other one. Measured, with kernels that
  // read four tiles together, and two.
  static constexpr size_t kFarthest = kTiles == 4 ? 3072 : 2048;
  static constexpr size_t kStep = kTiles == 4 ? 256 : 1024;
  size_t ahead = kFarthest;
  size_t change = SIZE_MAX;  // the group of the first tile from which on it is behind the end
  // From there to the same place behind the end of what the thread reads next: of the first tile,
  // and by how much more of each other one.
  size_t jump = 0, jump_step = 0;
  size_t mask = 0;  // all bits; 0 = there is nothing next

  size_t Steady(size_t tile) const { return ahead + tile * kStep; }
  // Groups by which a tile's change comes before the first one's.
  static constexpr size_t Lead(size_t tile) { return tile * kStep / 64; }

  size_t SteadyGroups() const { return change - std::min(change, Lead(kTiles - 1)); }
  size_t Of(size_t group, size_t tile) const {
    if (group + Lead(tile) < change) return Steady(tile);
    return (Steady(tile) + jump + tile * jump_step) & mask;
  }
};

// One plane of a segment, of some tiles, and what is fetched while it is read.
template <class Fetch>
struct SegmentPlane {
  const uint8_t* bits;    // of the first tile
  size_t tile_stride;     // bytes
  size_t bytes;           // per row
  const uint8_t* tables;  // of the first token
  Fetch fetch;
  size_t token_stride = 0;  // bytes from a token's tables to the next one's
};

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

  // The tiles from `tile` on.
  SegmentArgs From(size_t tile) const {
    SegmentArgs rest = *this;
    rest.bits += tile * tile_stride;
    rest.acc += tile * kTileRows;
    rest.tiles -= tile;
    return rest;
  }
  // Of the tiles from `tile` on, for the tokens from `token` on; token 0 fetches.
  HWY_INLINE SegmentPlane<FetchAhead> PlaneOf(size_t tile, size_t token) const {
    return {bits + tile * tile_stride,      tile_stride, bytes, tables + token * token_stride,
            {token == 0 ? fetch_ahead : 0}, token_stride};
  }
};

using SegmentKernel = void (*)(const SegmentArgs& args);

// The bytes of a segment's derived samples, from the stored bytes and those before them.
struct DeriveArgs {
  const uint8_t* bits = nullptr;  // of the first tile; 16 bytes before them are readable if !first
  size_t tile_stride = 0;         // bytes
  size_t bytes = 0;               // per row
  size_t tiles = 0;
  bool first = false;  // the row begins here: what would come before counts as zero bits
  const DerivedMaps* maps = nullptr;
  uint8_t* out = nullptr;  // tiles, out_stride apart
  size_t out_stride = 0;
};

using DeriveKernel = void (*)(const DeriveArgs& args);

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
  const DerivedMaps* derived = nullptr;   // of the derived samples, if there are any
  size_t tiles = 0;
  float* acc = nullptr;
  // The first of the tiles that the thread reads after these, and their distance; null = none.
  const uint8_t* next_bits = nullptr;
  size_t next_stride = 0;

  // Segment s of the tiles from `tile` on.
  template <size_t kTiles>
  HWY_INLINE SegmentPlane<FetchTiles<kTiles>> PlaneOf(size_t tile, size_t s) const {
    const Segment& segment = segments[s];
    return {bits + tile * tile_stride + segment.first_byte * kTileRows, tile_stride, segment.bytes,
            tables + table_offsets[s], Fetch<kTiles>(tile, s)};
  }
  template <size_t kTiles>
  HWY_INLINE FetchTiles<kTiles> Fetch(size_t tile, size_t s) const {
    FetchTiles<kTiles> fetch;
    const size_t plane_bytes = row_bytes * kTileRows;
    fetch.ahead = std::min(fetch.kFarthest, plane_bytes);
    const size_t to_next =
        reinterpret_cast<uintptr_t>(next_bits) - reinterpret_cast<uintptr_t>(bits);
    fetch.jump_step = next_stride - tile_stride;
    fetch.jump = to_next - plane_bytes + tile * fetch.jump_step;
    if ((fetch.jump | fetch.jump_step) == 0) return fetch;  // every tile goes on in what is next
    const size_t left = plane_bytes - segments[s].first_byte * kTileRows;
    fetch.change = (left - std::min(left, fetch.ahead) + 63) / 64;
    fetch.mask = next_bits != nullptr ? SIZE_MAX : 0;
    return fetch;
  }
};

using TokenKernel = void (*)(const TokenArgs& args);

// How many tiles it reads together, at most kMostTokenTiles.
struct TokenProduct {
  TokenKernel kernel = nullptr;
  size_t tiles = 0;
};

// From the order of a segment's tables in kernels/README.md to a kernel's own, in place.
using TableArrangement = void (*)(size_t groups, uint8_t* tables);

struct StreamKernels {
  SegmentKernel nibbles;         // tables, binary or two planes
  SegmentKernel trits;           // tables, packed trits
  SegmentKernel popcount;        // bit-planes, binary or two planes
  SegmentKernel popcount_trits;  // bit-planes, packed trits
  DeriveKernel derive;           // binary
  // The same tables. No kernels: segment by segment, deriving what is derived.
  TokenProduct nibble_token = {};
  TokenProduct trit_token = {};
  TokenProduct derived_token = {};                               // binary with derived samples
  TokenProduct nibble_token_gfni = {}, derived_token_gfni = {};  // AVX2: the same with GFNI
  // How many tokens `nibbles` and `trits` should get at once, at most kMostSegmentTokens: their
  // tables of a segment should leave room in the second cache.
  size_t most_tokens = 32;
  // What `trits` expects of its tables; null: nothing.
  TableArrangement arrange_trits = nullptr;
  // Tables, binary, kLeastTileTokens to kMostTileTokens tokens, on a unit that multiplies tiles;
  // and what it expects of the tables. Null: there is none.
  SegmentKernel tile_nibbles = nullptr;
  TableArrangement arrange_tile_nibbles = nullptr;
};

inline constexpr size_t kLeastTileTokens = 16, kMostTileTokens = 32;
inline constexpr size_t kMostSegmentTokens = 64;
inline constexpr size_t kMostTokenTiles = 4;

// Of the target in use.
StreamKernels ActiveStreamKernels();

// How that target multiplies tables of this form, what this expects of them (or null), and of how
// many tokens at once.
struct TableProduct {
  SegmentKernel kernel;
  TableArrangement arrange;
  size_t most_tokens;
};
TableProduct TableProductOf(Packing packing, size_t tokens, TableForm form);
// How it multiplies one token's look-up tables; there may be no kernel.
TokenProduct TokenProductOf(Packing packing, bool derived);

// Table kernels with AVX-512 VBMI and VNNI (stream_kernels_vbmi.cc, derived_kernels_vbmi.cc);
// x86-64 only.
SegmentKernel VbmiNibbles();
SegmentKernel VbmiTrits();
TableArrangement VbmiArrangeTrits();
// None without GFNI, which the first processors with VBMI lack.
DeriveKernel VbmiDerive();
TokenProduct VbmiDerivedToken();
TokenProduct VbmiNibbleToken();
TokenProduct VbmiTritToken();

// On the tile unit (stream_kernels_amx.cc); needs TileUnitGranted(), x86-64 only.
SegmentKernel AmxNibbles();
TableArrangement AmxArrangeNibbles();

// ---- Shared by the implementations ----

// scale(token) of a segment.
inline float TokenScale(const SegmentArgs& args, size_t token) {
  return args.scale[token * (args.token_stride / sizeof(float))];
}

// Of sums of biased entries, over some groups of four bytes with two entries each.
inline int32_t SumBias(size_t groups) { return -static_cast<int32_t>(groups * 4 * 2 * 128); }

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
