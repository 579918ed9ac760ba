// Segment products of many tokens on the tile unit (AMX-INT8): the integers of the look-ups.
//
// A nibble chooses one of 16 entries, and entry 15 - e is minus entry e. So what it chooses is the
// product of the eight entries from 8 on with a vector of seven zeros and one +1 or -1. Such
// vectors of a group (four bytes, eight nibbles, of 16 rows) are a right factor of 64 depths by 16
// rows, the entries of 16 tokens a left one of 16 by 64. One product in eight counts, and yet the
// unit, with its 1024 products per cycle, adds samples twice as fast as permutes do.
#include "kernels/stream_kernels.h"

#if defined(__x86_64__)

// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <algorithm>
#include <atomic>

#include "kernels/stream_layout.h"
#include "kernels/table_layout.h"
#include "kernels/tile_session.h"

#define SDQ_AMX_ATTR __attribute__((target("avx512f,avx512bw,avx512vbmi,amx-tile,amx-int8")))
#define SDQ_AMX_INLINE SDQ_AMX_ATTR __attribute__((always_inline)) inline

namespace sdq::kernels {
namespace {

constexpr size_t kTileTokens = 16;
constexpr size_t kTileDepth = 64;  // of a group: 8 nibbles by 8 entries
constexpr size_t kTileBytes = kTileDepth * kTileRows;
// A group's vectors are made two groups ahead of their use, so that they have left the store buffer
// by then, into a ring that stays in the first cache.
constexpr size_t kAhead = 2;
constexpr size_t kRing = 4;

// The vectors of the nibbles 0 to 15, their first and their last four bytes.
struct OneHot {
  alignas(64) int32_t first[16], last[16];
  constexpr OneHot() : first{}, last{} {
    for (unsigned e = 0; e < 16; ++e) {
      const unsigned at = e < 8 ? 7 - e : e - 8;
      const uint32_t value = (e < 8 ? 0xffu : 1u) << 8 * (at % 4);
      (at < 4 ? first : last)[e] = static_cast<int32_t>(value);
    }
  }
};
constexpr OneHot kOneHot;

struct Constants {
  __m512i by_row;  // output byte 4 r + j = input byte 16 j + r
  __m512i first, last;
  float scale[kMostTileTokens];  // of the tokens, which are far apart in the tables
};

SDQ_AMX_INLINE Constants MakeConstants(const SegmentArgs& args) {
  alignas(64) uint8_t order[64];
  for (size_t i = 0; i < 64; ++i) order[i] = static_cast<uint8_t>(i % 4 * 16 + i / 4);
  Constants c{_mm512_load_si512(order),
              _mm512_load_si512(kOneHot.first),
              _mm512_load_si512(kOneHot.last),
              {}};
  for (size_t t = 0; t < args.tokens; ++t) c.scale[t] = TokenScale(args, t);
  return c;
}

// The vectors of nibble kNibble of the four bytes of 16 rows (a permute takes an index's low bits).
template <unsigned kNibble>
SDQ_AMX_INLINE void Expand(const Constants& c, __m512i rows, uint8_t* out) {
  const __m512i index = _mm512_srli_epi32(rows, 4 * kNibble);
  _mm512_store_si512(out + 128 * kNibble, _mm512_permutexvar_epi32(index, c.first));
  _mm512_store_si512(out + 128 * kNibble + 64, _mm512_permutexvar_epi32(index, c.last));
}

// The right factor of a group of a row tile.
SDQ_AMX_INLINE void ExpandGroup(const Constants& c, const uint8_t* bits, size_t fetch_ahead,
                                uint8_t* out) {
  FetchLine<2>(bits, fetch_ahead);
  const __m512i rows = _mm512_permutexvar_epi8(c.by_row, _mm512_loadu_si512(bits));
  Expand<0>(c, rows, out);
  Expand<1>(c, rows, out);
  Expand<2>(c, rows, out);
  Expand<3>(c, rows, out);
  Expand<4>(c, rows, out);
  Expand<5>(c, rows, out);
  Expand<6>(c, rows, out);
  Expand<7>(c, rows, out);
}

// The vectors of kRowTiles row tiles, group after group, step after step (the next kRowTiles).
template <size_t kRowTiles>
class Vectors {
 public:
  SDQ_AMX_INLINE Vectors(const SegmentArgs& args, size_t tile, size_t steps)
      : args_(args), bits_(args.bits + tile * args.tile_stride), steps_(steps) {}

  // Those that Make() made as number n, until it has made kRing more.
  SDQ_AMX_INLINE const uint8_t* Of(size_t n, size_t row_tile) const {
    return ring_[n % kRing][row_tile];
  }
  SDQ_AMX_INLINE void Make(const Constants& c, size_t n, size_t row_tile) {
    ExpandGroup(c, bits_ + row_tile * args_.tile_stride + group_ * 64, args_.fetch_ahead,
                ring_[n % kRing][row_tile]);
  }
  // To the next group; behind the last one, to those of the last step again.
  SDQ_AMX_INLINE void Advance() {
    if (++group_ < Groups(args_.bytes)) return;
    group_ = 0;
    if (++step_ < steps_) bits_ += kRowTiles * args_.tile_stride;
  }

 private:
  alignas(64) uint8_t ring_[kRing][kRowTiles][kTileBytes];
  const SegmentArgs& args_;
  const uint8_t* bits_;
  size_t steps_, step_ = 0, group_ = 0;
};

// Sums of all tokens by kRowTiles row tiles. A second token tile ends with the last token, and may
// share tokens with the first one.
template <size_t kTokenTiles, size_t kRowTiles>
struct Sums {
  alignas(64) int32_t of[kTokenTiles][kRowTiles][kTileTokens][kTileRows];
};

// acc += scale * sum for the tokens [begin, end) and the row tiles from `tile` on.
template <size_t kTokenTiles, size_t kRowTiles>
SDQ_AMX_INLINE void Emit(const Constants& c, const SegmentArgs& args,
                         const Sums<kTokenTiles, kRowTiles>& sums, size_t tile, size_t begin,
                         size_t end) {
  for (size_t token = begin; token < end; ++token) {
    const bool second = token >= kTileTokens;
    const size_t row = second ? token + kTileTokens - args.tokens : token;
    const __m512 scale = _mm512_set1_ps(c.scale[token]);
    float* acc = args.acc + token * args.acc_stride + tile * kTileRows;
    for (size_t r = 0; r < kRowTiles; ++r, acc += kTileRows) {
      const __m512i sum = _mm512_load_si512(sums.of[second ? kTokenTiles - 1 : 0][r][row]);
      const __m512 product = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sum));
      _mm512_storeu_ps(acc, _mm512_add_ps(_mm512_loadu_ps(acc), product));
    }
  }
}

// All tokens by `steps` times kRowTiles row tiles from `tile` on. While the unit works on a group,
// the vectors of a later one are made, and a part of what the last step left is emitted: the order
// of the loop is what keeps the unit busy. Tile registers: 0 to 3 sums, 4, 5 tokens, 6, 7 rows.
template <size_t kTokenTiles, size_t kRowTiles>
SDQ_AMX_INLINE void Multiply(const Constants& c, const SegmentArgs& args, size_t tile,
                             size_t steps) {
  Vectors<kRowTiles> vectors(args, tile, steps);
  Sums<kTokenTiles, kRowTiles> sums[2];  // of this step and of the last one
  const size_t groups = Groups(args.bytes);
  const size_t share = (args.tokens + groups - 1) / groups;  // tokens to be emitted with a group
  const uint8_t* second_tables = args.tables + (args.tokens - kTileTokens) * args.token_stride;
  for (size_t n = 0; n < kAhead; ++n, vectors.Advance()) {
    for (size_t r = 0; r < kRowTiles; ++r) vectors.Make(c, n, r);
  }
  size_t used = 0;
  for (size_t step = 0; step < steps; ++step) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t g = 0; g < groups; ++g, ++used) {
      // The intrinsics do not tell the compiler that they read memory.
      std::atomic_signal_fence(std::memory_order_seq_cst);
      _tile_loadd(4, args.tables + g * kTileDepth, args.token_stride);
      _tile_loadd(6, vectors.Of(used, 0), kTileDepth);
      _tile_dpbssd(0, 4, 6);
      vectors.Make(c, used + kAhead, 0);
      if constexpr (kRowTiles == 2) {
        _tile_loadd(7, vectors.Of(used, 1), kTileDepth);
        _tile_dpbssd(1, 4, 7);
      }
      if constexpr (kTokenTiles == 2) {
        _tile_loadd(5, second_tables + g * kTileDepth, args.token_stride);
        _tile_dpbssd(2, 5, 6);
      }
      if constexpr (kRowTiles == 2) vectors.Make(c, used + kAhead, 1);
      if constexpr (kTokenTiles == 2 && kRowTiles == 2) _tile_dpbssd(3, 5, 7);
      vectors.Advance();
      if (step > 0) {
        Emit(c, args, sums[(step - 1) % 2], tile + (step - 1) * kRowTiles, g * share,
             std::min((g + 1) * share, args.tokens));
      }
    }
    auto& of = sums[step % 2].of;
    _tile_stored(0, of[0][0], kTileDepth);
    if constexpr (kRowTiles == 2) _tile_stored(1, of[0][1], kTileDepth);
    if constexpr (kTokenTiles == 2) _tile_stored(2, of[1][0], kTileDepth);
    if constexpr (kTokenTiles == 2 && kRowTiles == 2) _tile_stored(3, of[1][1], kTileDepth);
  }
  Emit(c, args, sums[(steps - 1) % 2], tile + (steps - 1) * kRowTiles, 0, args.tokens);
}

template <size_t kTokenTiles>
SDQ_AMX_INLINE void MultiplyTiles(const SegmentArgs& args) {
  const Constants c = MakeConstants(args);
  const size_t pairs = args.tiles / 2;
  if (pairs > 0) Multiply<kTokenTiles, 2>(c, args, 0, pairs);
  if (args.tiles % 2 != 0) Multiply<kTokenTiles, 1>(c, args, args.tiles - 1, 1);
}

SDQ_AMX_ATTR void NibbleSegment(const SegmentArgs& args) {
  const TileSession session;
  if (args.tokens > kTileTokens) {
    MultiplyTiles<2>(args);
  } else {
    MultiplyTiles<1>(args);
  }
}

// Of each group, the entries from 8 on of the low and the high nibble of its bytes in turn, without
// their bias: 64 bytes per group, where a segment's tables began.
SDQ_AMX_ATTR void ArrangeNibbles(size_t groups, uint8_t* tables) {
  const __m512i halves = _mm512_setr_epi64(1, 9, 3, 11, 5, 13, 7, 15);
  const __m512i bias = _mm512_set1_epi8(char(-128));
  for (size_t g = 0; g < groups; ++g) {
    const uint8_t* from = tables + g * kNibbleGroupBytes;
    const __m512i entries =
        _mm512_permutex2var_epi64(_mm512_loadu_si512(from), halves, _mm512_loadu_si512(from + 64));
    _mm512_storeu_si512(tables + g * kTileDepth, _mm512_xor_si512(entries, bias));
  }
}

}  // namespace

SegmentKernel AmxNibbles() { return NibbleSegment; }
TableArrangement AmxArrangeNibbles() { return ArrangeNibbles; }

}  // namespace sdq::kernels

#endif  // defined(__x86_64__)
