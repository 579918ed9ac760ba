// Equal rates for all linears, at a mean that no single learned rate may have.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "converter/allocate.h"

namespace sdq::converter {

Result<std::vector<NamedRate>> AllocateUniform(const std::vector<AllocationItem>& items,
                                               double target, const std::vector<Rate>& rates) {
  if (rates.empty()) return Status::InvalidArgument("no rates to choose from");
  if (target < rates.front().osr() - 1e-9 || target > rates.back().osr() + 1e-9) {
    return Status::OutOfRange(fmt::format("OSR {}: this method and window have rates from {} to {}",
                                          target, rates.front().osr(), rates.back().osr()));
  }
  Rate below = rates.front(), above = rates.back();
  for (const Rate rate : rates) {
    if (rate.osr() <= target + 1e-9 && rate.osr() > below.osr()) below = rate;
    if (rate.osr() >= target - 1e-9 && rate.osr() < above.osr()) above = rate;
  }
  // Error diffusion: the higher rate whenever the running mean would stay at or below the target.
  std::vector<NamedRate> result;
  double weights = 0, samples = 0;
  for (const AllocationItem& item : items) {
    const double n = double(item.weights);
    const double half_step = 0.5 * n * (above.osr() - below.osr());
    const bool high = samples + n * above.osr() <= (weights + n) * target + half_step;
    const Rate rate = high ? above : below;
    weights += n;
    samples += n * rate.osr();
    result.push_back({item.name, rate});
  }
  return result;
}

}  // namespace sdq::converter
