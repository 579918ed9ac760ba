#include "converter/rate_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "converter/file_plan.h"
#include "converter/knapsack.h"
#include "converter/stored_shape.h"
#include "format/records.h"

namespace sdq::converter {
namespace {

constexpr uint64_t kSampleUnits = 7200;  // samples x 7200 are whole for denominators up to 10, 16
constexpr int kMaxRounds = 16;
constexpr uint64_t kScaleBytes = 2;  // per row of a table, however it is stored

struct Option {
  Rate rate;
  uint64_t cost = 0;
  std::optional<size_t> decimator;  // index into overheads; none for 8-bit rows
  double loss = 0;
};

using Assignment = std::vector<size_t>;  // an option per linear or table

// The limit and all costs as whole numbers of one unit: samples / kSampleUnits or bytes.
class Planner {
 public:
  Planner(const Checkpoint& checkpoint, const ConvertOptions& options,
          const std::vector<RateCandidates>& linears, const RateBudget& budget)
      : checkpoint_(checkpoint), options_(options), linears_(linears), budget_(budget) {}

  Status Check() {
    SDQ_RETURN_IF_ERROR(ListOptions());
    SDQ_RETURN_IF_ERROR(FindBase());
    return CheckLimit();
  }

  Result<std::vector<NamedRate>> Run() {
    SDQ_RETURN_IF_ERROR(Check());
    std::optional<Assignment> best;
    const std::vector<std::vector<bool>> fixed = TablesInRows();
    for (size_t i = 0; i < fixed.size() && !(best && Near(*best)); ++i) {
      for (const uint32_t den : {4u, 8u, 16u, UINT32_MAX}) {
        SDQ_ASSIGN_OR_RETURN(const std::optional<Assignment> found, Solve(den, fixed[i]));
        if (found && (!best || Better(*found, *best))) best = found;
      }
    }
    // The cheapest assignment fits (CheckLimit), and the first rounds of Solve know it.
    return Named(best ? *best : Cheapest());
  }

 private:
  bool bytes_of_file() const { return budget_.kind == RateBudget::Kind::kFileBytes; }

  Status ListOptions() {
    std::map<std::string, TensorShape> shapes;
    for (const TensorShape& shape : ExpectedTensors(checkpoint_.config())) {
      shapes[shape.name] = shape;
    }
    std::vector<format::DecimatorSpec> decimators;
    for (const RateCandidates& linear : linears_) {
      const TensorShape& shape = shapes.at(linear.name);
      weights_ += uint64_t(shape.rows) * uint64_t(shape.columns);
      if (!shape.is_linear) {
        if (budget_.kind == RateBudget::Kind::kMeanOsr) {
          return Status::InvalidArgument("8-bit rows have no OSR: " + shape.name +
                                         " needs a budget of bytes to share");
        }
        table_scales_ += kScaleBytes * uint64_t(shape.rows);
      }
      is_table_.push_back(!shape.is_linear);
      std::vector<Option>& options = items_.emplace_back();
      for (size_t k = 0; k < linear.rates.size(); ++k) {
        const Rate rate = linear.rates[k];
        const double loss = k < linear.losses.size() ? linear.losses[k] : 0.0;
        if (rate == kEightBitRows) {
          options.push_back(
              {rate, Padded(uint64_t(shape.rows) * uint64_t(shape.columns)), {}, loss});
          continue;
        }
        SDQ_ASSIGN_OR_RETURN(const StreamShape stream,
                             DescribeStream(options_, uint32_t(shape.columns), rate));
        const auto known = std::find(decimators.begin(), decimators.end(), stream.decimator);
        const size_t index = size_t(known - decimators.begin());
        if (known == decimators.end()) {
          decimators.push_back(stream.decimator);
          overheads_.push_back(Overhead(stream.decimator));
        }
        options.push_back({rate, Cost(shape, stream), index, loss});
      }
    }
    return Status::Ok();
  }

  uint64_t Overhead(const format::DecimatorSpec& decimator) const {
    if (!bytes_of_file()) return 0;
    uint64_t bytes = format::kDecimatorRecordBytes;
    if (!decimator.taps.empty()) {
      bytes += format::AlignUp(4 * decimator.taps.size(), format::kDefaultAlignment) +
               format::kSectionEntryBytes;
    }
    return bytes;
  }

  uint64_t Cost(const TensorShape& shape, const StreamShape& stream) const {
    const auto rows = uint32_t(shape.rows);
    const auto columns = uint32_t(shape.columns);
    if (budget_.kind == RateBudget::Kind::kMeanOsr) {
      return uint64_t(std::llround(double(uint64_t(rows) * columns) * stream.decimator.osr() *
                                   double(kSampleUnits)));
    }
    return Padded(format::BitstreamBytes(stream.decimator, options_.alphabet, rows, columns));
  }

  // Bytes of a section, as the budget counts them.
  uint64_t Padded(uint64_t bytes) const {
    return bytes_of_file() ? format::AlignUp(bytes, format::kDefaultAlignment) : bytes;
  }

  // What is spent besides costs and overheads, and the limit.
  Status FindBase() {
    if (budget_.kind == RateBudget::Kind::kMeanOsr) {
      limit_ = uint64_t(budget_.limit * double(weights_) * double(kSampleUnits) * (1 + 1e-12));
      return Status::Ok();
    }
    SDQ_ASSIGN_OR_RETURN(const FilePlan plan, FilePlan::Create(checkpoint_, options_));
    const Assignment any(items_.size(), 0);
    SDQ_ASSIGN_OR_RETURN(const FilePlan::Bytes bytes, plan.BytesOf(Named(any)));
    if (bytes_of_file()) {
      base_ = bytes.file - Spent(any);
    } else {
      base_ = bytes.streams + table_scales_;
      for (size_t i = 0; i < items_.size(); ++i) {
        if (!is_table_[i]) base_ -= items_[i][any[i]].cost;
      }
    }
    limit_ = uint64_t(bytes_of_file() ? budget_.limit : budget_.limit * double(weights_) / 8);
    return Status::Ok();
  }

  uint64_t Spent(const Assignment& assignment) const {
    std::set<size_t> used;
    uint64_t sum = base_;
    for (size_t i = 0; i < items_.size(); ++i) {
      const Option& option = items_[i][assignment[i]];
      sum += option.cost;
      if (option.decimator && used.insert(*option.decimator).second) {
        sum += overheads_[*option.decimator];
      }
    }
    return sum;
  }

  double Loss(const Assignment& assignment) const {
    double sum = 0;
    for (size_t i = 0; i < items_.size(); ++i) sum += items_[i][assignment[i]].loss;
    return sum;
  }

  Assignment Cheapest() const {
    Assignment cheapest;
    for (const std::vector<Option>& options : items_) {
      cheapest.push_back(size_t(
          std::min_element(options.begin(), options.end(),
                           [](const Option& a, const Option& b) { return a.cost < b.cost; }) -
          options.begin()));
    }
    return cheapest;
  }

  Status CheckLimit() const {
    const uint64_t least = Spent(Cheapest());
    Assignment dearest;
    for (const std::vector<Option>& options : items_) {
      dearest.push_back(size_t(
          std::max_element(options.begin(), options.end(),
                           [](const Option& a, const Option& b) { return a.cost < b.cost; }) -
          options.begin()));
    }
    const uint64_t most = Spent(dearest);
    if (limit_ >= least && double(limit_) * (1 - kBudgetTolerance) <= double(most)) {
      return Status::Ok();
    }
    return Status::OutOfRange(Refusal(least, most));
  }

  std::string Refusal(uint64_t least, uint64_t most) const {
    const auto amount = [&](uint64_t units) {
      return double(units) / double(weights_) /
             (budget_.kind == RateBudget::Kind::kMeanOsr ? double(kSampleUnits) : 0.125);
    };
    switch (budget_.kind) {
      case RateBudget::Kind::kMeanOsr:
        return fmt::format("a mean OSR of {:.4f} cannot be met: from {:.4f} to {:.4f} can be had",
                           amount(limit_), amount(least), amount(most));
      case RateBudget::Kind::kBitsPerWeight:
        return fmt::format("{:.4f} bits per weight cannot be met: from {:.4f} to {:.4f} can be had",
                           amount(limit_), amount(least), amount(most));
      case RateBudget::Kind::kFileBytes:
        break;
    }
    constexpr double kMiB = 0x1p20;
    return fmt::format(
        "a file of {} bytes cannot be met: the smallest that this model, method and window can "
        "give has {} bytes ({:.2f} MiB), the largest {} ({:.2f} MiB)",
        limit_, least, double(least) / kMiB, most, double(most) / kMiB);
  }

  // Sets of items that get 8-bit rows: none, then every set of those that may. Near the highest
  // rate, a table as a stream can lose less than in rows, which take more bytes: the least loss
  // then leaves bytes over, though with the rows all of them could be used.
  std::vector<std::vector<bool>> TablesInRows() const {
    std::vector<std::vector<bool>> sets = {std::vector<bool>(items_.size())};
    for (size_t i = 0; i < items_.size(); ++i) {
      const bool may =
          items_[i].size() > 1 && std::any_of(items_[i].begin(), items_[i].end(),
                                              [](const Option& o) { return InRows(o); });
      for (size_t k = may ? sets.size() : 0; k-- > 0;) {
        sets.push_back(sets[k]);
        sets.back()[i] = true;
      }
    }
    return sets;
  }

  static bool InRows(const Option& option) { return !option.decimator; }

  // Rates whose denominator divides `den` (UINT32_MAX: all), items of `in_rows` in 8-bit rows. What
  // decimators take is not known before they are chosen: it is reserved, and the reserve corrected
  // until it is right.
  Result<std::optional<Assignment>> Solve(uint32_t den, const std::vector<bool>& in_rows) const {
    std::optional<Assignment> best;
    std::vector<std::vector<size_t>> kept(items_.size());
    std::vector<std::vector<Choice>> choices(items_.size());
    for (size_t i = 0; i < items_.size(); ++i) {
      for (size_t k = 0; k < items_[i].size(); ++k) {
        const Option& option = items_[i][k];
        // A linear with one possible rate keeps it.
        if (in_rows[i] && !InRows(option)) continue;
        const bool coarse = InRows(option) || den == UINT32_MAX || den % option.rate.den == 0;
        if (!coarse && items_[i].size() > 1) continue;
        kept[i].push_back(k);
        choices[i].push_back({option.cost, option.loss});
      }
      if (kept[i].empty()) return best;
    }
    uint64_t reserve = 0;
    for (int round = 0; round < kMaxRounds; ++round) {
      if (limit_ < base_ + reserve) break;
      const auto chosen = ChooseWithin(choices, limit_ - base_ - reserve);
      if (!chosen.ok()) break;  // nothing fits beside such a reserve
      Assignment assignment(items_.size());
      uint64_t costs = base_;
      for (size_t i = 0; i < items_.size(); ++i) {
        assignment[i] = kept[i][(*chosen)[i]];
        costs += items_[i][assignment[i]].cost;
      }
      const uint64_t spent = Spent(assignment);
      if (spent <= limit_) {
        Fill(kept, &assignment);
        if (!best || Better(assignment, *best)) best = assignment;
        break;
      }
      reserve = std::max(reserve + 1, spent - costs);
    }
    return best;
  }

  // Single changes that lose less and still fit, best first, until there is none.
  void Fill(const std::vector<std::vector<size_t>>& kept, Assignment* assignment) const {
    for (;;) {
      const double loss = Loss(*assignment);
      double best_loss = loss;
      Assignment best = *assignment;
      Assignment trial = *assignment;
      for (size_t i = 0; i < items_.size(); ++i) {
        const Option& now = items_[i][(*assignment)[i]];
        for (const size_t k : kept[i]) {
          const double changed = loss - now.loss + items_[i][k].loss;
          if (!(changed < best_loss * (1 - 1e-12))) continue;
          trial[i] = k;
          if (Spent(trial) <= limit_) {
            best_loss = changed;
            best = trial;
          }
          trial[i] = (*assignment)[i];
        }
      }
      if (best == *assignment) return;
      *assignment = best;
    }
  }

  bool Near(const Assignment& assignment) const {
    return double(Spent(assignment)) >= double(limit_) * (1 - kBudgetTolerance);
  }
  // Near the limit first, then less loss.
  bool Better(const Assignment& a, const Assignment& b) const {
    if (Near(a) != Near(b)) return Near(a);
    return Loss(a) < Loss(b);
  }

  std::vector<NamedRate> Named(const Assignment& assignment) const {
    std::vector<NamedRate> rates;
    for (size_t i = 0; i < items_.size(); ++i) {
      rates.push_back({linears_[i].name, items_[i][assignment[i]].rate});
    }
    return rates;
  }

  const Checkpoint& checkpoint_;
  const ConvertOptions& options_;
  const std::vector<RateCandidates>& linears_;
  const RateBudget& budget_;
  std::vector<std::vector<Option>> items_;
  std::vector<bool> is_table_;
  std::vector<uint64_t> overheads_;  // bytes of each decimator
  uint64_t table_scales_ = 0;        // bytes
  uint64_t weights_ = 0;
  uint64_t base_ = 0;
  uint64_t limit_ = 0;
};

}  // namespace

Result<std::vector<NamedRate>> RatesWithin(const Checkpoint& checkpoint,
                                           const ConvertOptions& options,
                                           const std::vector<RateCandidates>& linears,
                                           const RateBudget& budget) {
  return Planner(checkpoint, options, linears, budget).Run();
}

Status CheckBudget(const Checkpoint& checkpoint, const ConvertOptions& options,
                   const std::vector<RateCandidates>& linears, const RateBudget& budget) {
  return Planner(checkpoint, options, linears, budget).Check();
}

Result<uint64_t> ParseTargetSize(const std::string& text, uint64_t half_precision_bytes) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end, text.data() + text.size());
  const std::map<std::string, double> units = {
      {"", 1.0},       {"B", 1.0},      {"KiB", 0x1p10},
      {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"%", double(half_precision_bytes) / 100}};
  const auto found = units.find(unit);
  const double bytes = found != units.end() ? number * found->second : 0;
  if (error != std::errc() || !(bytes >= 1 && bytes < 0x1p62)) {
    return Status::InvalidArgument(
        fmt::format("'{}' is not a size: write bytes, a number with KiB, MiB or GiB, or a "
                    "percentage of the checkpoint at 16 bits, e.g. 25%",
                    text));
  }
  return uint64_t(bytes);
}

}  // namespace sdq::converter
