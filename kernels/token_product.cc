#include "kernels/token_product.h"

#include <algorithm>
#include <vector>

#include "kernels/fetch.h"
#include "kernels/finish_tiles.h"
#include "kernels/idle_fetch.h"
#include "kernels/parallel.h"
#include "kernels/stream_rows.h"

namespace sdq::kernels {
namespace {

// Tiles that the kernel takes together, `stride` apart.
struct TileGroup {
  size_t first = 0, stride = 0, count = 0;
  size_t Row(size_t tile) const { return (first + tile * stride) * kTileRows; }
};

// One token, one group of tiles. The kernel takes all segments of a block at once.
class GroupProduct {
 public:
  GroupProduct(const StreamMatrix& w, const ActivationMap& map, TokenKernel kernel,
               const uint8_t* tables, const TileGroup& group)
      : w_(w),
        layout_(map.layout()),
        kernel_(kernel),
        offsets_(map.table_offsets().data()),
        header_(reinterpret_cast<const float*>(tables)),
        group_(group) {
    args_.bits = w.bits + group.first * layout_.tile_bytes();
    args_.tile_stride = group.stride * layout_.tile_bytes();
    args_.plane_stride = layout_.planes == 2 ? layout_.row_bytes * kTileRows : 0;
    args_.row_bytes = layout_.row_bytes;
    args_.tables = tables;
    args_.derived = map.derived_maps();
    args_.tiles = group.count;
    args_.acc = acc_;
  }

  // What the thread takes next.
  void Fetch(const StreamMatrix& w, const TileGroup& next) {
    args_.next_bits = w.bits + next.first * layout_.tile_bytes();
    args_.next_stride = next.stride * layout_.tile_bytes();
    if (w.per_block) return;  // has factors between its segments
    for (size_t tile = 0; tile < next.count; ++tile) {
      FetchLine<1>(w.scales_f16 + next.Row(tile), 0);
    }
  }

  // y: all rows of the matrix.
  void Run(float* y) {
    if (w_.per_block) return RunBlocks(y);
    RunSegments(0, layout_.segments.size());
    const float sum = w_.means_f16 != nullptr ? SumOfBlocks(layout_, header_) : 0.0f;
    FinishTiles(w_, group_.Row(0), group_.stride * kTileRows, group_.count, acc_, sum, y);
  }

 private:
  using TileRows = float[kTileRows];

  void RunSegments(size_t first, size_t end) {
    args_.segments = std::span(layout_.segments).subspan(first, end - first);
    args_.table_offsets = offsets_ + first;
    args_.scales = header_ + first;
    kernel_(args_);
  }

  // products += scale * acc + mean * sum, with a tile's factors of one block.
  void AddBlock(size_t block, const float* acc, size_t row, size_t rows, TileRows& products) const {
    const size_t first = row * layout_.blocks + block;
    TileRows factors;
    WidenFactors(w_.scales_f16 + first, layout_.blocks, rows, w_.scale_base, factors);
    for (size_t r = 0; r < rows; ++r) products[r] += factors[r] * acc[r];
    if (w_.means_f16 == nullptr) return;
    const float sum = header_[layout_.segments.size() + block];
    WidenFactors(w_.means_f16 + first, layout_.blocks, rows, w_.mean_base, factors);
    for (size_t r = 0; r < rows; ++r) products[r] += factors[r] * sum;
  }

  void RunBlocks(float* y) {
    const std::vector<Segment>& segments = layout_.segments;
    TileRows products[kMostTokenTiles] = {};
    const auto rows_of = [&](size_t tile) {
      return std::min(kTileRows, w_.rows - group_.Row(tile));
    };
    for (size_t first = 0, end = 0; first < segments.size(); first = end) {
      const size_t block = segments[first].block;
      while (end < segments.size() && segments[end].block == block) ++end;
      RunSegments(first, end);
      for (size_t tile = 0; tile < group_.count; ++tile) {
        AddBlock(block, acc_ + tile * kTileRows, group_.Row(tile), rows_of(tile), products[tile]);
      }
    }
    for (size_t tile = 0; tile < group_.count; ++tile) {
      float* to = y + group_.Row(tile);
      std::copy_n(products[tile], rows_of(tile), to);
      if (w_.bias == nullptr) continue;
      const float* bias = w_.bias + group_.Row(tile);
      for (size_t r = 0; r < rows_of(tile); ++r) to[r] += bias[r];
    }
  }

  const StreamMatrix& w_;
  const StreamLayout& layout_;
  TokenKernel kernel_;
  const size_t* offsets_;
  const float* header_;
  TileGroup group_;
  TokenArgs args_;
  alignas(64) float acc_[kMostTokenTiles * kTileRows];
};

// The groups of several matrices, one matrix behind the other, as many tiles together as the kernel
// takes: each from a strip of its own of neighbouring tiles, strips lying one behind the other. So
// memory is read forward in a few places for some pages each, instead of beginning anew with every
// tile, where hardware prefetchers have to learn again. (Strips of a whole matrix are slower than
// these.) Tiles left over are a group of their own.
class GroupCursor {
 public:
  GroupCursor(std::span<const StreamOutput> outputs, size_t together, size_t tile_bytes,
              size_t index)
      : outputs_(outputs),
        together_(together),
        width_(std::max<size_t>(1, kStripBytes / std::max<size_t>(tile_bytes, 1))),
        group_(index) {
    for (; !at_end() && group_ >= Groups(*output().matrix, together); NextMatrix()) {
      group_ -= Groups(*output().matrix, together);
    }
    EnterMatrix();
  }

  bool at_end() const { return outputs_.empty(); }
  const StreamOutput& output() const { return outputs_.front(); }
  TileGroup group() const {
    if (group_ == full_) return {full_ * together_, 1, tiles_ - full_ * together_};
    return {strips_ * (together_ - 1) + group_, std::min(width_, full_ - strips_), together_};
  }
  // Groups from this one on that lie in the same strips.
  size_t InStrips() const {
    return group_ == full_ ? 1 : std::min(strips_ + width_, full_) - group_;
  }
  void Advance() {
    ++group_;
    if (group_ == strips_ + width_) strips_ += width_;
    if (group_ * together_ < tiles_) return;
    NextMatrix();
    group_ = 0;
    EnterMatrix();
  }

  static size_t Groups(const StreamMatrix& w, size_t together) {
    return (Tiles(w) + together - 1) / together;
  }

 private:
  void NextMatrix() { outputs_ = outputs_.subspan(1); }
  void EnterMatrix() {
    while (!at_end() && output().matrix->rows == 0) NextMatrix();
    if (at_end()) return;
    tiles_ = Tiles(*output().matrix);
    full_ = tiles_ / together_;
    strips_ = group_ / width_ * width_;
  }

  std::span<const StreamOutput> outputs_;
  size_t together_, width_;
  size_t group_;
  size_t tiles_ = 0, full_ = 0;  // of the matrix; groups of all their tiles
  size_t strips_ = 0;            // the first group of the strips
};

// Several matrices' groups, as threads share them out.
struct TokenWork {
  TokenWork(std::span<const StreamOutput> outputs, const ActivationMap& map, size_t together)
      : tile_bytes(map.layout().tile_bytes()) {
    for (const StreamOutput& out : outputs) groups += GroupCursor::Groups(*out.matrix, together);
    bytes = groups * together * tile_bytes;
    grain = WorthHandingOut(groups, bytes);
  }
  size_t tile_bytes;
  size_t groups = 0, bytes = 0, grain = 1;
};

}  // namespace

void TokenProducts(std::span<const StreamOutput> outputs, const ActivationMap& map,
                   const TokenProduct& product, const uint8_t* tables) {
  const TokenWork work(outputs, map, product.tiles);
  ParallelForward(work.groups, work.grain, [&](size_t begin, size_t end, bool more) {
    GroupCursor at(outputs, product.tiles, work.tile_bytes, begin);
    for (size_t left = end - begin; left > 0; --left) {
      const StreamOutput& out = at.output();
      GroupProduct here(*out.matrix, map, product.kernel, tables, at.group());
      at.Advance();
      if (left > 1 || (more && !at.at_end())) here.Fetch(*at.output().matrix, at.group());
      here.Run(out.y);
    }
  });
}

void AnnounceTokenProducts(std::span<const StreamOutput> outputs, const ActivationMap& map,
                           const TokenProduct& product) {
  if (Threads() == 1) return;
  const TokenWork work(outputs, map, product.tiles);
  // Small matrices are in the caches, and to say so much takes time as well.
  if (work.bytes < 2 * kIdleFetchBytes) return;
  for (size_t thread = 1; thread < Threads(); ++thread) {  // the caller has no time to wait
    const ForwardShare share = ShareOf(work.groups, work.grain, thread);
    if (share.begin == share.end) return;
    const GroupCursor at(outputs, product.tiles, work.tile_bytes, share.begin);
    const TileGroup group = at.group();
    const size_t tiles = std::min(share.end - share.begin, at.InStrips());
    const size_t bytes = std::min(tiles * work.tile_bytes, kIdleFetchBytes / group.count);
    SetIdleFetch(thread, at.output().matrix->bits + group.first * work.tile_bytes,
                 group.stride * work.tile_bytes, group.count, bytes);
  }
}

}  // namespace sdq::kernels
