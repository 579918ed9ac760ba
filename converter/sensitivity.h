// How much each linear matters: the KL divergence that an error of its weights costs.
//
// For a small error E of one linear, y = (W + E) x, the divergence summed over a window is
//     KL = 1/2 E[<G, E>^2],   G = sum_t g_t x_t^T,
// with g the gradient of -log p(label) with respect to y and the labels drawn from the model's own
// predictions (the Fisher information: Amari 1998; Martens and Grosse 2015). An encoder with error
// feedback (hessian.h) leaves E = Z (I + A)^-1 with Z independent, so that per row
//     KL = 1/2 sum_r mean_j(w_rj^2) V |G_r (I + A)^-T|^2,
// measured on some rows; for all rows, terms of different tokens are left out,
//     KL = 1/2 sum_r mean_j(w_rj^2) sum_t g_tr^2 sum_j V_j D_j,
// and the ratio of the two on those rows corrects it. The variances V_j of Z, relative to the
// weights', are the error d of white samples, enlarged by what is fed back:
//     V_j = d (1 + sum_{i<j} A_ij^2 V_i).
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
#include "converter/table_sensitivity.h"
#include "format/status.h"
#include "kernels/dense.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

struct Sensitivity {
  std::string name;            // canonical, a linear
  std::vector<double> losses;  // nats per token, one for each error that was asked for
  // [rows]: nats per token for each unit of e_r H e_r^T, H = mean x x^T without damping, for errors
  // that lie as E above. With those that an encoder has made, the same measure of loss.
  std::vector<double> row_costs;
};

struct Sensitivities {
  std::vector<Sensitivity> linears;      // one per linear, in the order of ExpectedTensors
  std::vector<TableSensitivity> tables;  // embeddings; the head unless it is tied to them
};

struct SensitivityOptions {
  size_t window = 512;
  size_t windows = 8;  // at most; taken evenly from the text
  double damping = 0.01;
  uint64_t seed = 0;  // rotation signs, labels
  kernels::Precision precision = kernels::Precision::kSingle;
};

// `errors`: what the encoder leaves of white
// weights at the rates in question, relative to their variance. `tokens` as for
// Calibration::Create. `progress` gets the share done; returning false cancels. Independent of the
// thread count.
Result<Sensitivities> MeasureSensitivity(const Checkpoint& checkpoint,
                                         const std::vector<TokenId>& tokens,
                                         const std::vector<double>& errors,
                                         const SensitivityOptions& options,
                                         const std::function<bool(double)>& progress);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_SENSITIVITY_H_
