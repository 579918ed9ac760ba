#include "converter/rate.h"

#include <algorithm>
#include <cmath>

namespace sdq::converter {

Rate NearestRate(double osr, uint32_t max_den) {
  Rate best;
  double best_error = INFINITY;
  for (uint32_t den = 1; den <= max_den; ++den) {
    const double num = std::max(1.0, std::round(osr * den));
    const double error = std::fabs(num / den - osr);
    if (error < best_error - 1e-12) {
      best_error = error;
      best = {uint32_t(num), den};
    }
  }
  return best;
}

}  // namespace sdq::converter
