// From what the user asked for to one rate per linear.
#ifndef SDQ_CONVERTER_RATE_PLAN_H_
#define SDQ_CONVERTER_RATE_PLAN_H_

#include <optional>
#include <string>
#include <vector>

#include "converter/allocate.h"
#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "converter/rate_budget.h"
#include "converter/sensitivity.h"
#include "format/status.h"

namespace sdq::converter {

enum class Allocation {
  kUniform,      // the same rate everywhere
  kSigma,        // MultiOSR, the published heuristic
  kSensitivity,  // least predicted KL divergence
};

struct RateRequest {
  Allocation allocation = Allocation::kUniform;
  std::string overrides;             // the text of an override file (allocate.h), or empty
  std::optional<RateBudget> budget;  // none: a mean OSR of options.osr
  // One per linear, with a loss for each of CandidateRates(options); kSensitivity needs them.
  std::vector<Sensitivity> sensitivities;
  // Tables ("embed.tokens", "head") that share the budget as bitstreams or 8-bit rows, instead of
  // what the options say: kSensitivity under a budget of bytes only. Bits per weight count them.
  std::vector<std::string> shared_tables;
  std::vector<TableSensitivity> tables;  // of all shared tables at least, as `sensitivities`
};

struct TablePlan {
  std::string name;
  TableStorage storage;
  double predicted_loss = 0;
};

struct RatePlan {
  std::vector<AllocationItem> items;
  std::vector<NamedRate> rates;   // of the linears
  std::vector<TablePlan> tables;  // of the shared tables
  double mean_osr = 0;
  // With sensitivities: nats per token that each linear is predicted to lose, in the order of
  // items.
  std::vector<double> predicted_losses;
};

// Every rate is one that the method can encode. Under a budget, overridden linears keep their rates
// and the others share what is left; without one, uniform and sigma are met as nearly as whole
// steps allow, from either side. Method must not be kFloat.
Result<RatePlan> PlanRates(const Checkpoint& checkpoint, const ConvertOptions& options,
                           const RateRequest& request);

// What PlanRates would refuse whatever is measured: rates that nothing was learned for, overrides
// that match nothing, a budget or a mean that no choice of rates meets (kOutOfRange, with those
// that can be). Reads no weights and no sensitivities: for refusals before hours of work.
Status CheckRequest(const Checkpoint& checkpoint, const ConvertOptions& options,
                    const RateRequest& request);

// Rates that a budget is shared out in, rising: those with taps; eighths from 1 on for the
// published method, which can have any.
std::vector<Rate> CandidateRates(const ConvertOptions& options);

// Relative squared error that the encoder leaves on white weights: measured with the taps of the
// second method, about proportional to OSR^-2.1 with the published one.
double ExpectedError(const ConvertOptions& options, Rate rate);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_RATE_PLAN_H_
