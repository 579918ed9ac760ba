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
  // Those of the input that a token meets after this one's, for AnnounceProducts; may be empty.
  std::span<const Linear* const> next;

  bool is_stream() const { return map != nullptr; }
};

// Prepared form of a batch of activations, reused by every linear with the same input and map.
// Memory comes from the workspace; preparing is a no-op for what was prepared last since SetInput.
class PreparedInput {
 public:
  struct Memory {
    uint8_t* tables = nullptr;
    size_t table_bytes = 0;  // of tables: products take as many tokens at once as fit, at least one
    uint8_t* scratch = nullptr;
    uint8_t* int8 = nullptr;  // null = no int8 products
  };
  PreparedInput() = default;
  // Sized by the workspace for the largest map and batch.
  explicit PreparedInput(const Memory& memory) : memory_(memory) {}
  // Whether streams are multiplied by 8-bit weights (int8_product.h) where there are tokens enough
  // and the map, the memory and the target in use allow it. At first they are not.
  void set_int8(bool int8) { int8_ = int8; }
  bool UsesInt8(const kernels::ActivationMap& map) const;

  void SetInput(const float* x, size_t tokens, size_t stride);  // invalidates
  const float* x() const { return x_; }
  size_t tokens() const { return tokens_; }
  size_t stride() const { return stride_; }
  uint8_t* scratch() const { return memory_.scratch; }
  kernels::TableForm form() const { return form_; }  // of the tables

  // Tokens whose tables fit, at most all of them.
  size_t TableTokens(const kernels::ActivationMap& map) const;
  // Tables of tokens [first, first + count), at most TableTokens().
  const uint8_t* Tables(const kernels::ActivationMap& map, size_t first, size_t count);
  // All tokens, by PrepareInt8.
  const uint8_t* Int8(const kernels::ActivationMap& map);

 private:
  struct Prepared {
    const kernels::ActivationMap* map = nullptr;
    size_t first = 0, count = 0;
    bool operator==(const Prepared&) const = default;
  };
  Memory memory_;
  bool int8_ = false;
  const float* x_ = nullptr;
  size_t tokens_ = 0;
  size_t stride_ = 0;
  kernels::TableForm form_ = kernels::TableForm::kLookUp;
  Prepared tables_, int8_values_;
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
