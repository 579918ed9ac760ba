// Calibration: what each linear's inputs look like, layer by layer.
//
// Hidden states of all calibration windows are kept between layers (windows x window x hidden in
// f32: that and the largest layer bound the converter's memory). For a layer, Collect() runs its
// float weights and accumulates H = mean of x x^T at every linear's input; after its linears were
// quantized, Advance() runs the layer as it will be, so that later layers see real inputs.
#ifndef SDQ_CONVERTER_CALIBRATION_H_
#define SDQ_CONVERTER_CALIBRATION_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/float_layer.h"
#include "format/status.h"
#include "runtime/tokenizer.h"
#include "runtime/transformer.h"

namespace sdq::converter {

// Means of x x^T, original basis. Linears with a common input share one.
struct LayerHessians {
  std::vector<double> attn_in;   // q, k, v
  std::vector<double> attn_out;  // o
  std::vector<double> ffn_in;    // gate, up
  std::vector<double> ffn_mid;   // down
  // The one that belongs to a linear of `weights`.
  const std::vector<double>& For(const LayerWeights& weights, const Linear* linear) const;
};

// At most `windows` whole windows of the text, evenly spaced; all of it if it has no more.
std::vector<TokenId> SpreadWindows(const std::vector<TokenId>& tokens, size_t window,
                                   size_t windows);

class Calibration {
 public:
  // tokens: whole windows (a last partial one is dropped). kInvalidArgument if none is whole.
  static Result<std::unique_ptr<Calibration>> Create(const Checkpoint& checkpoint,
                                                     const std::vector<TokenId>& tokens,
                                                     size_t window);
  ~Calibration();

  // Called after each window, for progress; returning false cancels.
  using Tick = std::function<bool(size_t done, size_t total)>;
  Result<LayerHessians> Collect(const LayerWeights& layer, const Tick& tick);
  Status Advance(const LayerWeights& layer, const Tick& tick);

  // Runs a part of the layer over one window's hidden states x[window][hidden], in place.
  void RunWindow(const LayerWeights& layer, BlockPart part, float* x, const LinearTap& tap);

  size_t tokens() const;
  size_t window() const;
  size_t windows() const;
  std::span<float> WindowStates(size_t index);
  // Hidden states [tokens][hidden]: inputs of the next layer, after the last one its outputs.
  std::span<const float> states() const;

 private:
  Calibration();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_CALIBRATION_H_
