// The published method's grid search: one triple (k, p_s, p_c) per linear.
#ifndef SDQ_CONVERTER_PARAMETER_SEARCH_H_
#define SDQ_CONVERTER_PARAMETER_SEARCH_H_

#include <vector>

#include "converter/block_coder.h"

namespace sdq::converter {

struct ParameterChoice {
  CodingParameters parameters;
  double relative_error = 0;  // |v - v_q|^2 / |v|^2 over the rows that were tried
};

// Tries k = 0.75 .. 1.0 step 0.05, p_s = 0.75 .. 0.975 step 0.025 and, for a ternary modulator,
// p_c = 0.35 .. 0.60 step 0.05 on rotated blocks v[rows][coder.columns()], and returns the triple
// of least squared reconstruction error (the first in that order, if several are equal). In
// parallel; the choice does not depend on the thread count.
ParameterChoice SearchParameters(const BlockCoder& coder, const std::vector<float>& v, size_t rows);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_PARAMETER_SEARCH_H_
