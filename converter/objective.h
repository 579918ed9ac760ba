// How far a reconstruction is from the weights, as the layer's inputs see it.
#ifndef SDQ_CONVERTER_OBJECTIVE_H_
#define SDQ_CONVERTER_OBJECTIVE_H_

#include <vector>

#include "converter/encoder.h"

namespace sdq::converter {

struct ObjectiveErrors {
  std::vector<double> rows;  // e_r H e_r^T
  double relative = 0;       // tr(E H E^T) / tr(W H W^T); 0 if W is all zero there
};

// E = W - reconstructed, H without damping (identity if there is no Hessian). In single precision
// products, summed in f64 in an order that does not depend on the thread count.
ObjectiveErrors MeasureErrors(const EncodeInput& input, const std::vector<float>& reconstructed);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_OBJECTIVE_H_
