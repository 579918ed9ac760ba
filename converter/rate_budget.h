// Rates that lose least within a budget of samples, stream bytes or file bytes.
#ifndef SDQ_CONVERTER_RATE_BUDGET_H_
#define SDQ_CONVERTER_RATE_BUDGET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/pipeline.h"
#include "converter/rate.h"
#include "format/status.h"

namespace sdq::converter {

struct RateBudget {
  enum class Kind {
    kMeanOsr,        // samples per weight
    kBitsPerWeight,  // stored bits of samples, scales and means per weight
    kFileBytes,      // the whole file
  };
  Kind kind = Kind::kMeanOsr;
  double limit = 2.0;  // never exceeded
};

// How near to a limit an assignment is meant to come, from below.
inline constexpr double kBudgetTolerance = 0.001;

// What one linear, or a table ("embed.tokens", "head"), may become, and what it would then lose.
struct RateCandidates {
  std::string name;            // canonical
  std::vector<Rate> rates;     // of tables also kEightBitRows
  std::vector<double> losses;  // parallel to rates
};

// One rate for each of `linears`, all linears of the layers and any tables. Bits per weight count
// those alone. Coarse rates are preferred where finer ones gain nothing: each distinct decimator
// has taps in the file. Tables need a budget of bytes. kOutOfRange with the least and the greatest
// possible amount if the limit lies outside them by more than the tolerance.
Result<std::vector<NamedRate>> RatesWithin(const Checkpoint& checkpoint,
                                           const ConvertOptions& options,
                                           const std::vector<RateCandidates>& linears,
                                           const RateBudget& budget);

// The same refusal, without looking for rates: milliseconds. Losses are not read.
Status CheckBudget(const Checkpoint& checkpoint, const ConvertOptions& options,
                   const std::vector<RateCandidates>& linears, const RateBudget& budget);

// "1500000", "1500KiB", "12.5MiB", "2GiB", or "20%" of the parameters at two bytes each: bytes.
Result<uint64_t> ParseTargetSize(const std::string& text, uint64_t half_precision_bytes);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_RATE_BUDGET_H_
