// A bitstream as a matrix of 8-bit weights: the definition of the int8 products' integers.
//
// Weight i of a row is sum_k taps[i mod Q][k] q[e - 1 - k] with e = lead + floor((i + 1) P / Q): a
// function of at most L bits, and the sum of functions of fewer. The window is cut, newest samples
// first, into chunks of B bits, and
//   integer weight = sum over chunks of round_half_even(unit^-1 * sum of +-taps of the chunk),
// in [-127, 127]. B is 6, 5 or 4 for Q = 1, Q = 2 and above, so that the tables of four consecutive
// weights fill 64 bytes; 4 for the groups of four whose first window begins before the row.
#ifndef SDQ_KERNELS_INT8_PLAN_H_
#define SDQ_KERNELS_INT8_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/stream_layout.h"

namespace sdq::kernels {

// Immutable.
class Int8Plan {
 public:
  static constexpr size_t kGroup = 4;        // weights of a group
  static constexpr size_t kTableBytes = 64;  // of a chunk
  static constexpr size_t kMostChunks = 3;

  Int8Plan() = default;  // not usable
  explicit Int8Plan(const MapSpec& spec);

  // Whether there are integers: binary samples without derived ones, identity or polyphase with
  // windows of at most 12 samples, Q of at most 16, four windows within 32 bits (OSR up to 4), taps
  // of sane size.
  bool usable() const { return !period_.empty(); }
  // weight = unit * integer, before the row's scale.
  float unit() const { return unit_; }

  // How the index into a chunk's table is made from the 8 bits that begin at a chunk's first bit:
  // (bits & mask) | byte j of pattern, for weight j of the group.
  struct Shape {
    size_t bits = 0;
    size_t chunks = 0;
    uint32_t mask = 0;     // in each byte
    uint32_t pattern = 0;  // byte j
  };
  // Four consecutive weights. Their windows lie in the 4 stream bytes from `byte` on, taken as 32
  // bits; byte j of first_bit[c] is, modulo 64, where chunk c of weight j begins there, and byte
  // 4 + j the same plus 32.
  struct Group {
    int64_t byte = 0;
    const int8_t* tables = nullptr;  // [chunks][kTableBytes]
    const uint64_t* first_bit = nullptr;
  };
  const Shape& ShapeOf(size_t group) const { return group < edge_.size() ? edge_shape_ : shape_; }
  Group At(size_t group) const { return Cursor(*this, group).group(); }
  size_t edge_groups() const { return edge_.size(); }

 private:
  struct Stored {
    int64_t byte = 0;  // within the period
    size_t table = 0;  // in tables_
    uint64_t first_bit[kMostChunks] = {};
  };

 public:
  // Groups of one shape one after the other, without a division for each.
  class Cursor {
   public:
    Cursor(const Int8Plan& plan, size_t group) : plan_(plan) {
      if (group < plan.edge_.size()) {
        stored_ = plan.edge_.data() + group;
        end_ = plan.edge_.data() + plan.edge_.size();
      } else {
        stored_ = plan.period_.data() + group % plan.period_.size();
        end_ = plan.period_.data() + plan.period_.size();
        before_ = int64_t(group / plan.period_.size() * plan.p_);
      }
    }
    Group group() const {
      return {stored_->byte + before_, plan_.tables_.data() + stored_->table, stored_->first_bit};
    }
    // Behind the last edge group this is none: what follows there has another shape.
    void Next() {
      if (++stored_ != end_) return;
      stored_ = plan_.period_.data();
      before_ += int64_t(plan_.p_);
    }

   private:
    const Int8Plan& plan_;
    const Stored* stored_ = nullptr;
    const Stored* end_ = nullptr;
    int64_t before_ = 0;  // bytes of whole periods
  };

 private:
  static Shape MakeShape(size_t bits, size_t window);
  int64_t End(size_t weight) const;
  float Tap(size_t weight, size_t k) const;
  bool ChooseUnit();
  Stored MakeGroup(size_t group, const Shape& shape) const;
  void AddTables(size_t group, const Shape& shape);
  bool Fits(size_t group, const Stored& stored) const;

  size_t p_ = 1, q_ = 1, window_ = 1, lead_ = 0;
  std::vector<float> taps_;
  double per_unit_ = 0;
  float unit_ = 0;
  Shape shape_, edge_shape_;
  std::vector<Stored> edge_;    // group by group from the row's begin
  std::vector<Stored> period_;  // of all groups: 2 Q groups take P bytes
  std::vector<int8_t> tables_;
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_INT8_PLAN_H_
