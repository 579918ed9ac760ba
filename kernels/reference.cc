#include "kernels/reference.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/segment_rounding.h"
#include "kernels/table_layout.h"

namespace sdq::kernels {
namespace {

void FlipSigns(const float* x, const uint8_t* signs, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    out[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(x[i]) ^ uint32_t{signs[i]} << 24);
  }
}

void Hadamard(const float* from, const uint8_t* signs, size_t n, float scale, float* x) {
  if (signs != nullptr) {
    FlipSigns(from, signs, n, x);
  } else if (from != x) {
    std::copy(from, from + n, x);
  }
  for (size_t distance = 1; distance < n; distance *= 2) {
    for (size_t i = 0; i < n; ++i) {
      if ((i & distance) != 0) continue;
      const float a = x[i], b = x[i + distance];
      x[i] = a + b;
      x[i + distance] = a - b;
    }
  }
  for (size_t i = 0; i < n; ++i) x[i] *= scale;
}

void WeightedRows(const float* a, size_t lda, const float* v, size_t v_stride, size_t rows,
                  size_t n, float* out) {
  for (size_t j = 0; j < n; ++j) {
    float sum = 0.0f;
    for (size_t i = 0; i < rows; ++i) sum += v[i * v_stride] * a[i * lda + j];
    out[j] = sum;
  }
}

void Polyphase(const PolyphasePlan& plan, const float* x, size_t columns, size_t first,
               size_t count, float* u) {
  // First group: the one that holds sample 0, at or before `lead`.
  const size_t groups_before = (plan.lead + plan.p - 1) / plan.p;
  for (size_t k = 0; k < count; ++k) {
    const size_t from_first = first + k + groups_before * plan.p - plan.lead;
    const size_t group = from_first / plan.p, s = from_first % plan.p;
    float sum = 0.0f;
    for (size_t j = plan.begin[s]; j < plan.begin[s + 1]; ++j) {
      const PolyphasePlan::Term& term = plan.terms[j];
      const size_t column = plan.q * (group + term.ahead) + term.phase;  // plus groups_before * Q
      if (column < plan.q * groups_before || column - plan.q * groups_before >= columns) continue;
      sum += term.coefficient * x[column - plan.q * groups_before];
    }
    u[k] = sum;
  }
}

uint8_t RoundAndBias(float value) {
  return static_cast<uint8_t>(std::bit_cast<uint32_t>(value + kRoundAndBias));
}

uint32_t LargestOfFours(const float* u, size_t fours) {
  LargestMagnitude largest;
  for (size_t i = 0; i < fours; ++i, u += 4) {
    largest.Add((Magnitude(u[0]) + Magnitude(u[1])) + (Magnitude(u[2]) + Magnitude(u[3])));
  }
  return largest.bits();
}

uint32_t LargestOfFives(const float* u, size_t fives) {
  LargestMagnitude largest;
  for (size_t i = 0; i < fives; ++i, u += 5) {
    largest.Add((Magnitude(u[0]) + Magnitude(u[1])) + Magnitude(u[2]));
    largest.Add(Magnitude(u[3]) + Magnitude(u[4]));
  }
  return largest.bits();
}

void NibbleTables(const float* u, float inverse, size_t groups, uint8_t* tables) {
  for (size_t g = 0; g < groups; ++g, u += kNibbleGroupSamples, tables += kNibbleGroupBytes) {
    for (size_t j = 0; j < 8; ++j) {
      uint8_t* table = tables + (j % 2) * 64 + (j / 2) * 16;
      for (size_t e = 0; e < 16; ++e) {
        float term[4];
        for (size_t i = 0; i < 4; ++i) {
          const float v = u[4 * j + i] * inverse;
          term[i] = (e >> i & 1) != 0 ? v : -v;
        }
        table[e] = RoundAndBias((term[0] + term[1]) + (term[2] + term[3]));
      }
    }
  }
}

void TritTables(const float* u, float inverse, size_t groups, uint8_t* tables) {
  const float digit[3] = {-1.0f, 0.0f, 1.0f};
  for (size_t g = 0; g < groups; ++g, tables += kTritGroupBytes) {
    std::memset(tables, 128, kTritGroupBytes);
    for (size_t j = 0; j < 4; ++j, u += 5) {
      float v[5];
      for (size_t i = 0; i < 5; ++i) v[i] = u[i] * inverse;
      for (size_t e = 0; e < 27; ++e) {
        const float sum = (v[0] * digit[e % 3] + v[1] * digit[e / 3 % 3]) + v[2] * digit[e / 9];
        tables[e / 16 * 64 + j * 16 + e % 16] = RoundAndBias(sum);
      }
      for (size_t e = 0; e < 9; ++e) {
        tables[128 + j * 16 + e] = RoundAndBias(v[3] * digit[e % 3] + v[4] * digit[e / 3]);
      }
    }
  }
}

// Calls row_sum(bits of the row's byte 0, token tables) for every row and token; consecutive bytes
// of a row are 16 apart.
template <class RowSum>
void ForEachRow(const SegmentArgs& args, const RowSum& row_sum) {
  for (size_t token = 0; token < args.tokens; ++token) {
    const uint8_t* tables = args.tables + token * args.token_stride;
    for (size_t tile = 0; tile < args.tiles; ++tile) {
      const uint8_t* bits = args.bits + tile * args.tile_stride;
      int32_t sums[16];
      for (size_t r = 0; r < 16; ++r) sums[r] = row_sum(bits + r, tables);
      AccumulateTile(sums, TokenScale(args, token), args.acc + token * args.acc_stride + tile * 16);
    }
  }
}

void NibbleSegment(const SegmentArgs& args) {
  const auto plane_sum = [&](const uint8_t* bits, const uint8_t* tables) {
    int32_t sum = 0;
    for (size_t k = 0; k < args.bytes; ++k) {
      const uint8_t byte = bits[k * 16];
      const uint8_t* table = tables + k / 4 * kNibbleGroupBytes + k % 4 * 16;
      sum += table[byte & 15] - 128 + table[64 + (byte >> 4)] - 128;
    }
    return sum;
  };
  ForEachRow(args, [&](const uint8_t* bits, const uint8_t* tables) {
    const int32_t plus = plane_sum(bits, tables);
    return args.plane_stride == 0 ? plus : plus - plane_sum(bits + args.plane_stride, tables);
  });
}

void TritSegment(const SegmentArgs& args) {
  ForEachRow(args, [&](const uint8_t* bits, const uint8_t* tables) {
    int32_t sum = 0;
    for (size_t k = 0; k < args.bytes; ++k) {
      const unsigned low = bits[k * 16] % 28u, high = bits[k * 16] / 28u;
      const uint8_t* table = tables + k / 4 * kTritGroupBytes + k % 4 * 16;
      sum += table[low / 16 * 64 + low % 16] - 128 + table[128 + high] - 128;
    }
    return sum;
  });
}

// Sum of the 8-bit values under the mask's set bits, from their planes (two's complement).
int32_t MaskedSum(uint8_t mask, const uint8_t* planes) {
  int32_t sum = -128 * std::popcount(static_cast<uint8_t>(mask & planes[7]));
  for (int b = 0; b < 7; ++b) {
    sum += std::popcount(static_cast<uint8_t>(mask & planes[b])) << b;
  }
  return sum;
}

void PopcountSegment(const SegmentArgs& args) {
  const auto plane_sum = [&](const uint8_t* bits, const uint8_t* planes) {
    int32_t sum = 0;
    for (size_t k = 0; k < args.bytes; ++k) {
      sum += MaskedSum(bits[k * 16], planes + kPlaneHeaderBytes + 8 * k);
    }
    return sum;
  };
  ForEachRow(args, [&](const uint8_t* bits, const uint8_t* planes) {
    const int32_t plus = plane_sum(bits, planes);
    if (args.plane_stride != 0) return plus - plane_sum(bits + args.plane_stride, planes);
    int32_t all = 0;
    std::memcpy(&all, planes, sizeof(all));
    return 2 * plus - all;
  });
}

void PopcountTritSegment(const SegmentArgs& args) {
  ForEachRow(args, [&](const uint8_t* bits, const uint8_t* planes) {
    int32_t sum = 0;
    for (size_t k = 0; k < args.bytes; ++k) {
      uint8_t plus = 0, minus = 0;
      UnpackTrits(bits[k * 16], &plus, &minus);
      const uint8_t* byte_planes = planes + kPlaneHeaderBytes + 8 * k;
      sum += MaskedSum(plus, byte_planes) - MaskedSum(minus, byte_planes);
    }
    return sum;
  });
}

void Derive(const DeriveArgs& args) {
  for (size_t tile = 0; tile < args.tiles; ++tile) {
    const uint8_t* bits = args.bits + tile * args.tile_stride;
    uint8_t* out = args.out + tile * args.out_stride;
    for (size_t i = 0; i < 16 * args.bytes; ++i) {
      const unsigned before = i < 16 && args.first ? 0u : bits[std::ptrdiff_t(i) - 16];
      const unsigned samples = before | unsigned{bits[i]} << 8;
      unsigned product = 0;
      for (unsigned b = 0; b < 8; ++b) {
        // Among an even number of samples, those of -1 are even where the bits' sum is: complement.
        if ((args.maps->derived >> b & 1) != 0) product ^= samples >> (8 - b);
      }
      const bool even = std::popcount(args.maps->derived) % 2 == 0;
      out[i] = static_cast<uint8_t>(even ? ~product : product);
    }
  }
}

}  // namespace

const TransformKernels& ReferenceTransformKernels() {
  static constexpr TransformKernels kernels = {FlipSigns,    Hadamard,       WeightedRows,
                                               Polyphase,    LargestOfFours, LargestOfFives,
                                               NibbleTables, TritTables};
  return kernels;
}

const StreamKernels& ReferenceStreamKernels() {
  static constexpr StreamKernels kernels = {NibbleSegment, TritSegment, PopcountSegment,
                                            PopcountTritSegment, Derive};
  return kernels;
}

}  // namespace sdq::kernels
