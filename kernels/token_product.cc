#include "kernels/token_product.h"

#include <algorithm>
#include <vector>

#include "kernels/parallel.h"
#include "kernels/stream_rows.h"

namespace sdq::kernels {
namespace {

// Tiles that the kernel takes together, `stride` apart.
struct TileGroup {
  size_t first = 0, stride = 0, count = 0;
  size_t Row(size_t tile) const { return (first + tile * stride) * kTileRows; }
};

// The order in which a matrix's tiles are taken, as many together as the kernel takes: each from
// a strip of its own of neighbouring tiles, strips lying one behind the other. So memory is read
// forward in a few places for some pages each, which is up to a fifth faster than to begin anew
// with every tile. (Strips of a whole matrix are slower: less of what is read lies in one of the
// rows that memory has open.) Tiles left over are a group of their own.
class TileOrder {
 public:
  TileOrder(size_t together, size_t tile_bytes)
      : together_(together), width_(std::max<size_t>(1, kStripBytes / tile_bytes)) {}

  size_t Groups(const StreamMatrix& w) const { return (Tiles(w) + together_ - 1) / together_; }
  TileGroup Group(const StreamMatrix& w, size_t index) const {
    const size_t full = Tiles(w) / together_;
    if (index == full) return {full * together_, 1, Tiles(w) % together_};
    const size_t in_strip = index % width_, before = index - in_strip;
    return {before * together_ + in_strip, std::min(width_, full - before), together_};
  }

 private:
  static constexpr size_t kStripBytes = size_t{64} << 10;
  size_t together_, width_;
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
    args_.derived = map.spec().derived;
    args_.tiles = group.count;
    args_.acc = acc_;
  }

  // What the thread takes next.
  void Fetch(const StreamMatrix& w, const TileGroup& next) {
    args_.next_bits = w.bits + next.first * layout_.tile_bytes();
    args_.next_stride = next.stride * layout_.tile_bytes();
  }

  // y: all rows of the matrix.
  void Run(float* y) {
    if (w_.per_block) {
      RunBlocks();
    } else {
      RunRows();
    }
    for (size_t tile = 0; tile < group_.count; ++tile) {
      const size_t first = group_.Row(tile), rows = Rows(tile);
      const float* products = products_ + tile * kTileRows;
      if (w_.bias == nullptr) {
        std::copy_n(products, rows, y + first);
      } else {
        for (size_t r = 0; r < rows; ++r) y[first + r] = products[r] + w_.bias[first + r];
      }
    }
  }

 private:
  static constexpr size_t kRows = kMostTokenTiles * kTileRows;
  using GroupRows = float[kRows];

  size_t Rows(size_t tile) const { return std::min(kTileRows, w_.rows - group_.Row(tile)); }

  void RunSegments(size_t first, size_t end) {
    args_.segments = std::span(layout_.segments).subspan(first, end - first);
    args_.table_offsets = offsets_ + first;
    args_.scales = header_ + first;
    kernel_(args_);
  }

  // base times the factors of all rows, `stride` apart.
  void GatherFactors(const uint16_t* f16, size_t stride, float base, GroupRows& out) const {
    uint32_t halves[kRows] = {};
    for (size_t tile = 0; tile < group_.count; ++tile) {
      const uint16_t* from = f16 + group_.Row(tile) * stride;
      uint32_t* to = halves + tile * kTileRows;
      if (stride == 1 && Rows(tile) == kTileRows) {
        std::copy_n(from, kTileRows, to);
      } else {
        for (size_t r = 0; r < Rows(tile); ++r) to[r] = from[r * stride];
      }
    }
    WidenFactors(halves, kRows, base, out);
  }

  void RunRows() {
    RunSegments(0, layout_.segments.size());
    GroupRows factors;
    GatherFactors(w_.scales_f16, 1, w_.scale_base, factors);
    for (size_t r = 0; r < kRows; ++r) products_[r] = factors[r] * acc_[r];
    if (w_.means_f16 == nullptr) return;
    GatherFactors(w_.means_f16, 1, w_.mean_base, factors);
    const float sum = SumOfBlocks(layout_, header_);
    for (size_t r = 0; r < kRows; ++r) products_[r] += factors[r] * sum;
  }

  // The sum over the blocks of scale * acc + mean * (sum of u).
  void RunBlocks() {
    const std::vector<Segment>& segments = layout_.segments;
    std::fill_n(products_, kRows, 0.0f);
    GroupRows factors;
    for (size_t first = 0, end = 0; first < segments.size(); first = end) {
      const size_t block = segments[first].block;
      while (end < segments.size() && segments[end].block == block) ++end;
      RunSegments(first, end);
      GatherFactors(w_.scales_f16 + block, layout_.blocks, w_.scale_base, factors);
      for (size_t r = 0; r < kRows; ++r) products_[r] += factors[r] * acc_[r];
      if (w_.means_f16 == nullptr) continue;
      GatherFactors(w_.means_f16 + block, layout_.blocks, w_.mean_base, factors);
      const float sum = header_[segments.size() + block];
      for (size_t r = 0; r < kRows; ++r) products_[r] += factors[r] * sum;
    }
  }

  const StreamMatrix& w_;
  const StreamLayout& layout_;
  TokenKernel kernel_;
  const size_t* offsets_;
  const float* header_;
  TileGroup group_;
  TokenArgs args_;
  alignas(64) GroupRows acc_ = {};
  alignas(64) GroupRows products_;
};

// A group of one of several matrices that are taken one behind the other.
class GroupCursor {
 public:
  GroupCursor(std::span<const StreamOutput> outputs, const TileOrder& order, size_t index)
      : outputs_(outputs), order_(&order), group_(index) {
    SkipFinished();
  }
  bool at_end() const { return outputs_.empty(); }
  const StreamOutput& output() const { return outputs_.front(); }
  TileGroup group() const { return order_->Group(*output().matrix, group_); }
  GroupCursor Next() const {
    GroupCursor next = *this;
    ++next.group_;
    next.SkipFinished();
    return next;
  }

 private:
  void SkipFinished() {
    while (!at_end() && group_ >= order_->Groups(*output().matrix)) {
      group_ -= order_->Groups(*output().matrix);
      outputs_ = outputs_.subspan(1);
    }
  }

  std::span<const StreamOutput> outputs_;
  const TileOrder* order_;
  size_t group_;
};

}  // namespace

void TokenProducts(std::span<const StreamOutput> outputs, const ActivationMap& map,
                   const TokenProduct& product, const uint8_t* tables) {
  const size_t tile_bytes = map.layout().tile_bytes();
  const TileOrder order(product.tiles, tile_bytes);
  size_t groups = 0;
  for (const StreamOutput& out : outputs) groups += order.Groups(*out.matrix);
  const size_t grain = WorthHandingOut(groups, groups * product.tiles * tile_bytes);
  ParallelForward(groups, grain, [&](size_t begin, size_t end, bool more) {
    GroupCursor at(outputs, order, begin);
    for (size_t group = begin; group < end; ++group) {
      GroupProduct here(*at.output().matrix, map, product.kernel, tables, at.group());
      const GroupCursor next = at.Next();
      if (group + 1 < end || (more && !next.at_end())) {
        here.Fetch(*next.output().matrix, next.group());
      }
      here.Run(at.output().y);
      at = next;
    }
  });
}

}  // namespace sdq::kernels
