#include "kernels/stream_product.h"

#include <algorithm>
#include <vector>

#include "kernels/finish_tiles.h"
#include "kernels/float16.h"
#include "kernels/parallel.h"
#include "kernels/stream_kernels.h"
#include "kernels/stream_rows.h"
#include "kernels/table_layout.h"
#include "kernels/token_product.h"

namespace sdq::kernels {
namespace {

// A segment of eight tiles (16 KB) stays in the first cache while the tokens' tables pass by, and
// the tables of a segment (4 KB for each token) stay in the second one while 32 tiles pass by.
constexpr size_t kCachedTiles = 8;
constexpr size_t kBatchTiles = 32;
// What threads share out; and what one token reads together where no kernel takes all segments at
// once (plain code, bit-planes).
constexpr size_t kGroupTiles = 4;

// A prepared batch of activations and the kernel that reads it.
struct Operand {
  const uint8_t* data = nullptr;
  size_t token_bytes = 0;
  const size_t* segment_offset = nullptr;  // from the token's start
  SegmentKernel kernel = nullptr;
  size_t most_tokens = 0;  // for the kernel at once
  DeriveKernel derive = nullptr;
  const DerivedMaps* derived = nullptr;  // null: no derived samples

  const float* Header(size_t token) const {
    return reinterpret_cast<const float*>(data + token * token_bytes);
  }
};

struct Output {
  float* y = nullptr;
  size_t stride = 0;
};

float RowScale(const StreamMatrix& w, size_t index) {
  return w.scale_base * F32FromF16(w.scales_f16[index]);
}

float RowMean(const StreamMatrix& w, size_t index) {
  return w.mean_base * F32FromF16(w.means_f16[index]);
}

// Row factors of up to kBatchTiles tiles.
using BlockFactors = float[kBatchTiles * kTileRows];

// Up to kBatchTiles tiles x kMostSegmentTokens tokens.
class TileBatch {
 public:
  TileBatch(const StreamMatrix& w, const StreamLayout& layout, const Operand& operand,
            size_t first_tile, size_t tiles, size_t first_token, size_t tokens)
      : w_(w),
        layout_(layout),
        operand_(operand),
        first_tile_(first_tile),
        tiles_(tiles),
        first_token_(first_token),
        tokens_(tokens),
        rows_(std::min(tiles * kTileRows, w.rows - first_tile * kTileRows)) {}

  // more: whether the thread goes on with as many tiles behind these.
  void Run(const Output& out, bool more) {
    Clear(acc_);
    if (w_.per_block) Clear(total_);
    for (size_t s = 0; s < layout_.segments.size(); ++s) {
      RunSegment(s, more);
      const size_t block = layout_.segments[s].block;
      const bool last = s + 1 == layout_.segments.size() || layout_.segments[s + 1].block != block;
      if (w_.per_block && last) FinishBlock(block);
    }
    for (size_t t = 0; t < tokens_; ++t) {
      float* y = out.y + (first_token_ + t) * out.stride;
      if (w_.per_block) {
        StoreTotal(t, y + first_tile_ * kTileRows);
      } else {
        const float sum =
            w_.means_f16 != nullptr ? SumOfBlocks(layout_, operand_.Header(first_token_ + t)) : 0;
        FinishTiles(w_, first_tile_ * kTileRows, kTileRows, tiles_, acc_[t], sum, y);
      }
    }
  }

 private:
  // A token's sums are not a power of two apart, which would put all tokens' into few sets of the
  // first cache.
  static constexpr size_t kSumStride = kBatchTiles * kTileRows + 16;
  using Sums = float[kMostSegmentTokens][kSumStride];

  void Clear(Sums& sums) const {
    for (size_t t = 0; t < tokens_; ++t) std::fill(sums[t], sums[t] + tiles_ * kTileRows, 0.0f);
  }

  // Bytes of a derived segment in up to eight tiles, each with room for a kernel to over-read.
  static constexpr size_t kDerivedStride = kSegmentSamples / 8 * kTileRows + 64;
  using DerivedBits = uint8_t[kCachedTiles * kDerivedStride];

  // The derived samples of args' tiles; args then says where they are.
  void DeriveBits(const Segment& segment, DerivedBits& derived, SegmentArgs* args) const {
    // Kernels read whole groups of four bytes; so does this.
    const size_t bytes = Groups(segment.bytes) * 4;
    operand_.derive({args->bits, args->tile_stride, bytes, args->tiles, segment.position == 0,
                     operand_.derived, derived, kDerivedStride});
    args->bits = derived;
    args->tile_stride = kDerivedStride;
    args->fetch_ahead = 0;
  }

  // All but tiles, acc and fetch_ahead.
  SegmentArgs ArgsOf(size_t s) const {
    const Segment& segment = layout_.segments[s];
    SegmentArgs args;
    args.bits = w_.bits + first_tile_ * layout_.tile_bytes() + segment.first_byte * kTileRows;
    args.tile_stride = layout_.tile_bytes();
    args.plane_stride = layout_.planes == 2 ? layout_.row_bytes * kTileRows : 0;
    args.bytes = segment.bytes;
    args.tables = operand_.data + first_token_ * operand_.token_bytes + operand_.segment_offset[s];
    args.scale = operand_.Header(first_token_) + s;
    args.token_stride = operand_.token_bytes;
    args.tokens = tokens_;
    args.acc_stride = kSumStride;
    return args;
  }

  void RunSegment(size_t s, bool more) {
    const Segment& segment = layout_.segments[s];
    SegmentArgs args = ArgsOf(s);
    for (size_t tile = 0; tile < tiles_; tile += kCachedTiles) {
      args.tiles = std::min(kCachedTiles, tiles_ - tile);
      args.acc = acc_[0] + tile * kTileRows;
      args.fetch_ahead = FetchAhead(s, tile, more);
      if (segment.derived) {
        alignas(64) DerivedBits derived;
        SegmentArgs of_derived = args;
        DeriveBits(segment, derived, &of_derived);
        operand_.kernel(of_derived);
      } else {
        operand_.kernel(args);
      }
      args.bits += args.tiles * args.tile_stride;
    }
  }

  // From a segment of the tiles at `tile` to what is read after it; the tokens behind the first few
  // find the bits in the caches.
  size_t FetchAhead(size_t s, size_t tile, bool more) const {
    const size_t tile_bytes = layout_.tile_bytes();
    if (first_token_ != 0) return 0;
    if (tile + kCachedTiles < tiles_) return kCachedTiles * tile_bytes;
    const size_t here = layout_.segments[s].first_byte * kTileRows;
    const size_t next = operand_.derived != nullptr ? s + 2 : s + 1;  // that is stored
    if (next < layout_.segments.size()) {
      return layout_.segments[next].first_byte * kTileRows - here - tile * tile_bytes;
    }
    return more ? (tiles_ - tile) * tile_bytes - here : 0;
  }

  // total += scale * acc + mean * (sum of u), and acc = 0.
  void FinishBlock(size_t block) {
    const size_t first = first_tile_ * kTileRows * layout_.blocks + block;
    BlockFactors scales, means;
    WidenFactors(w_.scales_f16 + first, layout_.blocks, rows_, w_.scale_base, scales);
    if (w_.means_f16 != nullptr) {
      WidenFactors(w_.means_f16 + first, layout_.blocks, rows_, w_.mean_base, means);
    }
    for (size_t t = 0; t < tokens_; ++t) {
      for (size_t r = 0; r < rows_; ++r) total_[t][r] += scales[r] * acc_[t][r];
      if (w_.means_f16 != nullptr) {
        const float sum = operand_.Header(first_token_ + t)[layout_.segments.size() + block];
        for (size_t r = 0; r < rows_; ++r) total_[t][r] += means[r] * sum;
      }
    }
    Clear(acc_);
  }

  void StoreTotal(size_t t, float* y) const {
    std::copy(total_[t], total_[t] + rows_, y);
    if (w_.bias == nullptr) return;
    const float* bias = w_.bias + first_tile_ * kTileRows;
    for (size_t r = 0; r < rows_; ++r) y[r] += bias[r];
  }

  const StreamMatrix& w_;
  const StreamLayout& layout_;
  const Operand& operand_;
  size_t first_tile_, tiles_, first_token_, tokens_, rows_;
  Sums acc_, total_;
};

size_t TileGroups(const StreamMatrix& w) { return (Tiles(w) + kGroupTiles - 1) / kGroupTiles; }

// Tiles [begin, end) of one matrix. more: the thread goes on at `end`.
void ProductTiles(const StreamLayout& layout, const Operand& operand, const StreamOutput& out,
                  size_t tokens, size_t begin, size_t end, bool more) {
  const size_t step = tokens == 1 ? kGroupTiles : kBatchTiles;
  // Of about the same size: none is too small for a kernel that suits all tokens together.
  const size_t batches = (tokens + operand.most_tokens - 1) / operand.most_tokens;
  for (size_t tile = begin; tile < end; tile += step) {
    for (size_t batch = 0; batch < batches; ++batch) {
      const size_t token = batch * tokens / batches, next = (batch + 1) * tokens / batches;
      TileBatch(*out.matrix, layout, operand, tile, std::min(step, end - tile), token, next - token)
          .Run({out.y, out.y_stride}, tile + step < end || more);
    }
  }
}

// Calls fn(output, first tile, end, whether `end` of the groups lies in a matrix behind this one)
// for groups [begin, end) of several matrices, one behind the other.
template <class Function>
void ForEachMatrix(std::span<const StreamOutput> outputs, size_t begin, size_t end,
                   const Function& fn) {
  size_t first = 0;  // group of the matrix
  for (const StreamOutput& out : outputs) {
    const size_t last = first + TileGroups(*out.matrix);
    if (begin < last && first < end) {
      const size_t from = std::max(begin, first) - first, to = std::min(end, last) - first;
      fn(out, from * kGroupTiles, std::min(to * kGroupTiles, Tiles(*out.matrix)), end >= last);
    }
    first = last;
  }
}

void Products(std::span<const StreamOutput> outputs, const StreamLayout& layout,
              const Operand& operand, size_t tokens) {
  size_t groups = 0;
  for (const StreamOutput& out : outputs) groups += TileGroups(*out.matrix);
  const size_t bytes = groups * kGroupTiles * layout.tile_bytes() * tokens;
  ParallelForward(groups, WorthHandingOut(groups, bytes), [&](size_t begin, size_t end, bool more) {
    ForEachMatrix(outputs, begin, end,
                  [&](const StreamOutput& out, size_t first, size_t last, bool whole) {
                    ProductTiles(layout, operand, out, tokens, first, last, more && !whole);
                  });
  });
}

// The derived ones of n samples; those that would reach before the first are zero.
void DeriveSamples(const MapSpec& spec, const float* q, size_t n, float* d) {
  const size_t reach = DerivedReach(spec);
  for (size_t j = 0; j < n; ++j) {
    d[j] = j < reach ? 0.0f : 1.0f;
    for (size_t b = 0; j >= reach && b <= reach; ++b) {
      if ((spec.derived >> b & 1) != 0) d[j] *= q[j - b];
    }
  }
}

// Samples of row r as floats, without padding.
class RowSamples {
 public:
  RowSamples(const StreamMatrix& w, const StreamLayout& layout, Packing packing)
      : w_(w), layout_(layout), packing_(packing) {}

  void Read(size_t row, float* q) const {
    const uint8_t* bytes = w_.bits + row / kTileRows * layout_.tile_bytes() + row % kTileRows;
    const size_t minus = layout_.row_bytes * kTileRows;
    for (const Segment& segment : layout_.segments) {
      if (segment.derived) continue;
      const uint8_t* at = bytes + segment.first_byte * kTileRows;
      float* samples = q + segment.first_sample;
      const size_t per_byte = packing_ == Packing::kTernaryPacked ? 5 : 8;
      for (size_t i = 0; i < segment.samples; i += per_byte, at += kTileRows) {
        const size_t count = std::min(per_byte, segment.samples - i);
        if (packing_ == Packing::kTernaryPacked) {
          uint8_t plus_bits = 0, minus_bits = 0;
          UnpackTrits(*at, &plus_bits, &minus_bits);
          Spread(plus_bits, minus_bits, count, samples + i);
        } else {
          const uint8_t minus_bits = packing_ == Packing::kBinary ? uint8_t(~*at) : at[minus];
          Spread(*at, minus_bits, count, samples + i);
        }
      }
    }
  }

 private:
  // Bit i of plus less that of minus.
  static void Spread(unsigned plus, unsigned minus, size_t count, float* samples) {
    for (size_t i = 0; i < count; ++i) samples[i] = float(int(plus >> i & 1) - int(minus >> i & 1));
  }

  const StreamMatrix& w_;
  const StreamLayout& layout_;
  Packing packing_;
};

}  // namespace

void StreamProduct(const StreamMatrix& w, const ActivationMap& map, TableForm form,
                   const uint8_t* tables, size_t tokens, float* y, size_t y_stride) {
  const StreamOutput output{&w, y, y_stride};
  StreamProducts({&output, 1}, map, form, tables, tokens);
}

void StreamProducts(std::span<const StreamOutput> outputs, const ActivationMap& map, TableForm form,
                    const uint8_t* tables, size_t tokens) {
  const bool derived = map.spec().derived != 0;
  if (const TokenProduct product = TokenProductOf(map.spec().packing, derived);
      tokens == 1 && product.kernel != nullptr) {
    return TokenProducts(outputs, map, product, tables);
  }
  const StreamKernels kernels = ActiveStreamKernels();
  const TableProduct product = TableProductOf(map.spec().packing, tokens, form);
  const Operand operand{.data = tables,
                        .token_bytes = map.table_bytes(),
                        .segment_offset = map.table_offsets().data(),
                        .kernel = product.kernel,
                        .most_tokens = product.most_tokens,
                        .derive = kernels.derive,
                        .derived = map.derived_maps()};
  Products(outputs, map.layout(), operand, tokens);
}

void AnnounceProducts(std::span<const StreamOutput> outputs, const ActivationMap& map) {
  const TokenProduct product = TokenProductOf(map.spec().packing, map.spec().derived != 0);
  if (product.kernel != nullptr) AnnounceTokenProducts(outputs, map, product);
}

size_t PlaneBytes(const ActivationMap& map) { return map.plane_bytes(); }

void PreparePlanes(const ActivationMap& map, const float* x, size_t tokens, size_t x_stride,
                   uint8_t* planes, uint8_t* scratch) {
  map.PreparePlanes(x, tokens, x_stride, planes, scratch);
}

void StreamProductPopcount(const StreamMatrix& w, const ActivationMap& map, const uint8_t* planes,
                           size_t tokens, float* y, size_t y_stride) {
  const StreamKernels kernels = ActiveStreamKernels();
  const bool packed = map.spec().packing == Packing::kTernaryPacked;
  const Operand operand{.data = planes,
                        .token_bytes = map.plane_bytes(),
                        .segment_offset = map.plane_offsets().data(),
                        .kernel = packed ? kernels.popcount_trits : kernels.popcount,
                        .most_tokens = kernels.most_tokens,
                        .derive = kernels.derive,
                        .derived = map.derived_maps()};
  const StreamOutput output{&w, y, y_stride};
  Products({&output, 1}, map.layout(), operand, tokens);
}

void ReconstructRows(const StreamMatrix& w, const ActivationMap& map, size_t first_row, size_t rows,
                     float* out) {
  const StreamLayout& layout = map.layout();
  const size_t columns = map.spec().columns;
  const RowSamples reader(w, layout, map.spec().packing);
  ParallelFor(rows, 1, [&](size_t begin, size_t end, size_t) {
    std::vector<float> q(layout.u_samples);
    for (size_t i = begin; i < end; ++i) {
      const size_t row = first_row + i;
      reader.Read(row, q.data());
      if (map.spec().derived != 0) {
        DeriveSamples(map.spec(), q.data(), layout.row_samples, q.data() + layout.row_samples);
      }
      for (const Segment& segment : layout.segments) {
        const size_t index = w.per_block ? row * layout.blocks + segment.block : row;
        const float scale = RowScale(w, index);
        const float mean = w.means_f16 != nullptr ? RowMean(w, index) : 0.0f;
        float* samples = q.data() + segment.first_sample;
        for (size_t k = 0; k < segment.samples; ++k) samples[k] = scale * samples[k] + mean;
      }
      map.Decimate(q.data(), out + i * columns);
    }
  });
}

}  // namespace sdq::kernels
