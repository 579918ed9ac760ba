// Which linear gets which over-sampling ratio: MultiOSR, the published heuristic (SDQ-LLM, arXiv
// 2510.03275), and a file of exceptions to it.
//
// With sigma the standard deviation of weights, n their number, b the base and T the target mean:
//   across layers:   OSR_l = b + (T - b) * sigma_l^-2 * sum(n) / sum(n sigma^-2)
//   inside a layer:  OSR_i = b + k sigma_i^-1.5,  k = (OSR_l - b) * sum(n) / sum(n sigma^-1.5)
// (exponent 0.1 instead of 1.5 when OSR_l >= 3.5). sigma_l pools the layer's linears. The paper
// states the first line for layers of equal size; the weights n generalize it, so that the mean
// over all weights is T exactly. Lower variance gets more samples.
//
// Ratios are then kept within [1, kMaxOsr], rounded to steps, and moved by single steps, those
// that lie farthest from their ideal first, until the weighted mean is within the tolerance.
#ifndef SDQ_CONVERTER_ALLOCATE_H_
#define SDQ_CONVERTER_ALLOCATE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "converter/pipeline.h"
#include "format/status.h"

namespace sdq::converter {

struct AllocationItem {
  uint32_t layer = 0;
  std::string name;      // canonical name of the linear
  uint64_t weights = 0;  // rows x columns, > 0
  double sigma = 0;      // standard deviation of the weights, >= 0
};

// Standard deviation of `count` values about their mean.
double StandardDeviation(const float* values, size_t count);

// The linears of a checkpoint, in the order of ExpectedTensors. Reads every one of them once.
Result<std::vector<AllocationItem>> ListAllocationItems(const Checkpoint& checkpoint);

struct AllocationOptions {
  double target = 2.0;  // mean over all weights, in [1, kMaxOsr]
  // b, in [1, target]; 0 = the default: 1 for targets up to 2 (as published), target - 1 above.
  double base = 0;
  uint32_t steps_per_unit = 4;         // ratios are multiples of 1/steps_per_unit
  double tolerance = 0.005;            // relative, of the mean
  uint32_t max_osr = format::kMaxOsr;  // e.g. the highest rate that taps were learned for
};

// One rate per item, in their order. If no assignment of whole steps is found within the tolerance
// (few linears), steps are halved until one is.
Result<std::vector<NamedRate>> AllocateMultiOsr(const std::vector<AllocationItem>& items,
                                                const AllocationOptions& options);

// The same rate everywhere; where `target` lies between two of `rates` (rising), linears alternate
// between those so that the mean is met as closely as whole linears allow.
Result<std::vector<NamedRate>> AllocateUniform(const std::vector<AllocationItem>& items,
                                               double target, const std::vector<Rate>& rates);

// A line `pattern osr`: canonical names with * for any run of characters ("layers.*.attn.q 2.5"),
// osr as a decimal or a fraction ("2.5", "5/2") in [1, kMaxOsr]. '#' starts a comment.
struct RateOverride {
  std::string pattern;
  Rate rate;
  size_t line = 0;
};
Result<std::vector<RateOverride>> ParseRateOverrides(std::string_view text);

// "2", "2.25" (exactly 9/4) or "9/4", in lowest terms.
Result<Rate> ParseRate(std::string_view text);

// Later lines win. The other linears keep their rates: the mean moves. A pattern that matches no
// linear is an error that names its line.
Status ApplyRateOverrides(const std::vector<RateOverride>& overrides,
                          std::vector<NamedRate>* rates);

// Mean over all weights. Items and rates run in parallel.
double MeanOsr(const std::vector<AllocationItem>& items, const std::vector<NamedRate>& rates);

// A table for people: one line per layer, one column per kind of linear, the mean at the end.
std::string FormatAllocation(const std::vector<AllocationItem>& items,
                             const std::vector<NamedRate>& rates);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_ALLOCATE_H_
