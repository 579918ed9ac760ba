// y = W x for f32, f16, bf16 and 8-bit weights.
//
// The order of summation, per output element and for N float lanes: column c goes to lane c mod N
// of accumulator (c / N) mod 4, columns ascending, one fused (or not: the target's) multiply-add
// each; the four accumulators are added in order, then the lanes by Highway's fixed tree. One token
// runs along four rows at once, each with its accumulators in registers. Several tokens run in
// tiles of rows x tokens with one accumulator per element and four passes, the columns having been
// sorted by accumulator when rows and tokens were widened and packed: the same additions in the
// same order, hence the same bits.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/aligned_buffer.h"
#include "kernels/dense.h"
#include "kernels/fetch.h"
#include "kernels/float16.h"
#include "kernels/parallel.h"
#include "kernels/tile_product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dense_product.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/dense_tile-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {

inline constexpr size_t kAccumulators = 4;

// What becomes of a finished sum. Adding a zero bias also makes -0 of padded and unpadded sums +0.
struct Epilogue {
  explicit Epilogue(const DenseMatrix& w) : matrix(w) {}
  float operator()(float sum, size_t row) const {
    const float bias = matrix.bias != nullptr ? matrix.bias[row] : 0.0f;
    if (matrix.type != ElementType::kQ8) return sum + bias;
    return matrix.scale_base * F32FromF16(matrix.scales_f16[row]) * sum + bias;
  }
  const DenseMatrix& matrix;
};

// The same for a group of rows, whose factors are widened once.
class RowFactors {
 public:
  RowFactors(const DenseMatrix& w, size_t first, size_t rows) {
    for (size_t r = 0; r < rows; ++r) {
      bias_[r] = w.bias != nullptr ? w.bias[first + r] : 0.0f;
      scale_[r] =
          w.type == ElementType::kQ8 ? w.scale_base * F32FromF16(w.scales_f16[first + r]) : 1.0f;
    }
  }
  float Finish(float sum, size_t r) const { return scale_[r] * sum + bias_[r]; }

 private:
  float scale_[kGroupRows] = {}, bias_[kGroupRows] = {};
};

// totals[i] = sum of the lanes of vector i of a tile.
HWY_INLINE void SumTile(const float* sums, float* totals) {
  const FloatTag d;
#if HWY_TARGET == HWY_AVX3
  static_assert(kGroupRows * kTileTokens == 16);
  FloatVec v[16];
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; ++i) v[i] = hn::LoadU(d, sums + 16 * i);
  hn::StoreU(SumLanesOfSixteen(v), d, totals);
#else
  for (size_t i = 0; i < kGroupRows * kTileTokens; ++i) {
    totals[i] = SumLanes(d, hn::LoadU(d, sums + i * hn::Lanes(d)));
  }
#endif
}

// Rows that one token reads together. How far ahead of its use the first one is fetched, and by how
// much farther each other one, lest all of them enter a new page, where hardware prefetchers stop,
// at the same time.
inline constexpr size_t kRowsTogether = 4;
inline constexpr size_t kFetchAheadBytes = 2048, kFetchStepBytes = 256;

// dots[i] = sum of x times row i. Written out, not looped, because vectors of scalable targets
// cannot be array elements.
template <class Element>
void RowDots(const typename Element::Raw* const (&rows)[kRowsTogether], const float* x, size_t n,
             float* dots) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), step = kAccumulators * lanes;
  const typename Element::Raw *w0 = rows[0], *w1 = rows[1], *w2 = rows[2], *w3 = rows[3];
  FloatVec s00 = hn::Zero(d), s01 = hn::Zero(d), s02 = hn::Zero(d), s03 = hn::Zero(d);
  FloatVec s10 = hn::Zero(d), s11 = hn::Zero(d), s12 = hn::Zero(d), s13 = hn::Zero(d);
  FloatVec s20 = hn::Zero(d), s21 = hn::Zero(d), s22 = hn::Zero(d), s23 = hn::Zero(d);
  FloatVec s30 = hn::Zero(d), s31 = hn::Zero(d), s32 = hn::Zero(d), s33 = hn::Zero(d);
  // The vectors at column c to one accumulator of each row.
  const auto add = [&](size_t c, FloatVec& s0, FloatVec& s1, FloatVec& s2, FloatVec& s3) HWY_ATTR {
    const FloatVec xv = hn::LoadU(d, x + c);
    s0 = hn::MulAdd(Element::Load(d, w0 + c), xv, s0);
    s1 = hn::MulAdd(Element::Load(d, w1 + c), xv, s1);
    s2 = hn::MulAdd(Element::Load(d, w2 + c), xv, s2);
    s3 = hn::MulAdd(Element::Load(d, w3 + c), xv, s3);
  };
  size_t c = 0;
  for (; c + step <= n; c += step) {
    const size_t bytes = step * sizeof(*w0);
    FetchLines<1>(w0 + c, bytes, kFetchAheadBytes);
    FetchLines<1>(w1 + c, bytes, kFetchAheadBytes + kFetchStepBytes);
    FetchLines<1>(w2 + c, bytes, kFetchAheadBytes + 2 * kFetchStepBytes);
    FetchLines<1>(w3 + c, bytes, kFetchAheadBytes + 3 * kFetchStepBytes);
    add(c, s00, s10, s20, s30);
    add(c + lanes, s01, s11, s21, s31);
    add(c + 2 * lanes, s02, s12, s22, s32);
    add(c + 3 * lanes, s03, s13, s23, s33);
  }
  // At most three whole vectors and a part of one are left: each goes to the next accumulator.
  const auto add_rest = [&](FloatVec& s0, FloatVec& s1, FloatVec& s2, FloatVec& s3) HWY_ATTR {
    if (c >= n) return;
    const size_t left = n - c;
    if (left >= lanes) {
      add(c, s0, s1, s2, s3);
    } else {
      const FloatVec xv = LoadPart(d, x + c, left);
      s0 = hn::MulAdd(LoadPart<Element>(d, w0 + c, left), xv, s0);
      s1 = hn::MulAdd(LoadPart<Element>(d, w1 + c, left), xv, s1);
      s2 = hn::MulAdd(LoadPart<Element>(d, w2 + c, left), xv, s2);
      s3 = hn::MulAdd(LoadPart<Element>(d, w3 + c, left), xv, s3);
    }
    c += lanes;
  };
  add_rest(s00, s10, s20, s30);
  add_rest(s01, s11, s21, s31);
  add_rest(s02, s12, s22, s32);
  add_rest(s03, s13, s23, s33);
  dots[0] = SumLanes(d, hn::Add(hn::Add(hn::Add(s00, s01), s02), s03));
  dots[1] = SumLanes(d, hn::Add(hn::Add(hn::Add(s10, s11), s12), s13));
  dots[2] = SumLanes(d, hn::Add(hn::Add(hn::Add(s20, s21), s22), s23));
  dots[3] = SumLanes(d, hn::Add(hn::Add(hn::Add(s30, s31), s32), s33));
}

// Items of `cost` multiply-adds that make a range worth handing to a thread.
size_t RangeOf(size_t cost) {
  constexpr size_t kWorthwhile = size_t{1} << 15;
  return 1 + kWorthwhile / std::max<size_t>(cost, 1);
}

// Rows [begin, end) for one token. Those that are read together come from strips of neighbouring
// rows, so that memory is read forward in a few places (as in token_product.cc).
template <class Element>
void ProductOne(const DenseMatrix& w, const float* x, float* y, size_t begin, size_t end) {
  using Raw = typename Element::Raw;
  const Epilogue finish(w);
  const Raw* data = static_cast<const Raw*>(w.data);
  const size_t row_bytes = std::max<size_t>(w.columns * sizeof(Raw), 1);
  const size_t longest = std::max<size_t>(kStripBytes / row_bytes, 1);
  while (begin < end) {
    const size_t strip = std::clamp<size_t>((end - begin) / kRowsTogether, 1, longest);
    for (size_t first = begin; first < begin + strip; ++first) {
      // Where fewer are left, the last one several times.
      const auto row = [&](size_t i) { return std::min(first + i * strip, end - 1); };
      const Raw* rows[kRowsTogether];
      for (size_t i = 0; i < kRowsTogether; ++i) rows[i] = data + row(i) * w.columns;
      float dots[kRowsTogether];
      RowDots<Element>(rows, x, w.columns, dots);
      for (size_t i = 0; i < kRowsTogether; ++i) y[row(i)] = finish(dots[i], row(i));
    }
    begin = std::min(begin + strip * kRowsTogether, end);
  }
}

// Vectors per accumulator of a packed row.
size_t PackedSteps(size_t columns) {
  const size_t lanes = hn::Lanes(FloatTag());
  return (columns + kAccumulators * lanes - 1) / (kAccumulators * lanes);
}

// Widens one row into slot `slot` of a packed group of `slots` rows (or tokens):
// packed[accumulator][step][slot][lane], zeros behind the last column.
template <class Element>
void PackRow(const typename Element::Raw* row, size_t columns, size_t slot, size_t slots,
             float* packed) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const size_t steps = PackedSteps(columns);
  for (size_t step = 0, c = 0; step < steps; ++step) {
    for (size_t a = 0; a < kAccumulators; ++a, c += lanes) {
      FloatVec v = hn::Zero(d);
      if (c + lanes <= columns) {
        v = Element::Load(d, row + c);
      } else if (c < columns) {
        v = LoadPart<Element>(d, row + c, columns - c);
      }
      hn::StoreU(v, d, packed + ((a * steps + step) * slots + slot) * lanes);
    }
  }
}

void ClearSlot(size_t columns, size_t slot, size_t slots, float* packed) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < kAccumulators * PackedSteps(columns); ++i) {
    hn::StoreU(hn::Zero(d), d, packed + (i * slots + slot) * lanes);
  }
}

// A packed block of tokens and where its results go.
struct TokenBlock {
  const float* packed;  // [tile][accumulator][step][kTileTokens][lane]
  size_t tokens;
  float* y;
  size_t y_stride;
};

// Floats of scratch per thread: a packed row group and the sums of every tile.
size_t ThreadScratch(size_t columns, size_t tiles) {
  const size_t lanes = hn::Lanes(FloatTag());
  return (kAccumulators * PackedSteps(columns) * kGroupRows + tiles * kGroupRows * kTileTokens) *
         lanes;
}

// Rows [first, first + kGroupRows), cut at w.rows, for a block of tokens.
template <class Element>
void ProductRowGroup(const DenseMatrix& w, const TokenBlock& block, size_t first, float* scratch) {
  using Raw = typename Element::Raw;
  const size_t lanes = hn::Lanes(FloatTag());
  const size_t steps = PackedSteps(w.columns);
  const size_t rows = std::min(kGroupRows, w.rows - first);
  const Raw* row = static_cast<const Raw*>(w.data) + first * w.columns;
  for (size_t r = 0; r < rows; ++r, row += w.columns) {
    PackRow<Element>(row, w.columns, r, kGroupRows, scratch);
  }
  for (size_t r = rows; r < kGroupRows; ++r) ClearSlot(w.columns, r, kGroupRows, scratch);

  float* sums = scratch + kAccumulators * steps * kGroupRows * lanes;
  const size_t tiles = (block.tokens + kTileTokens - 1) / kTileTokens;
  const size_t row_pass = steps * kGroupRows * lanes;
  const size_t token_pass = steps * kTileTokens * lanes;
  const size_t tile_sums = kGroupRows * kTileTokens * lanes;
  // Pass by pass, not tile by tile: a quarter of the rows stays in the first-level cache.
  for (size_t a = 0; a < kAccumulators; ++a) {
    for (size_t t = 0; t < tiles; ++t) {
      TilePass(scratch + a * row_pass, block.packed + (t * kAccumulators + a) * token_pass, steps,
               a == 0, sums + t * tile_sums);
    }
  }

  const RowFactors factors(w, first, rows);
  for (size_t t = 0; t < block.tokens; t += kTileTokens) {
    float totals[kGroupRows * kTileTokens];
    SumTile(sums + t / kTileTokens * tile_sums, totals);
    for (size_t j = 0; j < std::min(kTileTokens, block.tokens - t); ++j) {
      float* y = block.y + (t + j) * block.y_stride + first;
      for (size_t r = 0; r < rows; ++r) y[r] = factors.Finish(totals[r * kTileTokens + j], r);
    }
  }
}

// Tokens packed at once: about half a megabyte, so that they stay in a second-level cache.
size_t BlockTokens(size_t columns, size_t tokens) {
  constexpr size_t kBlockFloats = size_t{1} << 17;
  const size_t fit = kBlockFloats / std::max<size_t>(columns, 1);
  return std::min(tokens, std::clamp<size_t>(fit, 32, 128) / kTileTokens * kTileTokens);
}

// Packs `tokens` rows of x; token slots that complete the last tile are zero.
void PackTokens(const float* x, size_t tokens, size_t x_stride, size_t columns, float* packed) {
  const size_t tiles = (tokens + kTileTokens - 1) / kTileTokens;
  const size_t tile_floats =
      kAccumulators * PackedSteps(columns) * kTileTokens * hn::Lanes(FloatTag());
  ParallelFor(tiles, RangeOf(columns * kTileTokens), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin * kTileTokens; t < end * kTileTokens; ++t) {
      float* tile = packed + t / kTileTokens * tile_floats;
      const size_t slot = t % kTileTokens;
      if (t < tokens) {
        PackRow<ElementF32>(x + t * x_stride, columns, slot, kTileTokens, tile);
      } else {
        ClearSlot(columns, slot, kTileTokens, tile);
      }
    }
  });
}

template <class Element>
void ProductMany(const DenseMatrix& w, const float* x, size_t tokens, size_t x_stride, float* y,
                 size_t y_stride) {
  const size_t lanes = hn::Lanes(FloatTag());
  const size_t block_tokens = BlockTokens(w.columns, tokens);
  const size_t tiles = (block_tokens + kTileTokens - 1) / kTileTokens;
  const size_t thread_floats = ThreadScratch(w.columns, tiles);
  const AlignedFloats packed(tiles * kTileTokens * kAccumulators * PackedSteps(w.columns) * lanes);
  const AlignedFloats scratch(Threads() * thread_floats);
  const size_t groups = (w.rows + kGroupRows - 1) / kGroupRows;
  for (size_t t = 0; t < tokens; t += block_tokens) {
    const TokenBlock block{packed.data(), std::min(block_tokens, tokens - t), y + t * y_stride,
                           y_stride};
    PackTokens(x + t * x_stride, block.tokens, x_stride, w.columns, packed.data());
    const size_t range = RangeOf(w.columns * kGroupRows * block.tokens);
    ParallelFor(groups, range, [&](size_t begin, size_t end, size_t thread) {
      for (size_t g = begin; g < end; ++g) {
        ProductRowGroup<Element>(w, block, g * kGroupRows, scratch.data() + thread * thread_floats);
      }
    });
  }
}

template <class Element>
void Product(const DenseMatrix& w, const float* x, size_t tokens, size_t x_stride, float* y,
             size_t y_stride) {
  if (tokens > 1) return ProductMany<Element>(w, x, tokens, x_stride, y, y_stride);
  // Ranges of at least 32 Ki elements, in whole groups of rows: smaller ones cost more to hand out
  // than to compute.
  const size_t groups = (size_t{1} << 15) / kRowsTogether / std::max<size_t>(w.columns, 1);
  const size_t grain = std::max<size_t>(4, groups) * kRowsTogether;
  ParallelFor(w.rows, grain,
              [&](size_t begin, size_t end, size_t) { ProductOne<Element>(w, x, y, begin, end); });
}

void DenseProductTarget(const DenseMatrix& w, const float* x, size_t tokens, size_t x_stride,
                        float* y, size_t y_stride) {
  switch (w.type) {
    case ElementType::kF32:
      return Product<ElementF32>(w, x, tokens, x_stride, y, y_stride);
    case ElementType::kF16:
      return Product<ElementF16>(w, x, tokens, x_stride, y, y_stride);
    case ElementType::kBF16:
      return Product<ElementBF16>(w, x, tokens, x_stride, y, y_stride);
    case ElementType::kQ8:
      return Product<ElementQ8>(w, x, tokens, x_stride, y, y_stride);
  }
}

// out = scale * row, widened.
template <class Element>
void WidenRow(const typename Element::Raw* row, float scale, size_t n, float* out) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const FloatVec factor = hn::Set(d, scale);
  size_t c = 0;
  for (; c + lanes <= n; c += lanes) {
    hn::StoreU(hn::Mul(Element::Load(d, row + c), factor), d, out + c);
  }
  if (c < n) {
    StorePart(d, hn::Mul(LoadPart<Element>(d, row + c, n - c), factor), out + c, n - c);
  }
}

void DenseRowTarget(const DenseMatrix& w, size_t r, float* out) {
  const size_t n = w.columns;
  switch (w.type) {
    case ElementType::kF32:
      return WidenRow<ElementF32>(static_cast<const float*>(w.data) + r * n, 1.0f, n, out);
    case ElementType::kF16:
      return WidenRow<ElementF16>(static_cast<const uint16_t*>(w.data) + r * n, 1.0f, n, out);
    case ElementType::kBF16:
      return WidenRow<ElementBF16>(static_cast<const uint16_t*>(w.data) + r * n, 1.0f, n, out);
    case ElementType::kQ8:
      return WidenRow<ElementQ8>(static_cast<const int8_t*>(w.data) + r * n,
                                 w.scale_base * F32FromF16(w.scales_f16[r]), n, out);
  }
}

}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sdq::kernels {

HWY_EXPORT(DenseProductTarget);
HWY_EXPORT(DenseRowTarget);

void DenseProduct(const DenseMatrix& w, const float* x, size_t tokens, size_t x_stride, float* y,
                  size_t y_stride) {
  if (tokens == 0 || w.rows == 0) return;
  if (w.precision == Precision::kRounded && w.type != ElementType::kQ8 && tokens > 1 &&
      TileProductsAvailable()) {
    return TileDenseProduct(w, x, tokens, x_stride, y, y_stride);
  }
  HWY_DYNAMIC_DISPATCH(DenseProductTarget)(w, x, tokens, x_stride, y, y_stride);
}

void DenseRow(const DenseMatrix& w, size_t r, float* out) {
  HWY_DYNAMIC_DISPATCH(DenseRowTarget)(w, r, out);
}

}  // namespace sdq::kernels
#endif  // HWY_ONCE
