#include "converter/rate_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "converter/decimator_taps.h"

namespace sdq::converter {
namespace {

constexpr uint32_t kFreeRateDenominator = 100;  // where any P/Q can be encoded
constexpr uint32_t kTrellisStepsPerUnit = 8;    // finer rates are learned for some windows only

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
    const bool known = std::any_of(learned.begin(), learned.end(), [&](const Rate& rate) {
      return uint64_t(rate.num) * named.rate.den == uint64_t(named.rate.num) * rate.den;
    });
    if (!known) {
      return Status::InvalidArgument(fmt::format(
          "{}: no decimator of window {} was learned for OSR {}/{}; there are {}", named.name,
          options.window, named.rate.num, named.rate.den, ListRates(learned)));
    }
  }
  return Status::Ok();
}

Result<std::vector<NamedRate>> Allocate(const std::vector<AllocationItem>& items,
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

}  // namespace

Result<RatePlan> PlanRates(const Checkpoint& checkpoint, const ConvertOptions& options,
                           Allocation allocation, const std::string& overrides) {
  RatePlan plan;
  std::vector<Rate> learned;
  if (options.method == Method::kTrellis) {
    learned = LearnedRates(options.alphabet, options.window);
    if (learned.empty()) {
      return Status::InvalidArgument(fmt::format(
          "no decimators were learned for a window of {} (binary: 8, 10, 12; ternary: 5, 6, 7)",
          options.window));
    }
  }
  SDQ_ASSIGN_OR_RETURN(plan.items, ListAllocationItems(checkpoint));
  SDQ_ASSIGN_OR_RETURN(plan.rates, Allocate(plan.items, options, allocation, learned));
  if (!overrides.empty()) {
    SDQ_ASSIGN_OR_RETURN(const std::vector<RateOverride> parsed, ParseRateOverrides(overrides));
    SDQ_RETURN_IF_ERROR(ApplyRateOverrides(parsed, &plan.rates));
  }
  if (options.method == Method::kTrellis) {
    SDQ_RETURN_IF_ERROR(CheckLearned(plan.rates, options, learned));
  }
  plan.mean_osr = MeanOsr(plan.items, plan.rates);
  return plan;
}

}  // namespace sdq::converter
