#include "converter/trellis.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <numeric>

#include "converter/trellis_core.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

constexpr uint32_t kMaxStates = 65536;
constexpr uint32_t kMaxRadix = 256;      // a way into a state is one byte
constexpr uint32_t kMaxParents = 32768;  // a survivor's number is 16 bits

// letters^exponent, or `limit` + 1 if that is larger than `limit`.
uint32_t PowerUpTo(uint32_t letters, uint32_t exponent, uint32_t limit) {
  uint64_t power = 1;
  for (uint32_t i = 0; i < exponent && power <= limit; ++i) power *= letters;
  return uint32_t(std::min<uint64_t>(power, uint64_t(limit) + 1));
}

float LetterValue(uint32_t digit, uint32_t letters) {
  return letters == 2 ? (digit != 0 ? 1.0f : -1.0f) : float(digit) - 1.0f;
}

// The product of the samples of `state` (two letters) that `derived` names: -1 for an odd number of
// zero bits.
float DerivedValue(uint32_t state, uint32_t derived) {
  return std::popcount(~state & derived) % 2 == 0 ? 1.0f : -1.0f;
}

// Values of all states with one phase's taps; samples older than `known` count as zero.
std::vector<float> StateValues(const format::DecimatorSpec& decimator, size_t phase, uint64_t known,
                               uint32_t letters, uint32_t states, uint32_t padded) {
  const float* taps = &decimator.taps[phase * format::PhaseTaps(decimator)];
  const uint32_t seen = uint32_t(std::min<uint64_t>(decimator.window, known));
  const uint32_t reach = format::DerivedReach(decimator);
  std::vector<float> values(padded, 0.0f);
  for (uint32_t c = 0; c < states; ++c) {
    uint32_t rest = c;
    for (uint32_t k = 0; k < seen; ++k, rest /= letters) {
      values[c] += taps[k] * LetterValue(rest % letters, letters);
    }
    for (uint32_t k = 0; decimator.derived != 0 && k + reach < seen; ++k) {
      values[c] += taps[decimator.window + k] * DerivedValue(c >> k, decimator.derived);
    }
  }
  return values;
}

}  // namespace

Result<Trellis> Trellis::Create(const format::DecimatorSpec& decimator, uint32_t letters) {
  const uint32_t q = decimator.osr_den;
  const uint32_t window = decimator.window;
  if (decimator.kind != format::DecimatorKind::kPolyphase || q == 0 || window == 0 ||
      format::DerivedReach(decimator) >= window || decimator.block != 0 ||
      decimator.taps.size() != size_t(q) * format::PhaseTaps(decimator)) {
    return Status::InvalidArgument("the trellis needs a polyphase decimator of the whole row");
  }
  if (decimator.derived != 0 && letters != 2) {
    return Status::InvalidArgument("a derived stream of other than binary samples");
  }
  if (letters < 2 || letters > 3) {
    return Status::InvalidArgument(fmt::format("an alphabet of {} letters", letters));
  }
  Trellis trellis;
  trellis.decimator_ = decimator;
  trellis.letters_ = letters;
  trellis.states_ = PowerUpTo(letters, window, kMaxStates);
  if (trellis.states_ > kMaxStates) {
    return Status::InvalidArgument(
        fmt::format("a window of {} samples has too many states", window));
  }
  trellis.padded_states_ = trellis.states_ + uint32_t(kSlack);
  for (uint32_t p = 0; p < q; ++p) {
    TrellisPhase phase;
    phase.new_samples =
        uint32_t(uint64_t(p + 1) * decimator.osr_num / q - uint64_t(p) * decimator.osr_num / q);
    phase.radix = PowerUpTo(letters, phase.new_samples, kMaxRadix);
    if (phase.radix > kMaxRadix || phase.new_samples > window) {
      return Status::InvalidArgument(
          fmt::format("{} new samples per weight in a window of {}", phase.new_samples, window));
    }
    phase.parents = trellis.states_ / phase.radix;
    if (phase.parents > kMaxParents) {
      return Status::InvalidArgument(fmt::format("{} survivors per weight", phase.parents));
    }
    phase.values =
        StateValues(decimator, p, window, letters, trellis.states_, trellis.padded_states_);
    phase.parent.resize(trellis.padded_states_);
    for (uint32_t c = 0; c < trellis.padded_states_; ++c)
      phase.parent[c] = int32_t(c / phase.radix);
    trellis.max_parents_ = std::max(trellis.max_parents_, phase.parents);
    trellis.phases_.push_back(std::move(phase));
  }
  if (decimator.osr_num == 0) return Status::InvalidArgument("an OSR of zero");
  for (size_t i = 0; trellis.End(i) < window; ++i) {
    trellis.head_values_.push_back(StateValues(decimator, i % q, trellis.End(i), letters,
                                               trellis.states_, trellis.padded_states_));
  }
  return trellis;
}

uint64_t Trellis::End(size_t column) const {
  return decimator_.lead + (uint64_t(column) + 1) * decimator_.osr_num / decimator_.osr_den;
}

size_t Trellis::RowSamples(size_t n) const { return n == 0 ? 0 : size_t(End(n - 1)); }

void Trellis::Samples(const std::vector<uint32_t>& path, int8_t* samples) const {
  uint64_t before = 0;
  for (size_t i = 0; i < path.size(); ++i) {
    const uint64_t end = End(i);
    // The first state also holds what came before it.
    const uint64_t fresh = i == 0 ? std::min<uint64_t>(end, decimator_.window) : end - before;
    before = end;
    uint32_t rest = path[i];
    for (uint64_t k = 0; k < fresh; ++k) {
      const uint32_t digit = letters_ == 2 ? rest & 1 : rest % 3;
      rest = letters_ == 2 ? rest >> 1 : rest / 3;
      samples[end - 1 - k] = int8_t(LetterValue(digit, letters_));
    }
  }
}

TrellisRow::TrellisRow(const Trellis& trellis, size_t columns, size_t generation_limit)
    : targets(columns),
      cost(hwy::AllocateAligned<float>(trellis.padded_states())),
      ancestor(2 * (trellis.max_parents() + kSlack)),
      back(columns * trellis.max_parents() + kSlack) {
  if (generation_limit == 0) return;
  const size_t floats = trellis.max_parents() * kChunkColumns;
  lanes = hwy::AllocateAligned<float>(2 * floats);
  generations.resize(generation_limit);
  for (Generation& generation : generations) {
    generation.errors = hwy::AllocateAligned<float>(floats);
    generation.parent.resize(trellis.max_parents());
  }
}

TrellisScratch::TrellisScratch(const Trellis& trellis)
    : best(hwy::AllocateAligned<float>(trellis.max_parents() + kSlack)),
      target(hwy::AllocateAligned<float>(trellis.max_parents() + kSlack)),
      error(hwy::AllocateAligned<float>(trellis.max_parents() + kSlack)),
      state(hwy::AllocateAligned<int32_t>(trellis.max_parents() + kSlack)),
      source(hwy::AllocateAligned<int32_t>(trellis.max_parents() + kSlack)),
      renumber(trellis.max_parents()) {
  std::fill_n(best.get(), trellis.max_parents() + kSlack, 0.0f);
  std::fill_n(target.get(), trellis.max_parents() + kSlack, 0.0f);
  for (auto& sum : sums) sum = hwy::AllocateAligned<float>(trellis.max_parents() * kChunkColumns);
}

namespace {

// A group of rows goes through the columns together, so that each part of A is read once per group.
class RowGroup {
 public:
  RowGroup(const Trellis& trellis, size_t capacity, size_t n, const Feedback* feedback,
           size_t feedback_window)
      : trellis_(trellis), n_(n), feedback_(feedback), scratch_(trellis), path_(n) {
    window_ =
        std::max<size_t>(1, (std::min(feedback_window, n) + kChunkColumns - 1) / kChunkColumns);
    for (size_t r = 0; r < capacity; ++r) {
      rows_.emplace_back(trellis, n, feedback != nullptr ? window_ : 0);
    }
    band_ = hwy::AllocateAligned<float>((window_ + 1) * kChunkColumns * kChunkColumns);
    decided_.resize(capacity * kChunkColumns);
    unit_.assign(feedback == nullptr ? n : 0, 1.0f);
  }

  // weights, values: [count][n]; samples: [count][trellis.RowSamples(n)].
  void Encode(const float* weights, size_t count, int8_t* samples, float* values) {
    for (size_t r = 0; r < count; ++r) Begin(weights + r * n_, rows_[r]);
    for (size_t first = 0; first < n_; first += kChunkColumns) {
      const TrellisChunk chunk = MakeChunk(first);
      const size_t end = first + chunk.count;
      bool decided = false;
      for (size_t r = 0; r < count; ++r) {
        RunChunk(trellis_, chunk, rows_[r], scratch_);
        decided = Decide(end, rows_[r], &decided_[r * kChunkColumns]);
      }
      if (decided) FeedBack(count, end);
    }
    for (size_t r = 0; r < count; ++r) {
      Finish(rows_[r], samples + r * trellis_.RowSamples(n_), values + r * n_);
    }
  }

  uint64_t forced() const {
    uint64_t sum = 0;
    for (const TrellisRow& row : rows_) sum += row.forced;
    return sum;
  }

 private:
  void Begin(const float* weights, TrellisRow& row) {
    row.weights = weights;
    std::copy_n(weights, n_, row.targets.begin());
    std::fill_n(row.cost.get(), trellis_.padded_states(), 0.0f);  // any state may come first
    row.first_generation = 0;
    row.live_generations = 0;
  }

  // The part of A that concerns the chunk and the errors that are still open.
  TrellisChunk MakeChunk(size_t first) {
    TrellisChunk chunk;
    chunk.first = first;
    chunk.count = std::min(kChunkColumns, n_ - first);
    chunk.weight_of_error = feedback_ != nullptr ? feedback_->d.data() : unit_.data();
    if (feedback_ == nullptr) return chunk;
    const size_t open = std::min(first, window_ * kChunkColumns);
    chunk.band_first = first - open;
    for (size_t i = 0; i < open + kChunkColumns; ++i) {
      const size_t row = chunk.band_first + i;
      for (size_t k = 0; k < kChunkColumns; ++k) {
        const bool used = row < first + k && first + k < n_;
        band_[i * kChunkColumns + k] = used ? feedback_->a[row * n_ + first + k] : 0.0f;
      }
    }
    chunk.band = band_.get();
    return chunk;
  }

  // At a chunk's end: keeps costs small and decides the oldest generation if the window is full.
  // True if it decided; then `errors` are those of the columns from `decided_column_` on.
  bool Decide(size_t end, TrellisRow& row, float* errors) {
    float* cost = row.cost.get();
    const size_t best = Settle(trellis_.states(), cost);
    if (row.live_generations < window_) return false;
    const TrellisPhase& phase = trellis_.Phase(end - 1);
    const size_t root = Roots(row, phase.parents, size_t(phase.parent[best]));
    bool disagree = false;
    for (size_t p = 0; p < phase.parents; ++p) {
      if (roots_[p] == root) continue;
      float* children = cost + p * phase.radix;
      disagree = disagree || children[0] < kDroppedCost / 2;
      std::fill_n(children, phase.radix, kDroppedCost);
    }
    if (disagree) ++row.forced;
    const Generation& oldest = row.At(0);
    std::copy_n(&oldest.errors[root * kChunkColumns], kChunkColumns, errors);
    decided_column_ = oldest.first_column;
    row.first_generation = (row.first_generation + 1) % row.generations.size();
    --row.live_generations;
    return true;
  }

  // Fills roots_ with the node of the oldest generation that each survivor descends from; returns
  // that of survivor `best`. From the trunk to the branches: older generations have fewer nodes.
  size_t Roots(TrellisRow& row, size_t parents, size_t best) {
    std::vector<uint16_t>& of_node = roots_of_nodes_;
    of_node.resize(row.At(0).count);
    std::iota(of_node.begin(), of_node.end(), uint16_t{0});
    for (size_t age = 1; age < row.live_generations; ++age) {
      const Generation& generation = row.At(age);
      roots_.resize(generation.count);
      for (size_t i = 0; i < generation.count; ++i) roots_[i] = of_node[generation.parent[i]];
      of_node.swap(roots_);
    }
    roots_.resize(parents);
    const int32_t* ancestor = row.Ancestors(trellis_);
    for (size_t p = 0; p < parents; ++p) roots_[p] = of_node[size_t(ancestor[p])];
    return roots_[best];
  }

  void FeedBack(size_t count, size_t begin) {
    const float* a = &feedback_->a[decided_column_ * n_];
    targets_.clear();
    for (size_t r = 0; r < count; ++r) targets_.push_back(rows_[r].targets.data());
    AddDecidedErrors(decided_.data(), count, a, n_, begin, n_, targets_.data());
  }

  // Follows the best survivor back to the first column.
  void Finish(TrellisRow& row, int8_t* samples, float* values) {
    size_t state = Settle(trellis_.states(), row.cost.get());
    for (size_t column = n_; column-- > 0;) {
      const TrellisPhase& phase = trellis_.Phase(column);
      path_[column] = uint32_t(state);
      values[column] = trellis_.Values(column, phase)[state];
      const size_t parent = size_t(phase.parent[state]);
      state = parent + row.back[column * trellis_.max_parents() + parent] * size_t(phase.parents);
    }
    trellis_.Samples(path_, samples);
  }

  const Trellis& trellis_;
  size_t n_;
  const Feedback* feedback_;
  size_t window_;  // generations that stay open
  std::vector<TrellisRow> rows_;
  TrellisScratch scratch_;
  hwy::AlignedFreeUniquePtr<float[]> band_;
  std::vector<float> decided_;  // [rows][16]
  size_t decided_column_ = 0;
  std::vector<float> unit_;
  std::vector<float*> targets_;           // of the rows
  std::vector<uint16_t> roots_;           // of the survivors
  std::vector<uint16_t> roots_of_nodes_;  // of a generation
  std::vector<uint32_t> path_;
};

}  // namespace

TrellisStatistics EncodeRows(const Trellis& trellis, const float* weights, size_t rows, size_t n,
                             const Feedback* feedback, size_t feedback_window, int8_t* samples,
                             float* values) {
  // A group's survivors should stay in the second-level cache.
  const size_t group = trellis.states() <= 512 ? 16 : 4;
  std::vector<uint64_t> forced(kernels::Threads(), 0);
  const size_t row_samples = trellis.RowSamples(n);
  kernels::ParallelFor(rows, group, [&](size_t begin, size_t end, size_t thread) {
    RowGroup worker(trellis, group, n, feedback, feedback_window);
    for (size_t r = begin; r < end; r += group) {
      worker.Encode(weights + r * n, std::min(group, end - r), samples + r * row_samples,
                    values + r * n);
    }
    forced[thread] += worker.forced();
  });
  TrellisStatistics statistics;
  for (const uint64_t count : forced) statistics.forced += count;
  return statistics;
}

}  // namespace sdq::converter
