// Error feedback from block to block of columns, for encoders that quantize whole blocks.
//
// With H + damping = R R^T (hessian.h: R = A D^(1/2), A unit upper triangular) the objective is
// sum_b ||(E_b + sum_{c<b} E_c R_cb R_bb^-1) R_bb||^2, E = W - W_q. So block b should aim at
//     T_b = W_b + sum_{c<b} E_c A_cb A_bb^-1,
// which equals the usual running update W_later -= (T_b - Q_b) U_bb^-1 U_b,later with
// U = chol(H^-1) upper = R^-1 (GPTQ, Frantar et al. 2022, solved exactly).
//
// The shortcut that SDQ-LLM's published code takes divides by diag(U_bb) instead of solving with
// U_bb: W_later -= (T_b - Q_b) diag(U_bb)^-1 U_b,later, that is, T_b = W_b - sum_{c<b} F_c
// (A^-1)_cb with F = T - W_q.
#ifndef SDQ_CONVERTER_BLOCK_FEEDBACK_H_
#define SDQ_CONVERTER_BLOCK_FEEDBACK_H_

#include <cstddef>
#include <vector>

#include "converter/hessian.h"

namespace sdq::converter {

enum class Compensation {
  kExact,     // errors are W - W_q
  kDiagonal,  // errors are T - W_q
};

// The targets of one linear, [rows][n], block after block.
class BlockFeedback {
 public:
  // `weights` [rows][feedback.n] and `feedback` must outlive this.
  BlockFeedback(const float* weights, size_t rows, const Feedback& feedback,
                Compensation compensation);

  // targets[rows][end - begin] of the block of columns [begin, end). Blocks come in order: all
  // columns before `begin` are stored.
  void Targets(size_t begin, size_t end, float* targets) const;
  // What became of that block.
  void Store(size_t begin, size_t end, const float* targets, const float* quantized);

 private:
  const float* weights_;
  size_t rows_;
  const Feedback& feedback_;
  Compensation compensation_;
  std::vector<float> errors_;  // [rows][n]
};

// M[begin][end - begin] such that T_b = W_b + Errors[:, :begin] M.
std::vector<float> FeedbackMap(const Feedback& feedback, size_t begin, size_t end,
                               Compensation compensation);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_BLOCK_FEEDBACK_H_
