// How much each linear matters: the KL divergence that an error of its weights costs.
//
// For small errors E of one linear, y = (W + E) x, the divergence from the float model is
//     KL = 1/2 E[(sum_r g_r (E x)_r)^2],
// with g the gradient of -log p(label) with respect to y and the labels drawn from the model's own
// predictions (the Fisher information: Amari 1998; Martens and Grosse 2015). With errors of
// different rows independent and gradients independent of inputs,
//     KL = 1/2 sum_r E[g_r^2] (E H E^T)_rr,   H = E[x x^T],
// and an encoder with error feedback (hessian.h) that leaves the relative error D on white
// coordinates leaves (E H E^T)_rr = D * mean_j(w_rj^2) * sum_j D_j. Hence KL = unit_loss * D.
//
// One forward and one backward pass over some windows, a layer in memory at a time: the inputs of
// every layer are kept for those windows, and the layers are read twice.
#ifndef SDQ_CONVERTER_SENSITIVITY_H_
#define SDQ_CONVERTER_SENSITIVITY_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

struct Sensitivity {
  std::string name;      // canonical, a linear
  double unit_loss = 0;  // nats per token at a relative error of 1, by the quadratic model
};

struct SensitivityOptions {
  size_t window = 512;
  size_t windows = 8;  // at most; taken evenly from the text
  double damping = 0.01;
  uint64_t seed = 0;  // rotation signs, labels
};

// One entry per linear, in the order of ExpectedTensors. `tokens` as for Calibration::Create.
// `progress` gets the share done; returning false cancels. Independent of the thread count.
Result<std::vector<Sensitivity>> MeasureSensitivity(const Checkpoint& checkpoint,
                                                    const std::vector<TokenId>& tokens,
                                                    const SensitivityOptions& options,
                                                    const std::function<bool(double)>& progress);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_SENSITIVITY_H_
