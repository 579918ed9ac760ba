// Causal attention over one window, forward and backward, with rotary embedding (LLaMA) and
// grouped KV heads. Row-major [tokens][heads * head_dim] matrices.
#ifndef SDQ_CONVERTER_ATTENTION_GRADIENT_H_
#define SDQ_CONVERTER_ATTENTION_GRADIENT_H_

#include <cstddef>
#include <vector>

#include "runtime/config.h"

namespace sdq::converter {

class AttentionDifferentiator {
 public:
  AttentionDifferentiator(const ModelConfig& config, size_t tokens);

  // q, k, v before the rotary embedding. Keeps the turned q, k, v and all attention weights.
  void Forward(const std::vector<float>& q, const std::vector<float>& k,
               const std::vector<float>& v, std::vector<float>* out);
  // Gradients with respect to q, k, v as given to the last Forward.
  void Backward(const std::vector<float>& d_out, std::vector<float>* dq, std::vector<float>* dk,
                std::vector<float>* dv) const;

 private:
  void Turn(std::vector<float>* x, size_t heads, bool back) const;
  // Head `h` of x (width heads*dim) as [tokens][dim].
  std::vector<float> Slice(const std::vector<float>& x, size_t heads, size_t h) const;

  size_t tokens_, heads_, kv_heads_, dim_;
  float scale_;
  std::vector<float> rotary_;       // cosines and sines, empty without rotary embedding
  std::vector<float> rotary_back_;  // sines negated
  std::vector<float> q_, k_, v_;
  std::vector<float> weights_;  // [heads][tokens][tokens], zero above the diagonal
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_ATTENTION_GRADIENT_H_
