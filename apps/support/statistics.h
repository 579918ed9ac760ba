// Mean, deviation and median of a few measurements.
#ifndef SDQ_APPS_SUPPORT_STATISTICS_H_
#define SDQ_APPS_SUPPORT_STATISTICS_H_

#include <span>

namespace sdq::apps {

struct Summary {
  double mean = 0;
  double deviation = 0;  // of the sample (n - 1); 0 for a single value
  double median = 0;     // the mean of the two middle ones of an even number
};

// All zeros for no values.
Summary Summarize(std::span<const double> values);

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_STATISTICS_H_
