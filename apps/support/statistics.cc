#include "apps/support/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace sdq::apps {

Summary Summarize(std::span<const double> values) {
  Summary summary;
  if (values.empty()) return summary;
  const size_t n = values.size();
  summary.mean = std::accumulate(values.begin(), values.end(), 0.0) / double(n);
  double squares = 0;
  for (const double v : values) squares += (v - summary.mean) * (v - summary.mean);
  summary.deviation = n > 1 ? std::sqrt(squares / double(n - 1)) : 0.0;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  summary.median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  return summary;
}

}  // namespace sdq::apps
