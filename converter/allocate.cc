#include "converter/allocate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <span>

#include "format/layout.h"

namespace sdq::converter {
namespace {

constexpr double kLayerExponent = 2.0;
constexpr double kLinearExponent = 1.5;
constexpr double kFlatExponent = 0.1;  // inside layers that have plenty
constexpr double kFlatFrom = 3.5;
constexpr uint32_t kFinestSteps = 256;
// Linears of (nearly) constant weights count as this fraction of the overall sigma.
constexpr double kSmallestSigma = 1e-3;

struct Group {
  double weights = 0;
  double sigma = 0;
};

Group Pool(std::span<const Group> groups) {
  Group pooled;
  double squares = 0;
  for (const Group& g : groups) {
    pooled.weights += g.weights;
    squares += g.weights * g.sigma * g.sigma;
  }
  pooled.sigma = std::sqrt(squares / pooled.weights);
  return pooled;
}

// base + (mean - base) sigma^-exponent, normalized so that the weighted mean is `mean`.
std::vector<double> Share(std::span<const Group> groups, double mean, double base,
                          double exponent) {
  double norm = 0;
  double total = 0;
  for (const Group& g : groups) {
    norm += g.weights * std::pow(g.sigma, -exponent);
    total += g.weights;
  }
  std::vector<double> osr;
  for (const Group& g : groups) {
    osr.push_back(base + (mean - base) * std::pow(g.sigma, -exponent) * total / norm);
  }
  return osr;
}

std::vector<Group> Groups(const std::vector<AllocationItem>& items) {
  std::vector<Group> groups;
  for (const AllocationItem& item : items) groups.push_back({double(item.weights), item.sigma});
  const double overall = Pool(groups).sigma;
  const double floor = overall > 0 ? overall * kSmallestSigma : 1.0;
  for (Group& g : groups) g.sigma = std::max(g.sigma, floor);
  return groups;
}

// The two formulas of the header, before limits and rounding.
std::vector<double> IdealOsr(const std::vector<AllocationItem>& items,
                             const std::vector<Group>& groups, double target, double base) {
  std::map<uint32_t, std::vector<size_t>> members;
  for (size_t i = 0; i < items.size(); ++i) members[items[i].layer].push_back(i);
  std::vector<std::vector<Group>> linears;
  std::vector<Group> layers;
  for (const auto& [layer, indices] : members) {
    std::vector<Group>& own = linears.emplace_back();
    for (const size_t i : indices) own.push_back(groups[i]);
    layers.push_back(Pool(own));
  }
  const std::vector<double> layer_osr = Share(layers, target, base, kLayerExponent);
  std::vector<double> ideal(items.size());
  size_t l = 0;
  for (const auto& [layer, indices] : members) {
    const double exponent = layer_osr[l] >= kFlatFrom ? kFlatExponent : kLinearExponent;
    const std::vector<double> osr = Share(linears[l], layer_osr[l], base, exponent);
    for (size_t i = 0; i < indices.size(); ++i) ideal[indices[i]] = osr[i];
    ++l;
  }
  return ideal;
}

// Whole steps near the ideal whose weighted mean is the target.
class StepRounding {
 public:
  StepRounding(const std::vector<double>& ideal, const std::vector<Group>& groups,
               const AllocationOptions& options, uint32_t steps)
      : ideal_(ideal), groups_(groups), options_(options), steps_(steps) {
    const double most = double(options.max_osr) * steps_;
    for (size_t i = 0; i < ideal.size(); ++i) {
      const double rounded = std::round(ideal[i] * steps_);
      units_.push_back(int64_t(std::clamp(rounded, double(steps_), most)));
      total_ += groups[i].weights;
      sum_ += groups[i].weights * double(units_[i]);
    }
  }

  bool Reach() {
    while (std::abs(Deviation()) > options_.tolerance * options_.target) {
      if (!Move(Deviation() < 0 ? 1 : -1)) return false;
    }
    return true;
  }

  Rate RateOf(size_t i) const {
    const uint32_t units = uint32_t(units_[i]);
    const uint32_t divisor = std::gcd(units, steps_);
    return {units / divisor, steps_ / divisor};
  }

 private:
  double Deviation() const { return sum_ / (total_ * steps_) - options_.target; }

  // One step up or down for the linear that most deserves it among those that bring the mean
  // nearer; false if there is none.
  bool Move(int64_t direction) {
    size_t best = units_.size();
    double best_gap = 0;
    for (size_t i = 0; i < units_.size(); ++i) {
      const int64_t moved = units_[i] + direction;
      if (moved < int64_t(steps_) || moved > int64_t(options_.max_osr) * steps_) continue;
      const double change = double(direction) * groups_[i].weights / (total_ * steps_);
      if (std::abs(Deviation() + change) >= std::abs(Deviation())) continue;
      const double gap = double(direction) * (ideal_[i] - double(units_[i]) / steps_);
      if (best == units_.size() || gap > best_gap) {
        best = i;
        best_gap = gap;
      }
    }
    if (best == units_.size()) return false;
    units_[best] += direction;
    sum_ += double(direction) * groups_[best].weights;
    return true;
  }

  const std::vector<double>& ideal_;
  const std::vector<Group>& groups_;
  const AllocationOptions& options_;
  uint32_t steps_;
  std::vector<int64_t> units_;
  double total_ = 0;
  double sum_ = 0;
};

Status Validate(const std::vector<AllocationItem>& items, const AllocationOptions& options) {
  for (const AllocationItem& item : items) {
    if (item.weights == 0 || !std::isfinite(item.sigma) || item.sigma < 0) {
      return Status::InvalidArgument(
          fmt::format("{}: {} weights of sigma {}", item.name, item.weights, item.sigma));
    }
  }
  if (!(options.target >= 1 && options.target <= options.max_osr)) {
    return Status::OutOfRange(fmt::format("mean over-sampling ratio {}: must be from 1 to {}",
                                          options.target, options.max_osr));
  }
  if (options.base != 0 && !(options.base >= 1 && options.base <= options.target)) {
    return Status::OutOfRange(fmt::format("base over-sampling ratio {}: must be from 1 to {}",
                                          options.base, options.target));
  }
  if (options.steps_per_unit == 0 || options.steps_per_unit > kFinestSteps) {
    return Status::OutOfRange(fmt::format("{} steps per unit of over-sampling: must be 1 to {}",
                                          options.steps_per_unit, kFinestSteps));
  }
  if (!(options.tolerance > 0)) return Status::OutOfRange("tolerance must be positive");
  return Status::Ok();
}

}  // namespace

Result<std::vector<NamedRate>> AllocateMultiOsr(const std::vector<AllocationItem>& items,
                                                const AllocationOptions& options) {
  SDQ_RETURN_IF_ERROR(Validate(items, options));
  if (items.empty()) return std::vector<NamedRate>();
  const double published_base = options.target <= 2 ? 1.0 : options.target - 1.0;
  const double base = options.base != 0 ? options.base : published_base;
  const std::vector<Group> groups = Groups(items);
  const std::vector<double> ideal = IdealOsr(items, groups, options.target, base);
  for (uint32_t steps = options.steps_per_unit; steps <= kFinestSteps; steps *= 2) {
    StepRounding rounding(ideal, groups, options, steps);
    if (!rounding.Reach()) continue;
    std::vector<NamedRate> rates;
    for (size_t i = 0; i < items.size(); ++i) rates.push_back({items[i].name, rounding.RateOf(i)});
    return rates;
  }
  return Status::OutOfRange(fmt::format("no rates reach a mean over-sampling ratio of {} within {}",
                                        options.target, options.tolerance));
}

double MeanOsr(const std::vector<AllocationItem>& items, const std::vector<NamedRate>& rates) {
  double samples = 0;
  double weights = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    samples += double(items[i].weights) * rates[i].rate.osr();
    weights += double(items[i].weights);
  }
  return weights > 0 ? samples / weights : 0.0;
}

}  // namespace sdq::converter
