// Int8 products with AVX-512 VBMI and VNNI, which Highway 1.0.3 does not reach.
//
// Weights: a byte permute makes 4 stream bytes of 16 rows into 16 dwords; one multi-shift per chunk
// brings the chunks of four weights into a dword's four bytes, which index 64 bytes of tables in
// one permute. The result is what a dot product with four broadcast activations takes as it is.
#include "kernels/int8_kernels.h"

#if defined(__x86_64__)

// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/transform_kernels.h"

#define SDQ_VNNI_ATTR __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))
#define SDQ_VNNI_INLINE SDQ_VNNI_ATTR __attribute__((always_inline)) inline

namespace sdq::kernels {
namespace {

constexpr int kAndOr = 0xEA;  // (x & mask) | pattern

SDQ_VNNI_INLINE __m512i RowOrder() {
  alignas(64) uint8_t order[64];
  for (size_t i = 0; i < 64; ++i) order[i] = static_cast<uint8_t>(i % 4 * 16 + i / 4);
  return _mm512_load_si512(order);
}

// Groups [begin, end), counted from args.first_group, of all tiles. All of one shape.
template <size_t kChunks>
SDQ_VNNI_ATTR void GroupWeights(const Int8WeightsArgs& args, const Int8Plan::Shape& shape,
                                size_t begin, size_t end, __m512i* sums) {
  const __m512i by_row = RowOrder();
  const __m512i mask = _mm512_set1_epi32(static_cast<int>(shape.mask));
  const __m512i pattern = _mm512_set1_epi32(static_cast<int>(shape.pattern));
  const __m512i ones = _mm512_set1_epi8(1);
  Int8Plan::Cursor cursor(*args.plan, args.first_group + begin);
  for (size_t g = begin; g < end; ++g, cursor.Next()) {
    const Int8Plan::Group group = cursor.group();
    __m512i tables[kChunks], first_bits[kChunks];
    for (size_t c = 0; c < kChunks; ++c) {
      tables[c] = _mm512_loadu_si512(group.tables + c * Int8Plan::kTableBytes);
      first_bits[c] = _mm512_set1_epi64(static_cast<int64_t>(group.first_bit[c]));
    }
    for (size_t tile = 0; tile < args.tiles; ++tile) {
      const uint8_t* bits = args.bits + tile * args.tile_stride + size_t(group.byte) * kTileRows;
      const __m512i rows = _mm512_permutexvar_epi8(by_row, _mm512_loadu_si512(bits));
      __m512i weight = _mm512_setzero_si512();
      for (size_t c = 0; c < kChunks; ++c) {
        const __m512i chunk = _mm512_multishift_epi64_epi8(first_bits[c], rows);
        const __m512i index = _mm512_ternarylogic_epi32(chunk, mask, pattern, kAndOr);
        weight = _mm512_add_epi8(weight, _mm512_permutexvar_epi8(index, tables[c]));
      }
      sums[tile] = _mm512_dpbusd_epi32(sums[tile], ones, weight);
      _mm512_store_si512(args.weights + (tile * args.padded_groups + g) * kInt8GroupBytes, weight);
    }
  }
}

SDQ_VNNI_ATTR void RunGroups(const Int8WeightsArgs& args, size_t begin, size_t end, __m512i* sums) {
  if (begin >= end) return;
  const Int8Plan::Shape& shape = args.plan->ShapeOf(args.first_group + begin);
  switch (shape.chunks) {
    case 1:
      return GroupWeights<1>(args, shape, begin, end, sums);
    case 2:
      return GroupWeights<2>(args, shape, begin, end, sums);
    default:
      return GroupWeights<Int8Plan::kMostChunks>(args, shape, begin, end, sums);
  }
}

SDQ_VNNI_ATTR void Weights(const Int8WeightsArgs& args) {
  __m512i sums[kInt8Tiles];
  for (size_t tile = 0; tile < args.tiles; ++tile) sums[tile] = _mm512_setzero_si512();
  const size_t edge_end = std::max(args.plan->edge_groups(), args.first_group) - args.first_group;
  const size_t edge = std::min(edge_end, args.groups);
  RunGroups(args, 0, edge, sums);
  RunGroups(args, edge, args.groups, sums);
  for (size_t tile = 0; tile < args.tiles; ++tile) {
    std::memset(args.weights + (tile * args.padded_groups + args.groups) * kInt8GroupBytes, 0,
                (args.padded_groups - args.groups) * kInt8GroupBytes);
    const __m512i bias = _mm512_mullo_epi32(sums[tile], _mm512_set1_epi32(-128));
    _mm512_storeu_si512(args.bias + tile * kTileRows, bias);
  }
}

// sum += dot products of four unsigned values and four signed weights. As an instruction by hand:
// GCC 12 takes the intrinsic's sum for another register than its result, and with 24 sums spills.
SDQ_VNNI_INLINE void AddDots(__m512i& sum, __m512i values, __m512i weights) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(values), "v"(weights));
}

// kTiles x kTokens sums of 16 rows in registers.
template <size_t kTiles, size_t kTokens>
SDQ_VNNI_INLINE void MultiplyTokens(const Int8MultiplyArgs& args, size_t tile, size_t token) {
  const size_t stride = args.groups * Int8Plan::kGroup;
  const uint8_t* x = args.x + token * stride;
  const int8_t* w = args.weights + tile * args.groups * kInt8GroupBytes;
  __m512i sums[kTiles][kTokens];
#pragma GCC unroll 4
  for (size_t i = 0; i < kTiles; ++i) {
    const __m512i bias = _mm512_loadu_si512(args.bias + (tile + i) * kTileRows);
#pragma GCC unroll 12
    for (size_t t = 0; t < kTokens; ++t) sums[i][t] = bias;
  }
  for (size_t g = 0; g < args.groups; ++g) {
    __m512i weights[kTiles];
#pragma GCC unroll 4
    for (size_t i = 0; i < kTiles; ++i) {
      weights[i] = _mm512_load_si512(w + (i * args.groups + g) * kInt8GroupBytes);
    }
#pragma GCC unroll 12
    for (size_t t = 0; t < kTokens; ++t) {
      int32_t four;
      std::memcpy(&four, x + t * stride + 4 * g, sizeof(four));
      const __m512i values = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (size_t i = 0; i < kTiles; ++i) {
        AddDots(sums[i][t], values, weights[i]);
      }
    }
  }
#pragma GCC unroll 12
  for (size_t t = 0; t < kTokens; ++t) {
    const __m512 scale = _mm512_set1_ps(args.scale[token + t]);
#pragma GCC unroll 4
    for (size_t i = 0; i < kTiles; ++i) {
      float* acc = args.acc + (token + t) * kInt8Rows + (tile + i) * kTileRows;
      __m512 sum = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sums[i][t]));
      if (args.add) sum = _mm512_add_ps(_mm512_load_ps(acc), sum);
      _mm512_store_ps(acc, sum);
    }
  }
}

template <size_t kTiles>
SDQ_VNNI_ATTR void MultiplyTiles(const Int8MultiplyArgs& args, size_t tile) {
  size_t token = 0;
  for (; token + 6 <= args.tokens; token += 6) MultiplyTokens<kTiles, 6>(args, tile, token);
  if (token + 4 <= args.tokens) {
    MultiplyTokens<kTiles, 4>(args, tile, token);
    token += 4;
  }
  for (; token < args.tokens; ++token) MultiplyTokens<kTiles, 1>(args, tile, token);
}

SDQ_VNNI_ATTR void Multiply(const Int8MultiplyArgs& args) {
  if (args.tiles == kInt8Tiles) return MultiplyTiles<kInt8Tiles>(args, 0);
  for (size_t tile = 0; tile < args.tiles; ++tile) MultiplyTiles<1>(args, tile);
}

// Lanes that hold values, of 16 with `left` to go.
SDQ_VNNI_INLINE __mmask16 Lanes(size_t left) {
  return static_cast<__mmask16>(left >= 16 ? 0xffffu : (1u << left) - 1);
}

SDQ_VNNI_ATTR uint32_t Largest(const float* v, size_t n) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
  for (size_t i = 0; i < n; i += 16) {
    const __m512i x = _mm512_maskz_loadu_epi32(Lanes(n - i), v + i);
    largest = _mm512_max_epu32(largest, _mm512_and_si512(x, magnitude));
  }
  alignas(64) uint32_t lanes[16];
  _mm512_store_si512(lanes, largest);
  return *std::max_element(lanes, lanes + 16);
}

SDQ_VNNI_ATTR void Round(const float* v, size_t n, float inverse, uint8_t* out) {
  const __m512 factor = _mm512_set1_ps(inverse), round = _mm512_set1_ps(kRoundAndBias);
  for (size_t i = 0; i < n; i += 16) {
    const __m512 x = _mm512_maskz_loadu_ps(Lanes(n - i), v + i);
    const __m512 rounded = _mm512_add_ps(_mm512_mul_ps(x, factor), round);
    _mm512_mask_cvtepi32_storeu_epi8(out + i, Lanes(n - i), _mm512_castps_si512(rounded));
  }
}

}  // namespace

const Int8Kernels& VnniInt8Kernels() {
  static constexpr Int8Kernels kernels = {"VNNI", Weights, Multiply, Largest, Round};
  return kernels;
}

}  // namespace sdq::kernels

#endif  // defined(__x86_64__)
