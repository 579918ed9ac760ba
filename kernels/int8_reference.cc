#include <algorithm>
#include <bit>

#include "kernels/int8_kernels.h"
#include "kernels/segment_rounding.h"
#include "kernels/transform_kernels.h"

namespace sdq::kernels {
namespace {

// The integer weight j of a group of the row whose byte 0 is at `bits`; bytes of a row are 16
// apart.
int32_t WeightOf(const Int8Plan::Shape& shape, const Int8Plan::Group& group, size_t j,
                 const uint8_t* bits) {
  uint64_t window = 0;
  for (size_t k = 0; k < 4; ++k) {
    window |= uint64_t{bits[(size_t(group.byte) + k) * kTileRows]} << (8 * k);
  }
  window |= window << 32;  // chunks that begin before the row read bits that their tables ignore
  int32_t weight = 0;
  for (size_t c = 0; c < shape.chunks; ++c) {
    const int first = static_cast<int>(group.first_bit[c] >> (8 * j) & 63);
    const uint64_t index =
        (std::rotr(window, first) & (shape.mask & 255u)) | (shape.pattern >> (8 * j) & 255u);
    weight += group.tables[c * Int8Plan::kTableBytes + index];
  }
  return weight;
}

void Weights(const Int8WeightsArgs& args) {
  for (size_t tile = 0; tile < args.tiles; ++tile) {
    int8_t* out = args.weights + tile * args.padded_groups * kInt8GroupBytes;
    int32_t* bias = args.bias + tile * kTileRows;
    std::fill(out, out + args.padded_groups * kInt8GroupBytes, int8_t{0});
    std::fill(bias, bias + kTileRows, 0);
    for (size_t g = 0; g < args.groups; ++g) {
      const Int8Plan::Shape& shape = args.plan->ShapeOf(args.first_group + g);
      const Int8Plan::Group group = args.plan->At(args.first_group + g);
      for (size_t i = 0; i < kInt8GroupBytes; ++i) {
        const size_t row = i / Int8Plan::kGroup, j = i % Int8Plan::kGroup;
        const uint8_t* bits = args.bits + tile * args.tile_stride + row;
        const int32_t weight = WeightOf(shape, group, j, bits);
        out[g * kInt8GroupBytes + i] = static_cast<int8_t>(weight);
        bias[row] -= 128 * weight;
      }
    }
  }
}

void Multiply(const Int8MultiplyArgs& args) {
  for (size_t t = 0; t < args.tokens; ++t) {
    const uint8_t* x = args.x + t * args.groups * Int8Plan::kGroup;
    for (size_t tile = 0; tile < args.tiles; ++tile) {
      for (size_t row = 0; row < kTileRows; ++row) {
        const int8_t* w = args.weights + tile * args.groups * kInt8GroupBytes + row * 4;
        int32_t sum = args.bias[tile * kTileRows + row];
        for (size_t g = 0; g < args.groups; ++g) {
          for (size_t j = 0; j < 4; ++j) sum += int32_t{x[4 * g + j]} * w[g * kInt8GroupBytes + j];
        }
        float& acc = args.acc[t * kInt8Rows + tile * kTileRows + row];
        const float product = args.scale[t] * static_cast<float>(sum);
        acc = args.add ? acc + product : product;
      }
    }
  }
}

uint32_t Largest(const float* v, size_t n) {
  LargestMagnitude largest;
  for (size_t i = 0; i < n; ++i) largest.Add(Magnitude(v[i]));
  return largest.bits();
}

void Round(const float* v, size_t n, float inverse, uint8_t* out) {
  for (size_t i = 0; i < n; ++i) {
    out[i] = static_cast<uint8_t>(std::bit_cast<uint32_t>(v[i] * inverse + kRoundAndBias));
  }
}

}  // namespace

const Int8Kernels& ReferenceInt8Kernels() {
  static constexpr Int8Kernels kernels = {"SCALAR", Weights, Multiply, Largest, Round};
  return kernels;
}

}  // namespace sdq::kernels
