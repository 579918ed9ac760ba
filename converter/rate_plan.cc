#include "converter/rate_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "converter/decimator_taps.h"
#include "converter/stored_shape.h"

namespace sdq::converter {
namespace {

constexpr uint32_t kFreeRateDenominator = 100;  // where any P/Q can be encoded
constexpr uint32_t kTrellisStepsPerUnit = 8;    // finer rates are learned for some windows only
constexpr uint32_t kFinestSteps = 256;

std::string ListRates(const std::vector<Rate>& rates) {
  std::string list;
  for (const Rate rate : rates) {
    list += list.empty() ? "" : ", ";
    list += rate.den == 1 ? fmt::format("{}", rate.num) : fmt::format("{}/{}", rate.num, rate.den);
  }
  return list;
}

Status CheckLearned(const std::vector<NamedRate>& rates, const ConvertOptions& options,
                    const std::vector<Rate>& learned) {
  for (const NamedRate& named : rates) {
    if (named.rate.num == 0) continue;  // not decided yet
    const bool known = std::any_of(learned.begin(), learned.end(), [&](const Rate& rate) {
      return uint64_t(rate.num) * named.rate.den == uint64_t(named.rate.num) * rate.den;
    });
    if (!known) {
      return Status::InvalidArgument(fmt::format(
          "{}: no decimator{} was learned for OSR {}/{}; there are {}", named.name,
          options.window == kWindowByRate ? "" : fmt::format(" of window {}", options.window),
          named.rate.num, named.rate.den, ListRates(learned)));
    }
  }
  return Status::Ok();
}

// Without a budget: nearest to the mean OSR that was asked for.
Result<std::vector<NamedRate>> AllocateMean(const std::vector<AllocationItem>& items,
                                            const ConvertOptions& options, Allocation allocation,
                                            const std::vector<Rate>& learned) {
  const bool trellis = options.method == Method::kTrellis;
  if (allocation == Allocation::kUniform) {
    return AllocateUniform(
        items, options.osr,
        trellis ? learned : std::vector<Rate>{NearestRate(options.osr, kFreeRateDenominator)});
  }
  AllocationOptions published;
  published.target = options.osr;
  if (trellis) {
    published.steps_per_unit = kTrellisStepsPerUnit;
    published.max_osr = uint32_t(learned.back().osr());
  }
  return AllocateMultiOsr(items, published);
}

// Bits that are stored per sample, but for side information.
double BitsPerSample(format::Alphabet alphabet) {
  if (alphabet == format::Alphabet::kBinary) return 1.0;
  return alphabet == format::Alphabet::kTernaryPacked ? 1.6 : 2.0;
}

// Where MultiOSR would like each linear to be, for about the budget.
Result<std::vector<double>> SigmaIdeal(const std::vector<AllocationItem>& items,
                                       const ConvertOptions& options, const RateBudget& budget,
                                       double max_osr) {
  uint64_t weights = 0;
  for (const AllocationItem& item : items) weights += item.weights;
  double mean = budget.limit;
  if (budget.kind == RateBudget::Kind::kFileBytes) mean *= 8 / double(weights);
  if (budget.kind != RateBudget::Kind::kMeanOsr) mean /= BitsPerSample(options.alphabet);
  AllocationOptions published;
  published.target = std::clamp(mean, 1.0, max_osr);
  published.steps_per_unit = kFinestSteps;
  published.max_osr = uint32_t(max_osr);
  SDQ_ASSIGN_OR_RETURN(const std::vector<NamedRate> rates, AllocateMultiOsr(items, published));
  std::vector<double> ideal;
  for (const NamedRate& named : rates) ideal.push_back(named.rate.osr());
  return ideal;
}

// What each candidate would lose. For uniform and sigma, losses whose optimum is the same rate
// everywhere, or the ideal but for a constant: n 4^(ideal - OSR) has the slope of all others there.
Result<std::vector<RateCandidates>> Candidates(const std::vector<AllocationItem>& items,
                                               const ConvertOptions& options,
                                               const RateRequest& request, const RateBudget& budget,
                                               const std::vector<Rate>& rates) {
  std::vector<double> ideal(items.size(), 1.0);
  if (request.allocation == Allocation::kSigma) {
    SDQ_ASSIGN_OR_RETURN(ideal, SigmaIdeal(items, options, budget, rates.back().osr()));
  }
  std::vector<RateCandidates> candidates;
  for (size_t i = 0; i < items.size(); ++i) {
    RateCandidates& candidate = candidates.emplace_back(RateCandidates{items[i].name, rates, {}});
    if (request.allocation == Allocation::kSensitivity) {
      candidate.losses = request.sensitivities[i].losses;
      continue;
    }
    for (const Rate& rate : rates) {
      candidate.losses.push_back(double(items[i].weights) * std::pow(4.0, ideal[i] - rate.osr()));
    }
  }
  return candidates;
}

// Overridden linears have one candidate.
Status FixOverridden(const std::vector<RateOverride>& overrides, const ConvertOptions& options,
                     const std::vector<Rate>& learned, std::vector<RateCandidates>* candidates) {
  std::vector<NamedRate> fixed;
  for (const RateCandidates& linear : *candidates) fixed.push_back({linear.name, Rate{0, 1}});
  SDQ_RETURN_IF_ERROR(ApplyRateOverrides(overrides, &fixed));
  if (!learned.empty()) SDQ_RETURN_IF_ERROR(CheckLearned(fixed, options, learned));
  for (size_t i = 0; i < fixed.size(); ++i) {
    if (fixed[i].rate.num != 0) (*candidates)[i] = {fixed[i].name, {fixed[i].rate}, {0.0}};
  }
  return Status::Ok();
}

RateBudget BudgetOf(const ConvertOptions& options, const RateRequest& request) {
  return request.budget.value_or(RateBudget{RateBudget::Kind::kMeanOsr, options.osr});
}

// Rates that taps were learned for, none for the published method, which needs none.
Result<std::vector<Rate>> LearnedFor(const ConvertOptions& options) {
  std::vector<Rate> learned;
  if (options.method != Method::kTrellis) return learned;
  learned = LearnedRates(options.alphabet, options.window);
  if (learned.empty()) {
    return Status::InvalidArgument(fmt::format(
        "no decimators were learned for a window of {} (binary: 8, 10, 12; ternary: 5, 6, 7)",
        options.window));
  }
  return learned;
}

bool IsShared(const RateRequest& request, const std::string& name) {
  return std::find(request.shared_tables.begin(), request.shared_tables.end(), name) !=
         request.shared_tables.end();
}

// Null if it was not measured.
const TableSensitivity* FindTable(const RateRequest& request, const std::string& name) {
  for (const TableSensitivity& table : request.tables) {
    if (table.name == name) return &table;
  }
  return nullptr;
}

Status CheckSensitivities(const std::vector<AllocationItem>& items, const RateRequest& request,
                          size_t candidates) {
  bool match = items.size() == request.sensitivities.size();
  for (size_t i = 0; match && i < items.size(); ++i) {
    match = items[i].name == request.sensitivities[i].name &&
            request.sensitivities[i].losses.size() == candidates;
  }
  for (const std::string& name : request.shared_tables) {
    const TableSensitivity* table = FindTable(request, name);
    match = match && table != nullptr && table->losses.size() == candidates;
  }
  return match ? Status::Ok()
               : Status::InvalidArgument("allocation by sensitivity needs calibration text");
}

// Embeddings and head among the candidates: those to share the budget, and where files are counted
// those of a given rate, whose decimators linears may share.
void AddTables(const Checkpoint& checkpoint, const ConvertOptions& options,
               const RateRequest& request, const RateBudget& budget,
               std::vector<RateCandidates>* candidates) {
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    const TableStorage* storage = TableStorageOf(options, shape.name);
    if (storage == nullptr) continue;
    if (IsShared(request, shape.name)) {
      RateCandidates& table =
          candidates->emplace_back(RateCandidates{shape.name, CandidateRates(options), {}});
      table.rates.push_back(kEightBitRows);
      if (const TableSensitivity* measured = FindTable(request, shape.name)) {
        table.losses = measured->losses;
        table.losses.push_back(measured->eight_bit_loss);
      }
    } else if (storage->type == TableType::kStream && budget.kind == RateBudget::Kind::kFileBytes) {
      candidates->push_back({shape.name, {storage->rate}, {0.0}});
    }
  }
}

// What is refused whatever is measured.
Status CheckTables(const Checkpoint& checkpoint, const ConvertOptions& options,
                   const RateRequest& request, const std::vector<Rate>& learned) {
  const bool trellis = options.method == Method::kTrellis;
  std::vector<NamedRate> rates;
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    const TableStorage* storage = TableStorageOf(options, shape.name);
    if (storage == nullptr || storage->type != TableType::kStream) continue;
    if (!trellis) {
      return Status::InvalidArgument(shape.name + " as a bitstream needs the trellis method");
    }
    rates.push_back({shape.name, storage->rate});
  }
  const bool bytes = request.budget && request.budget->kind != RateBudget::Kind::kMeanOsr;
  const bool can_share = trellis && bytes && request.allocation == Allocation::kSensitivity;
  if (!request.shared_tables.empty() && !can_share) {
    return Status::InvalidArgument(
        fmt::format("{} can share a budget of bits per weight or file size only, by sensitivity "
                    "and with the trellis method",
                    request.shared_tables.front()));
  }
  return CheckLearned(rates, options, learned);
}

Result<std::vector<NamedRate>> AllocateWithin(const Checkpoint& checkpoint,
                                              const std::vector<AllocationItem>& items,
                                              const ConvertOptions& options,
                                              const RateRequest& request,
                                              const std::vector<RateOverride>& overrides,
                                              const std::vector<Rate>& learned) {
  const RateBudget budget = BudgetOf(options, request);
  const std::vector<Rate> rates = CandidateRates(options);
  SDQ_ASSIGN_OR_RETURN(std::vector<RateCandidates> candidates,
                       Candidates(items, options, request, budget, rates));
  SDQ_RETURN_IF_ERROR(FixOverridden(overrides, options, learned, &candidates));
  AddTables(checkpoint, options, request, budget, &candidates);
  return RatesWithin(checkpoint, options, candidates, budget);
}

// The predicted loss at a rate; none for a rate that is no candidate.
double LossAt(const std::vector<double>& losses, const std::vector<Rate>& candidates, Rate rate) {
  for (size_t k = 0; k < candidates.size() && k < losses.size(); ++k) {
    if (candidates[k].osr() == rate.osr()) return losses[k];
  }
  return 0;
}

// Takes what was decided about tables out of plan->rates.
void SplitTables(const ConvertOptions& options, const RateRequest& request, RatePlan* plan) {
  for (size_t i = plan->items.size(); i < plan->rates.size(); ++i) {
    const auto& [name, rate] = plan->rates[i];
    const TableSensitivity* measured = FindTable(request, name);
    if (!IsShared(request, name) || measured == nullptr) continue;
    TablePlan& table = plan->tables.emplace_back(TablePlan{name, {TableType::kQ8, {}}, 0});
    table.predicted_loss = measured->eight_bit_loss;
    if (rate == kEightBitRows) continue;
    table.storage = {TableType::kStream, rate};
    table.predicted_loss = LossAt(measured->losses, CandidateRates(options), rate);
  }
  plan->rates.resize(plan->items.size());
}

}  // namespace

std::vector<Rate> CandidateRates(const ConvertOptions& options) {
  if (options.method == Method::kTrellis) return LearnedRates(options.alphabet, options.window);
  std::vector<Rate> rates;
  for (uint32_t eighths = 8; eighths <= 8 * format::kMaxOsr; ++eighths) {
    const uint32_t divisor = std::gcd(eighths, 8u);
    rates.push_back({eighths / divisor, 8 / divisor});
  }
  return rates;
}

double ExpectedError(const ConvertOptions& options, Rate rate) {
  if (options.method == Method::kTrellis) {
    const LearnedTaps* entry =
        FindLearnedTaps(options.alphabet, rate, options.window, options.derived);
    if (entry != nullptr) return entry->squared_error;
  }
  const double at_two = options.alphabet == format::Alphabet::kBinary ? 0.308 : 0.119;
  return at_two * std::pow(rate.osr() / 2, -2.1);
}

Status CheckRequest(const Checkpoint& checkpoint, const ConvertOptions& options,
                    const RateRequest& request) {
  SDQ_ASSIGN_OR_RETURN(const std::vector<Rate> learned, LearnedFor(options));
  SDQ_ASSIGN_OR_RETURN(const std::vector<RateOverride> overrides,
                       ParseRateOverrides(request.overrides));
  const std::vector<Rate> rates = CandidateRates(options);
  std::vector<RateCandidates> candidates;
  std::vector<AllocationItem> items;  // without their deviations
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    if (!shape.is_linear) continue;
    candidates.push_back({shape.name, rates, {}});
    items.push_back({0, shape.name, uint64_t(shape.rows) * uint64_t(shape.columns), 0});
  }
  SDQ_RETURN_IF_ERROR(FixOverridden(overrides, options, learned, &candidates));
  SDQ_RETURN_IF_ERROR(CheckTables(checkpoint, options, request, learned));
  AddTables(checkpoint, options, request, BudgetOf(options, request), &candidates);
  if (request.budget || request.allocation == Allocation::kSensitivity) {
    return CheckBudget(checkpoint, options, candidates, BudgetOf(options, request));
  }
  if (request.allocation != Allocation::kUniform) return Status::Ok();
  return AllocateMean(items, options, Allocation::kUniform, learned).status();
}

Result<RatePlan> PlanRates(const Checkpoint& checkpoint, const ConvertOptions& options,
                           const RateRequest& request) {
  RatePlan plan;
  SDQ_ASSIGN_OR_RETURN(const std::vector<Rate> learned, LearnedFor(options));
  SDQ_ASSIGN_OR_RETURN(const std::vector<RateOverride> overrides,
                       ParseRateOverrides(request.overrides));
  SDQ_ASSIGN_OR_RETURN(plan.items, ListAllocationItems(checkpoint));
  SDQ_RETURN_IF_ERROR(CheckTables(checkpoint, options, request, learned));
  const bool by_sensitivity = request.allocation == Allocation::kSensitivity;
  if (by_sensitivity)
    SDQ_RETURN_IF_ERROR(CheckSensitivities(plan.items, request, CandidateRates(options).size()));
  if (by_sensitivity || request.budget) {
    SDQ_ASSIGN_OR_RETURN(
        plan.rates, AllocateWithin(checkpoint, plan.items, options, request, overrides, learned));
    SplitTables(options, request, &plan);
  } else {
    SDQ_ASSIGN_OR_RETURN(plan.rates,
                         AllocateMean(plan.items, options, request.allocation, learned));
    SDQ_RETURN_IF_ERROR(ApplyRateOverrides(overrides, &plan.rates));
    if (!learned.empty()) SDQ_RETURN_IF_ERROR(CheckLearned(plan.rates, options, learned));
  }
  plan.mean_osr = MeanOsr(plan.items, plan.rates);
  const std::vector<Rate> candidates = CandidateRates(options);
  for (size_t i = 0; i < request.sensitivities.size() && i < plan.rates.size(); ++i) {
    plan.predicted_losses.push_back(
        LossAt(request.sensitivities[i].losses, candidates, plan.rates[i].rate));
  }
  return plan;
}

}  // namespace sdq::converter
