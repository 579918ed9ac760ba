// What errors of token embeddings and of the head cost: the tables' part of sensitivity.h.
//
// With labels drawn from the model's predictions p_t, and independent errors e_r of the rows,
//     KL = 1/2 sum_r e_r F_r e_r^T.
// A row r of the head meets the head's inputs h_t, and the Fisher information of logits is known
// without drawing: F_r = sum_t p_tr (1 - p_tr) h_t h_t^T. A row of the embeddings meets the
// gradients g_t where its token stands, together: F_r = G_r G_r^T, G_r = sum_{t: token_t = r} g_t
// over a window. A table that is both has the sum, which leaves out the terms between the two.
//
// Errors are relative to a row's mean square m_r, so M = sum_r m_r F_r says what they cost over all
// rows: it is the encoder's Hessian (rows that matter little are few of its bits' concern), and
// with error feedback the loss is 1/2 sum_j V_j D_j, as for linears.
#ifndef SDQ_CONVERTER_TABLE_SENSITIVITY_H_
#define SDQ_CONVERTER_TABLE_SENSITIVITY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

struct TableSensitivity {
  std::string name;             // "embed.tokens" or "head"
  std::vector<double> hessian;  // M per token, [columns][columns], original basis
  std::vector<double> losses;   // nats per token, one for each error that was asked for
  double eight_bit_loss = 0;    // of 8-bit rows
};

class TableMetric {
 public:
  // The table [rows][columns]; copied nowhere, kept nowhere.
  TableMetric(std::string name, std::span<const float> table, size_t columns);

  // mean_j(w_rj^2) of every row.
  const std::vector<double>& row_powers() const { return powers_; }

  // As a head: inputs x[count][columns], spreads[t] = sum_r m_r p_tr (1 - p_tr).
  void AddInputs(const float* x, std::span<const double> spreads);
  // As embeddings: one whole window of tokens and gradients g[tokens][columns].
  void AddGradients(std::span<const TokenId> tokens, const float* g);

  // To be called once. `tokens`: how many were added in all. errors, damping, seed: sensitivity.h.
  Result<TableSensitivity> Finish(size_t tokens, const std::vector<double>& errors, double damping,
                                  uint64_t seed);

 private:
  std::string name_;
  size_t columns_;
  std::vector<double> powers_;
  double eight_bit_error_ = 0;  // relative, of rows that are used equally
  std::vector<double> sums_;    // upper half of M's sums
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_TABLE_SENSITIVITY_H_
