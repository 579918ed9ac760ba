// What kernels with AVX-512 VBMI and VNNI share, which Highway 1.0.3 does not reach.
//
// 64 bytes of a tile are 4 bytes of 16 rows. One byte permute brings a row's 4 bytes together; each
// nibble plus 16 times its byte's number indexes the group's 64 table entries in one permute, and
// one dot product with ones adds the 4 entries of a row into its 32-bit sum.
#ifndef SDQ_KERNELS_VBMI_STEPS_H_
#define SDQ_KERNELS_VBMI_STEPS_H_

#include "kernels/stream_kernels.h"

#if defined(__x86_64__)

// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/table_layout.h"

#define SDQ_VBMI_ATTR __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))
#define SDQ_VBMI_INLINE SDQ_VBMI_ATTR __attribute__((always_inline)) inline

namespace sdq::kernels::vbmi {

// (x & mask) | pattern
inline constexpr int kAndOr = 0xEA;
// x | (y & ~mask)
inline constexpr int kOrAndNot = 0xF4;

// Sums of 32 bits, of sixteen rows. GCC moves accumulators about needlessly unless their type says
// what they hold.
typedef int Int32s __attribute__((vector_size(64)));

SDQ_VBMI_INLINE Int32s AddEntries(Int32s sum, __m512i entries, __m512i ones) {
  return (Int32s)_mm512_dpbusd_epi32((__m512i)sum, entries, ones);
}

struct Constants {
  __m512i by_row;   // output byte 4 r + j = input byte 16 j + r
  __m512i pattern;  // 16 j
  __m512i ones;
  __m512i low_nibble;
  __m512i trit_parts, high_pattern, high_bits, low_bits;  // TritStep
};

// Of a packed byte's upper six bits y = 7 high + floor(low / 4): the bits of `high` at 0, 1, 4, 5,
// those of floor(low / 4) at 2, 3, 6, where the entries' indices have them (TritStep).
struct TritParts {
  alignas(64) uint8_t of[64];
  constexpr TritParts() : of{} {
    for (unsigned y = 0; y < 64; ++y) {
      const unsigned high = y / 7, low = y % 7;
      of[y] = static_cast<uint8_t>((high & 3) | (high & 12) << 2 | (low & 3) << 2 | (low & 4) << 4);
    }
  }
};
inline constexpr TritParts kTritParts;

struct RowOrder {
  alignas(64) uint8_t of[64];
  constexpr RowOrder() : of{} {
    for (size_t i = 0; i < 64; ++i) of[i] = static_cast<uint8_t>(i % 4 * 16 + i / 4);
  }
};
inline constexpr RowOrder kByRow;

SDQ_VBMI_INLINE Constants MakeConstants() {
  return {_mm512_load_si512(kByRow.of),
          _mm512_set1_epi32(0x30201000),
          _mm512_set1_epi8(1),
          _mm512_set1_epi8(15),
          _mm512_load_si512(kTritParts.of),
          _mm512_set1_epi32(0x0c080400),
          _mm512_set1_epi8(0x33),
          _mm512_set1_epi8(3)};
}

SDQ_VBMI_INLINE __m512i LoadRows(const Constants& c, const uint8_t* bits) {
  return _mm512_permutexvar_epi8(c.by_row, _mm512_loadu_si512(bits));
}

// Entry indices of 4 bytes of 16 rows, and their sum from a token's tables of the group.
struct NibbleStep {
  static constexpr size_t kGroupBytes = kNibbleGroupBytes;
  __m512i low, high;
  SDQ_VBMI_INLINE void Index(const Constants& c, const uint8_t* bits) {
    IndexRows(c, LoadRows(c, bits));
  }
  SDQ_VBMI_INLINE void IndexRows(const Constants& c, __m512i x) {
    low = _mm512_ternarylogic_epi32(x, c.low_nibble, c.pattern, kAndOr);
    high = _mm512_ternarylogic_epi32(_mm512_srli_epi16(x, 4), c.low_nibble, c.pattern, kAndOr);
  }
  // A token's tables of a group.
  struct Tables {
    __m512i low, high;
    SDQ_VBMI_INLINE explicit Tables(const uint8_t* at)
        : low(_mm512_loadu_si512(at)), high(_mm512_loadu_si512(at + 64)) {}
  };
  SDQ_VBMI_INLINE __m512i LowEntries(const Tables& t) const {
    return _mm512_permutexvar_epi8(low, t.low);
  }
  SDQ_VBMI_INLINE __m512i HighEntries(const Tables& t) const {
    return _mm512_permutexvar_epi8(high, t.high);
  }
};

// A byte is 28 high + low, so that its upper six bits give `high` and all of `low` but its lowest
// two bits, which are the byte's: one permute of a constant serves both indices. Bits of an index:
//   low:   0-3 of low, the position j at 4, 5, bit 4 of low at 6 (which names the second table)
//   high:  0, 1 of high, the position at 2, 3, and 2, 3 of high at 4, 5: see ArrangeTrits.
struct TritStep {
  static constexpr size_t kGroupBytes = kTritGroupBytes;
  __m512i low, high;
  SDQ_VBMI_INLINE void Index(const Constants& c, const uint8_t* bits) {
    const __m512i x = LoadRows(c, bits);
    // The permute ignores bits 6 and 7, which the shift takes from the neighbour.
    const __m512i parts = _mm512_permutexvar_epi8(_mm512_srli_epi16(x, 2), c.trit_parts);
    high = _mm512_ternarylogic_epi32(parts, c.high_bits, c.high_pattern, kAndOr);
    const __m512i rest = _mm512_ternarylogic_epi32(x, c.low_bits, c.pattern, kAndOr);
    low = _mm512_ternarylogic_epi32(rest, parts, c.high_bits, kOrAndNot);
  }
  struct Tables {
    __m512i low, more_low, high;
    SDQ_VBMI_INLINE explicit Tables(const uint8_t* at)
        : low(_mm512_loadu_si512(at)),
          more_low(_mm512_loadu_si512(at + 64)),
          high(_mm512_loadu_si512(at + 128)) {}
  };
  SDQ_VBMI_INLINE __m512i LowEntries(const Tables& t) const {
    return _mm512_permutex2var_epi8(t.low, low, t.more_low);
  }
  SDQ_VBMI_INLINE __m512i HighEntries(const Tables& t) const {
    return _mm512_permutexvar_epi8(high, t.high);
  }
};

// What a step adds to the sums of its sixteen rows.
template <class Step>
SDQ_VBMI_INLINE Int32s Add(const Constants& c, const Step& step, const uint8_t* tables,
                           Int32s sum) {
  const typename Step::Tables t(tables);
  sum = AddEntries(sum, step.LowEntries(t), c.ones);
  return AddEntries(sum, step.HighEntries(t), c.ones);
}

// scale * sums, in floats.
SDQ_VBMI_INLINE __m512 Scaled(float scale, Int32s sums) {
  return _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_cvtepi32_ps((__m512i)sums));
}

// Tiles that decode reads together.
inline constexpr size_t kTokenTiles = 4;

}  // namespace sdq::kernels::vbmi

#endif  // defined(__x86_64__)

#endif  // SDQ_KERNELS_VBMI_STEPS_H_
