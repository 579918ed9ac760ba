// One linear map of the model, whatever it is stored as: dense (f32, f16, bf16, 8-bit rows) or a
// sigma-delta stream. Views only; the mapped file owns the bytes.
#ifndef SDQ_RUNTIME_LINEAR_H_
#define SDQ_RUNTIME_LINEAR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "format/reader.h"
#include "kernels/activation.h"
#include "kernels/dense.h"
#include "kernels/stream_product.h"

namespace sdq {

// Activation maps shared by all linears of a model with equal parameters.
class ActivationMapCache;

struct Linear {
  std::string name;
  size_t rows = 0;
  size_t columns = 0;
  // Exactly one of the two is in use: map == nullptr means dense.
  kernels::DenseMatrix dense;
  kernels::StreamMatrix stream;
  const kernels::ActivationMap* map = nullptr;  // owned by the model

  bool is_stream() const { return map != nullptr; }
};

// Prepared form of a batch of activations, reused by every linear with the same input and map.
// Memory comes from the workspace; Prepare is a no-op when `map` is what it was prepared with last
// and Invalidate() was not called since.
class PreparedInput {
 public:
  PreparedInput() = default;
  // tables and scratch: sized by the workspace for the largest map and batch.
  PreparedInput(uint8_t* tables, uint8_t* scratch) : tables_(tables), scratch_(scratch) {}
  void SetInput(const float* x, size_t tokens, size_t stride);  // invalidates
  const float* x() const { return x_; }
  size_t tokens() const { return tokens_; }
  size_t stride() const { return stride_; }
  const uint8_t* Tables(const kernels::ActivationMap& map);

 private:
  uint8_t* tables_ = nullptr;
  uint8_t* scratch_ = nullptr;
  const float* x_ = nullptr;
  size_t tokens_ = 0;
  size_t stride_ = 0;
  const kernels::ActivationMap* prepared_for_ = nullptr;
};

// y[t][r] = bias + W x, for the tokens of `input`.
void Forward(const Linear& linear, PreparedInput& input, float* y, size_t y_stride);

// Several linears of one input. Streams with equal maps share a prepared activation and a parallel
// region, whatever their order here.
struct LinearOutput {
  const Linear* linear = nullptr;
  float* y = nullptr;
  size_t y_stride = 0;
};
void ForwardAll(std::span<const LinearOutput> outputs, PreparedInput& input);

// Row r in f32 (embedding look-up), dense or stream.
void Row(const Linear& linear, size_t r, float* out);

}  // namespace sdq

#endif  // SDQ_RUNTIME_LINEAR_H_
