// Int8 products on the tile unit of recent x86 processors (AMX-INT8).
//
// A dword of the weights' layout is a dword of a right factor's tile: 16 groups of a row tile are
// one, as they lie; a left factor's tile is 64 columns of 16 tokens. Two by two tiles of sums stay
// in tile registers over the block's depth.
#include "kernels/int8_kernels.h"

#if defined(__x86_64__)

// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "kernels/tile_session.h"

#define SDQ_AMX_ATTR __attribute__((target("avx512f,amx-tile,amx-int8")))
#define SDQ_AMX_INLINE SDQ_AMX_ATTR __attribute__((always_inline)) inline

namespace sdq::kernels {
namespace {

constexpr size_t kTileTokens = 16;
constexpr size_t kTileDepth = 64;
constexpr size_t kTileBytes = kTileDepth * kTileRows;

// acc (+)= scale * (sums + bias) for 16 tokens and a row tile.
SDQ_AMX_INLINE void Emit(const Int8MultiplyArgs& args, const int32_t (*sums)[kTileRows],
                         size_t tile, size_t token) {
  const __m512i bias = _mm512_loadu_si512(args.bias + tile * kTileRows);
  for (size_t t = 0; t < kTileTokens; ++t) {
    const __m512 scale = _mm512_set1_ps(args.scale[token + t]);
    const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums[t]), bias);
    float* acc = args.acc + (token + t) * kInt8Rows + tile * kTileRows;
    __m512 product = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sum));
    if (args.add) product = _mm512_add_ps(_mm512_load_ps(acc), product);
    _mm512_store_ps(acc, product);
  }
}

// Tile registers: 0 to 3 sums, 4 and 5 tokens, 6 and 7 rows.
template <size_t kTokenTiles, size_t kRowTiles>
SDQ_AMX_INLINE void MultiplyTiles(const Int8MultiplyArgs& args, size_t tile, size_t token) {
  const size_t stride = args.groups * Int8Plan::kGroup, next_tokens = kTileTokens * stride;
  const uint8_t* x = args.x + token * stride;
  const int8_t* w = args.weights + tile * args.groups * kInt8GroupBytes;
  const int8_t* next_w = w + args.groups * kInt8GroupBytes;
  _tile_zero(0);
  if constexpr (kRowTiles == 2) _tile_zero(1);
  if constexpr (kTokenTiles == 2) _tile_zero(2);
  if constexpr (kTokenTiles == 2 && kRowTiles == 2) _tile_zero(3);
  for (size_t k = 0; k < stride; k += kTileDepth, w += kTileBytes, next_w += kTileBytes) {
    _tile_loadd(4, x + k, stride);
    _tile_loadd(6, w, kTileDepth);
    _tile_dpbusd(0, 4, 6);
    if constexpr (kRowTiles == 2) {
      _tile_loadd(7, next_w, kTileDepth);
      _tile_dpbusd(1, 4, 7);
    }
    if constexpr (kTokenTiles == 2) {
      _tile_loadd(5, x + next_tokens + k, stride);
      _tile_dpbusd(2, 5, 6);
    }
    if constexpr (kTokenTiles == 2 && kRowTiles == 2) _tile_dpbusd(3, 5, 7);
  }
  alignas(64) int32_t sums[4][kTileTokens][kTileRows];
  _tile_stored(0, sums[0], kTileDepth);
  if constexpr (kRowTiles == 2) _tile_stored(1, sums[1], kTileDepth);
  if constexpr (kTokenTiles == 2) _tile_stored(2, sums[2], kTileDepth);
  if constexpr (kTokenTiles == 2 && kRowTiles == 2) _tile_stored(3, sums[3], kTileDepth);
  for (size_t t = 0; t < kTokenTiles; ++t) {
    for (size_t r = 0; r < kRowTiles; ++r) {
      Emit(args, sums[2 * t + r], tile + r, token + kTileTokens * t);
    }
  }
}

template <size_t kTokenTiles>
SDQ_AMX_INLINE void MultiplyRows(const Int8MultiplyArgs& args, size_t token) {
  size_t tile = 0;
  for (; tile + 2 <= args.tiles; tile += 2) MultiplyTiles<kTokenTiles, 2>(args, tile, token);
  if (tile < args.tiles) MultiplyTiles<kTokenTiles, 1>(args, tile, token);
}

SDQ_AMX_ATTR void Multiply(const Int8MultiplyArgs& args) {
  const TileSession session;
  size_t token = 0;
  for (; token + kTileTokens < args.tokens; token += 2 * kTileTokens) MultiplyRows<2>(args, token);
  if (token < args.tokens) MultiplyRows<1>(args, token);
}

}  // namespace

const Int8Kernels& AmxInt8Kernels() {
  static const Int8Kernels kernels = [] {
    Int8Kernels with_tiles = VnniInt8Kernels();
    with_tiles.name = "AMX";
    with_tiles.multiply = Multiply;
    return with_tiles;
  }();
  return kernels;
}

}  // namespace sdq::kernels

#endif  // defined(__x86_64__)
