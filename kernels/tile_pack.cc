#include "kernels/tile_pack.h"

#if defined(__x86_64__) && defined(__linux__)

// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <algorithm>

#define SDQ_TILE_ATTR \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")))
#define SDQ_TILE_INLINE SDQ_TILE_ATTR __attribute__((always_inline)) inline

namespace sdq::kernels::tiles {
namespace {

constexpr int kTileBytes = 64;  // of a row

SDQ_TILE_INLINE __mmask16 FirstLanes(size_t count) {
  return count >= 16 ? __mmask16(0xffff) : __mmask16((1u << count) - 1u);
}

// 32 values of a row that has `count` left, rounded.
SDQ_TILE_INLINE __m512i LoadRounded(const float* p, size_t count) {
  const __m512 low = _mm512_maskz_loadu_ps(FirstLanes(count), p);
  const __m512 high =
      count > 16 ? _mm512_maskz_loadu_ps(FirstLanes(count - 16), p + 16) : _mm512_setzero_ps();
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

SDQ_TILE_INLINE __m512i LoadRoundedHalf(const uint16_t* p, bool f16, size_t count) {
  const __mmask32 mask = count >= 32 ? __mmask32(0xffffffffu) : __mmask32((1u << count) - 1u);
  const __m512i raw = _mm512_maskz_loadu_epi16(mask, p);
  if (!f16) return raw;
  const __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(raw));
  const __m512 high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(raw, 1));
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// Lanes of a and b alternate: a0 b0 a1 b1 ... in 32-bit (64-bit) units of each 128 bits.
SDQ_TILE_INLINE void Zip32(__m512i& a, __m512i& b) {
  const __m512i low = _mm512_unpacklo_epi32(a, b);
  b = _mm512_unpackhi_epi32(a, b);
  a = low;
}
SDQ_TILE_INLINE void Zip64(__m512i& a, __m512i& b) {
  const __m512i low = _mm512_unpacklo_epi64(a, b);
  b = _mm512_unpackhi_epi64(a, b);
  a = low;
}

// 16 x 16 transposition of 32-bit units.
SDQ_TILE_INLINE void Transpose(__m512i (&v)[16]) {
  // After both steps v[4 q + c] holds, per 128-bit block b, column 4 b + order[c] of rows 4 q ...
#pragma GCC unroll 16
  for (size_t q = 0; q < 16; q += 4) {
    Zip32(v[q], v[q + 1]);
    Zip32(v[q + 2], v[q + 3]);
    Zip64(v[q], v[q + 2]);      // columns 4 b, 4 b + 1
    Zip64(v[q + 1], v[q + 3]);  // columns 4 b + 2, 4 b + 3
  }
  constexpr size_t kPlace[4] = {0, 2, 1, 3};  // v[4 q + kPlace[c]] holds columns 4 b + c
  __m512i out[16];
#pragma GCC unroll 16
  for (size_t c = 0; c < 4; ++c) {
    const size_t p = kPlace[c];
    const __m512i ab_even = _mm512_shuffle_i32x4(v[p], v[4 + p], 0x88);  // blocks 0, 2
    const __m512i ab_odd = _mm512_shuffle_i32x4(v[p], v[4 + p], 0xdd);   // blocks 1, 3
    const __m512i cd_even = _mm512_shuffle_i32x4(v[8 + p], v[12 + p], 0x88);
    const __m512i cd_odd = _mm512_shuffle_i32x4(v[8 + p], v[12 + p], 0xdd);
    out[c] = _mm512_shuffle_i32x4(ab_even, cd_even, 0x88);
    out[4 + c] = _mm512_shuffle_i32x4(ab_odd, cd_odd, 0x88);
    out[8 + c] = _mm512_shuffle_i32x4(ab_even, cd_even, 0xdd);
    out[12 + c] = _mm512_shuffle_i32x4(ab_odd, cd_odd, 0xdd);
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; ++i) v[i] = out[i];
}

SDQ_TILE_INLINE void TransposeTile(Bf16* tile) {
  __m512i v[16];
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; ++i) v[i] = _mm512_load_si512(tile + 32 * i);
  Transpose(v);
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; ++i) _mm512_store_si512(tile + 32 * i, v[i]);
}

// Where value k of row r lies within a panel: step k / 32, tile r / 16.
SDQ_TILE_INLINE Bf16* RowOf(Bf16* panel, size_t step, size_t r) {
  return panel + step * kPairValues + r * kStepDepth;
}

}  // namespace

SDQ_TILE_ATTR void PackRows(const Source& from, size_t count, size_t depth, Bf16* to) {
  for (size_t k = 0, step = 0; k < depth; k += kStepDepth, ++step) {
    for (size_t r = 0; r < kPairColumns; ++r) {
      const __m512i v = r < count ? LoadRounded(from.data + r * from.stride + k, depth - k)
                                  : _mm512_setzero_si512();
      _mm512_store_si512(RowOf(to, step, r), v);
    }
  }
}

SDQ_TILE_ATTR void PackHalfRows(const uint16_t* from, bool f16, size_t stride, size_t count,
                                size_t depth, Bf16* to) {
  for (size_t k = 0, step = 0; k < depth; k += kStepDepth, ++step) {
    for (size_t r = 0; r < kPairColumns; ++r) {
      const __m512i v = r < count ? LoadRoundedHalf(from + r * stride + k, f16, depth - k)
                                  : _mm512_setzero_si512();
      _mm512_store_si512(RowOf(to, step, r), v);
    }
  }
}

SDQ_TILE_ATTR void PackColumns(const Source& from, size_t count, size_t depth, Bf16* to) {
  alignas(64) uint16_t order[32];  // the values of two rows in turn
  for (size_t i = 0; i < 32; ++i) order[i] = uint16_t(i / 2 + i % 2 * 16);
  const __m512i alternate = _mm512_load_si512(order);
  for (size_t k = 0; k < (depth + kStepDepth - 1) / kStepDepth * kStepDepth; k += 2) {
    for (size_t half = 0; half < 2; ++half) {
      const __mmask16 mask = count > 16 * half ? FirstLanes(count - 16 * half) : __mmask16(0);
      const float* p = from.data + k * from.stride + 16 * half;
      const __m512 even = _mm512_maskz_loadu_ps(k < depth ? mask : __mmask16(0), p);
      const __m512 odd =
          _mm512_maskz_loadu_ps(k + 1 < depth ? mask : __mmask16(0), p + from.stride);
      const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
      _mm512_store_si512(RowOf(to, k / kStepDepth, 16 * half + k % kStepDepth / 2),
                         _mm512_permutexvar_epi16(alternate, both));
    }
  }
}

SDQ_TILE_ATTR void TransposeTiles(size_t depth, Bf16* panel) {
  const size_t steps = (depth + kStepDepth - 1) / kStepDepth;
  for (size_t i = 0; i < 2 * steps; ++i) TransposeTile(panel + i * kTileValues);
}

SDQ_TILE_ATTR void Multiply(const Bf16* left, const Bf16* right, size_t steps, Sums* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (size_t step = 0; step < steps; ++step, left += kPairValues, right += kPairValues) {
    _tile_loadd(4, left, kTileBytes);
    _tile_loadd(6, right, kTileBytes);
    _tile_loadd(5, left + kTileValues, kTileBytes);
    _tile_loadd(7, right + kTileValues, kTileBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums->values[0][0], kTileBytes);
  _tile_stored(1, sums->values[0][1], kTileBytes);
  _tile_stored(2, sums->values[1][0], kTileBytes);
  _tile_stored(3, sums->values[1][1], kTileBytes);
}

SDQ_TILE_ATTR void Store(const Sums& sums, Extent extent, bool accumulate, float* to,
                         size_t stride) {
  for (size_t i = 0; i < extent.rows; ++i) {
    for (size_t j = 0; j < extent.columns; j += 16) {
      const __mmask16 mask = FirstLanes(extent.columns - j);
      float* p = to + i * stride + j;
      __m512 v = _mm512_load_ps(sums.values[i / 16][j / 16][i % 16]);
      if (accumulate) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, p));
      _mm512_mask_storeu_ps(p, mask, v);
    }
  }
}

SDQ_TILE_ATTR void StoreTransposed(const Sums& sums, Extent extent, const float* bias, float* to,
                                   size_t stride) {
  for (size_t i = 0; i < extent.rows; i += 16) {
    const __mmask16 mask = FirstLanes(extent.rows - i);
    const __m512 shift =
        bias != nullptr ? _mm512_maskz_loadu_ps(mask, bias + i) : _mm512_setzero_ps();
    for (size_t j = 0; j < extent.columns; j += 16) {
      __m512i v[16];
#pragma GCC unroll 16
      for (size_t r = 0; r < 16; ++r) {
        v[r] = _mm512_load_si512(sums.values[i / 16][j / 16][r]);
      }
      Transpose(v);
      const size_t count = std::min<size_t>(16, extent.columns - j);
#pragma GCC unroll 16
      for (size_t c = 0; c < 16; ++c) {
        if (c >= count) break;
        _mm512_mask_storeu_ps(to + (j + c) * stride + i, mask,
                              _mm512_add_ps(_mm512_castsi512_ps(v[c]), shift));
      }
    }
  }
}

SDQ_TILE_ATTR void AddToDoubles(const Sums& sums, Extent extent, bool upper, double* to,
                                size_t stride) {
  for (size_t i = 0; i < extent.rows; ++i) {
    const __mmask32 all = extent.columns >= 32 ? 0xffffffffu : (1u << extent.columns) - 1u;
    const __mmask32 wanted = upper ? all & (0xffffffffu << i) : all;
    for (size_t j = 0; j < 32; j += 8) {
      const auto mask = __mmask8(wanted >> j);
      if (mask == 0) continue;
      double* p = to + i * stride + j;
      const __m256 sum = _mm256_load_ps(&sums.values[i / 16][j / 16][i % 16][j % 16]);
      _mm512_mask_storeu_pd(p, mask,
                            _mm512_add_pd(_mm512_maskz_loadu_pd(mask, p), _mm512_cvtps_pd(sum)));
    }
  }
}

}  // namespace sdq::kernels::tiles

#endif
