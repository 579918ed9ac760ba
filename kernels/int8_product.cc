#include "kernels/int8_product.h"

#include <algorithm>
#include <limits>

#include "kernels/float16.h"
#include "kernels/int8_kernels.h"
#include "kernels/parallel.h"
#include "kernels/segment_rounding.h"

namespace sdq::kernels {
namespace {

size_t RoundUp(size_t n, size_t step) { return (n + step - 1) / step * step; }

// Where things lie in prepared activations: the scales [block][token], then block by block
// [token][columns], columns padded to whole depth steps and tokens to whole token steps.
struct Int8Layout {
  Int8Layout(const ActivationMap& map, size_t count)
      : columns(map.spec().columns),
        padded_columns(RoundUp(columns, kInt8DepthStep)),
        blocks((columns + kInt8Block - 1) / kInt8Block),
        tokens(RoundUp(count, kInt8TokenStep)),
        header(RoundUp(blocks * tokens * sizeof(float), 64)) {}

  size_t Columns(size_t block) const { return std::min(kInt8Block, columns - block * kInt8Block); }
  size_t PaddedColumns(size_t block) const { return RoundUp(Columns(block), kInt8DepthStep); }
  size_t BlockOffset(size_t block) const { return header + block * kInt8Block * tokens; }
  size_t bytes() const { return header + padded_columns * tokens; }

  size_t columns, padded_columns, blocks, tokens, header;
};

// A thread's memory in a product.
struct Scratch {
  static constexpr size_t kWeights = kInt8Rows * kInt8Block;
  static constexpr size_t kBias = kInt8Rows * sizeof(int32_t);
  static size_t Bytes(size_t tokens) {
    return kWeights + kBias + RoundUp(tokens, kInt8TokenStep) * kInt8Rows * sizeof(float);
  }
  explicit Scratch(uint8_t* base)
      : weights(reinterpret_cast<int8_t*>(base)),
        bias(reinterpret_cast<int32_t*>(base + kWeights)),
        acc(reinterpret_cast<float*>(base + kWeights + kBias)) {}
  int8_t* weights;
  int32_t* bias;
  float* acc;
};

void PrepareBlock(const Int8Kernels& kernels, const Int8Layout& layout, size_t block,
                  const float* rotated, size_t token, uint8_t* prepared) {
  const size_t columns = layout.Columns(block), padded = layout.PaddedColumns(block);
  const float* v = rotated + block * kInt8Block;
  const SegmentRounding rounding(LargestMagnitude(kernels.largest(v, columns)));
  reinterpret_cast<float*>(prepared)[block * layout.tokens + token] = rounding.scale;
  uint8_t* out = prepared + layout.BlockOffset(block) + token * padded;
  // 128 stands for zero.
  if (rounding.inverse == 0.0f) {
    std::fill(out, out + padded, uint8_t{128});
    return;
  }
  kernels.round(v, columns, rounding.inverse, out);
  std::fill(out + columns, out + padded, uint8_t{128});
}

// One panel of a matrix: its weights, block by block, each for all tokens.
void RunPanel(const Int8Kernels& kernels, const StreamOutput& output, const ActivationMap& map,
              const Int8Layout& layout, const uint8_t* prepared, size_t tokens, size_t panel,
              const Scratch& scratch) {
  const StreamMatrix& w = *output.matrix;
  const size_t first_row = panel * kInt8Rows, rows = std::min(kInt8Rows, w.rows - first_row);
  Int8WeightsArgs weights;
  weights.plan = &map.int8_plan();
  weights.tile_stride = map.layout().tile_bytes();
  weights.bits = w.bits + panel * kInt8Tiles * weights.tile_stride;
  weights.tiles = (rows + kTileRows - 1) / kTileRows;
  weights.weights = scratch.weights;
  weights.bias = scratch.bias;
  Int8MultiplyArgs multiply;
  multiply.weights = scratch.weights;
  multiply.bias = scratch.bias;
  multiply.tiles = weights.tiles;
  multiply.tokens = tokens;
  multiply.acc = scratch.acc;
  for (size_t block = 0; block < layout.blocks; ++block) {
    weights.first_group = block * (kInt8Block / Int8Plan::kGroup);
    weights.groups = (layout.Columns(block) + Int8Plan::kGroup - 1) / Int8Plan::kGroup;
    weights.padded_groups = layout.PaddedColumns(block) / Int8Plan::kGroup;
    kernels.weights(weights);
    multiply.groups = weights.padded_groups;
    multiply.x = prepared + layout.BlockOffset(block);
    multiply.scale = reinterpret_cast<const float*>(prepared) + block * layout.tokens;
    multiply.add = block > 0;
    kernels.multiply(multiply);
  }
  float scales[kInt8Rows], biases[kInt8Rows];
  for (size_t r = 0; r < rows; ++r) {
    scales[r] = w.scale_base * F32FromF16(w.scales_f16[first_row + r]) * map.int8_plan().unit();
    biases[r] = w.bias == nullptr ? 0.0f : w.bias[first_row + r];
  }
  for (size_t t = 0; t < tokens; ++t) {
    const float* acc = scratch.acc + t * kInt8Rows;
    float* y = output.y + t * output.y_stride + first_row;
    for (size_t r = 0; r < rows; ++r) y[r] = scales[r] * acc[r] + biases[r];
  }
}

size_t Panels(const StreamMatrix& w) { return (w.rows + kInt8Rows - 1) / kInt8Rows; }

}  // namespace

bool Int8ProductsAvailable() { return ActiveInt8Kernels() != nullptr; }

bool Int8Usable(const ActivationMap& map) {
  // Such maps have one decimator block, whose scale is the row's.
  return map.int8_plan().usable() && !map.spec().block_sums;
}

size_t Int8PreparedBytes(const ActivationMap& map, size_t tokens) {
  return RoundUp(Int8Layout(map, tokens).bytes(), 64);
}

size_t Int8ScratchBytes(const ActivationMap& map, size_t tokens) {
  return std::max(RoundUp(map.spec().columns * sizeof(float), 64), Scratch::Bytes(tokens));
}

void PrepareInt8(const ActivationMap& map, const float* x, size_t tokens, size_t x_stride,
                 uint8_t* prepared, uint8_t* scratch) {
  const Int8Kernels& kernels = *ActiveInt8Kernels();
  const Int8Layout layout(map, tokens);
  const size_t scratch_bytes = Int8ScratchBytes(map, tokens);
  ParallelFor(tokens, 1, [&](size_t begin, size_t end, size_t thread) {
    float* rotated = reinterpret_cast<float*>(scratch + thread * scratch_bytes);
    for (size_t t = begin; t < end; ++t) {
      map.Rotate(x + t * x_stride, rotated);
      for (size_t block = 0; block < layout.blocks; ++block) {
        PrepareBlock(kernels, layout, block, rotated, t, prepared);
      }
    }
  });
  // What whole steps of tokens read beyond the last one; it reaches no result.
  for (size_t block = 0; block < layout.blocks; ++block) {
    uint8_t* at = prepared + layout.BlockOffset(block);
    std::fill(at + tokens * layout.PaddedColumns(block),
              at + layout.tokens * layout.PaddedColumns(block), uint8_t{128});
    float* scales = reinterpret_cast<float*>(prepared) + block * layout.tokens;
    std::fill(scales + tokens, scales + layout.tokens, 0.0f);
  }
}

void Int8Products(std::span<const StreamOutput> outputs, const ActivationMap& map,
                  const uint8_t* prepared, size_t tokens, uint8_t* scratch) {
  const Int8Kernels& kernels = *ActiveInt8Kernels();
  const Int8Layout layout(map, tokens);
  const size_t scratch_bytes = Int8ScratchBytes(map, tokens);
  size_t panels = 0;
  for (const StreamOutput& out : outputs) panels += Panels(*out.matrix);
  ParallelFor(panels, 1, [&](size_t begin, size_t end, size_t thread) {
    const Scratch memory(scratch + thread * scratch_bytes);
    size_t first = 0;  // of the matrix
    for (const StreamOutput& out : outputs) {
      const size_t last = first + Panels(*out.matrix);
      for (size_t p = std::max(begin, first); p < std::min(end, last); ++p) {
        RunPanel(kernels, out, map, layout, prepared, tokens, p - first, memory);
      }
      first = last;
    }
  });
}

}  // namespace sdq::kernels
