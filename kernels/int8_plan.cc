#include "kernels/int8_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sdq::kernels {
namespace {

constexpr size_t kMostPhases = 16;
constexpr size_t kMostWindow = 12;
constexpr int64_t kGroupBits = 32;

// Sums of taps that floats can scale to 127 and back without a thought.
constexpr double kSmallestSum = 0x1p-60, kLargestSum = 0x1p60;

}  // namespace

Int8Plan::Int8Plan(const MapSpec& spec) {
  if (spec.packing != Packing::kBinary || spec.derived != 0) return;
  if (spec.decimator == Decimator::kPolyphase) {
    if (spec.block != 0 || spec.window > kMostWindow || spec.osr_den > kMostPhases) return;
    p_ = spec.osr_num;
    q_ = spec.osr_den;
    window_ = spec.window;
    lead_ = spec.lead;
    taps_ = spec.taps;
  } else if (spec.decimator == Decimator::kIdentity) {
    taps_ = {1.0f};
  } else {
    return;
  }
  if (!ChooseUnit()) return;
  shape_ = MakeShape(q_ == 1 ? 6 : q_ == 2 ? 5 : 4, window_);
  edge_shape_ = MakeShape(4, window_);
  size_t edge_groups = 0;
  while (End(edge_groups * kGroup) < int64_t(window_)) ++edge_groups;
  // Groups of a period with the same phases share their tables; the edge's have their own.
  const size_t sets = std::lcm(kGroup, q_) / kGroup;
  const size_t far = (edge_groups / (2 * q_) + 1) * 2 * q_;  // a period without an edge
  for (size_t set = 0; set < sets; ++set) AddTables(far + set, shape_);
  std::vector<Stored> period;
  for (size_t g = 0; g < 2 * q_; ++g) {
    Stored stored = MakeGroup(far + g, shape_);
    if (!Fits(far + g, stored)) return;
    stored.byte -= int64_t(far / (2 * q_) * p_);
    stored.table = g % sets * shape_.chunks * kTableBytes;
    period.push_back(stored);
  }
  std::vector<Stored> edge;
  for (size_t g = 0; g < edge_groups; ++g) {
    Stored stored = MakeGroup(g, edge_shape_);
    if (!Fits(g, stored)) return;
    stored.table = tables_.size();
    AddTables(g, edge_shape_);
    edge.push_back(stored);
  }
  edge_ = std::move(edge);
  period_ = std::move(period);
}

Int8Plan::Shape Int8Plan::MakeShape(size_t bits, size_t window) {
  const uint32_t pattern = bits == 4 ? 0x30201000u : bits == 5 ? 0x20002000u : 0u;
  const uint32_t mask = (1u << bits) - 1;
  return {bits, (window + bits - 1) / bits, mask * 0x01010101u, pattern};
}

int64_t Int8Plan::End(size_t weight) const { return int64_t(lead_ + (weight + 1) * p_ / q_); }

// 0 where the sample would lie before the row.
float Int8Plan::Tap(size_t weight, size_t k) const {
  return int64_t(k) < End(weight) ? taps_[weight % q_ * window_ + k] : 0.0f;
}

// As fine as the largest weight and the chunks' rounding allow.
bool Int8Plan::ChooseUnit() {
  double largest = 0;
  for (size_t phase = 0; phase < q_; ++phase) {
    double sum = 0;
    for (size_t k = 0; k < window_; ++k) sum += std::abs(double(taps_[phase * window_ + k]));
    largest = std::max(largest, sum);
  }
  if (!(largest >= kSmallestSum && largest <= kLargestSum)) return false;
  const size_t chunks = (window_ + 3) / 4;
  per_unit_ = (127.0 - (chunks == 1 ? 0.0 : 0.5 * double(chunks))) / largest;
  unit_ = static_cast<float>(1.0 / per_unit_);
  return true;
}

Int8Plan::Stored Int8Plan::MakeGroup(size_t group, const Shape& shape) const {
  Stored stored;
  const int64_t first = End(group * kGroup) - int64_t(window_);
  stored.byte = first < 0 ? 0 : first / 8;
  for (size_t c = 0; c < shape.chunks; ++c) {
    const int64_t back = int64_t(std::min((c + 1) * shape.bits, window_));
    for (size_t j = 0; j < kGroup; ++j) {
      const int64_t bit = End(group * kGroup + j) - back - 8 * stored.byte;
      stored.first_bit[c] |= uint64_t(bit & 63) << (8 * j);
      stored.first_bit[c] |= uint64_t((bit + kGroupBits) & 63) << (8 * (j + 4));
    }
  }
  return stored;
}

bool Int8Plan::Fits(size_t group, const Stored& stored) const {
  return End(group * kGroup + kGroup - 1) - 8 * stored.byte <= kGroupBits;
}

void Int8Plan::AddTables(size_t group, const Shape& shape) {
  const size_t entries = size_t{1} << shape.bits;
  for (size_t c = 0; c < shape.chunks; ++c) {
    const size_t back = std::min((c + 1) * shape.bits, window_), width = back - c * shape.bits;
    for (size_t at = 0; at < kTableBytes; ++at) {
      const size_t weight = group * kGroup + at / entries;
      double sum = 0;
      for (size_t t = 0; t < width; ++t) {
        const double tap = double(Tap(weight, back - 1 - t));
        sum += (at >> t & 1) != 0 ? tap : -tap;
      }
      tables_.push_back(static_cast<int8_t>(std::nearbyint(per_unit_ * sum)));
    }
  }
}

}  // namespace sdq::kernels
