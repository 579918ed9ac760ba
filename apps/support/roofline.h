// What bounds each phase of a model on this machine: a ledger of seconds per token.
//
// Every term is measured on its own. Weights: their bytes at the measured read bandwidth. Products:
// the model's own linears, cut to a few rows that stay in the second cache, with the kernels in
// use: what the arithmetic would take if memory cost nothing. Activations: rotation, interpolation
// and look-up tables. Hand-offs: starting and joining the threads of each parallel region.
#ifndef SDQ_APPS_SUPPORT_ROOFLINE_H_
#define SDQ_APPS_SUPPORT_ROOFLINE_H_

#include <cstddef>
#include <string>

#include "runtime/model.h"

namespace sdq::apps {

// Seconds per token, at Threads() threads and the target in use.
struct Roofline {
  double memory = 0;       // reading the weights, shared by the tokens of a batch
  double streams = 0;      // products with bitstreams, from cache
  double dense = 0;        // products with dense matrices (head, projections), from cache
  double activations = 0;  // preparing the inputs of streams
  double hand_offs = 0;
  double samples_per_second = 0;  // additions of the stream kernels, all threads

  // Reading and computing overlap; the rest does not. The least that a token can take.
  double Bound() const;
  // "memory", "stream kernels", ...: the largest term of Bound().
  std::string BoundBy() const;
};

// `batch`: tokens evaluated together (1 = decode); logits are computed for one of `prompt` tokens.
Roofline MeasureRoofline(const Model& model, size_t batch, size_t prompt, double bytes_per_second);

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_ROOFLINE_H_
