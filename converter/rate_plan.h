// From what the user asked for to one rate per linear.
#ifndef SDQ_CONVERTER_RATE_PLAN_H_
#define SDQ_CONVERTER_RATE_PLAN_H_

#include <string>
#include <vector>

#include "converter/allocate.h"
#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "format/status.h"

namespace sdq::converter {

enum class Allocation {
  kUniform,  // the same rate everywhere
  kSigma,    // MultiOSR, the published heuristic
};

struct RatePlan {
  std::vector<AllocationItem> items;
  std::vector<NamedRate> rates;
  double mean_osr = 0;
};

// `overrides` is the text of an override file (allocate.h), or empty. Every rate is checked to be
// one that the method can encode. Method must not be kFloat.
Result<RatePlan> PlanRates(const Checkpoint& checkpoint, const ConvertOptions& options,
                           Allocation allocation, const std::string& overrides);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_RATE_PLAN_H_
