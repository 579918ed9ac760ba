#include "converter/cholesky.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "kernels/parallel.h"
#include "kernels/rank_update.h"

namespace sdq::converter {
namespace {

constexpr size_t kPanel = 64;  // columns factored at a time
constexpr size_t kStripe = kernels::kUpdateStripe;

class ReversedCholesky {
 public:
  ReversedCholesky(std::vector<double>* m, size_t n)
      : m_(*m), n_(n), packed_((n + kStripe - 1) / kStripe * kStripe * kPanel) {}

  Status Run() {
    for (size_t end = n_; end > 0;) {
      const size_t begin = (end - 1) / kPanel * kPanel;
      SDQ_RETURN_IF_ERROR(FactorDiagonal(begin, end));
      SolvePanel(begin, end);
      kernels::SubtractOwnProduct(packed_.data(), end - begin, begin, n_, m_.data());
      end = begin;
    }
    return Status::Ok();
  }

 private:
  double* Row(size_t i) { return m_.data() + i * n_; }

  Status FactorDiagonal(size_t begin, size_t end) {
    for (size_t j = end; j-- > begin;) {
      double* row_j = Row(j);
      double pivot = row_j[j];
      for (size_t k = j + 1; k < end; ++k) pivot -= row_j[k] * row_j[k];
      if (!(pivot > 0) || !std::isfinite(pivot)) {
        return Status::InvalidArgument("Hessian is not positive definite at column " +
                                       std::to_string(j) + " of " + std::to_string(n_) +
                                       "; use more damping");
      }
      row_j[j] = std::sqrt(pivot);
      for (size_t i = begin; i < j; ++i) {
        double* row = Row(i);
        double sum = row[j];
        for (size_t k = j + 1; k < end; ++k) sum -= row[k] * row_j[k];
        row[j] = sum / row_j[j];
      }
    }
    return Status::Ok();
  }

  // Rows above the diagonal block, X R_bb^T = M[:begin, b], and their transpose into packed_.
  void SolvePanel(size_t begin, size_t end) {
    const size_t width = end - begin;
    std::array<double, kPanel * kPanel> columns;  // of the diagonal block
    for (size_t j = 0; j < width; ++j) {
      for (size_t k = 0; k <= j; ++k) columns[j * kPanel + k] = Row(begin + k)[begin + j];
    }
    kernels::ParallelFor(begin, kStripe, [&](size_t first, size_t last, size_t) {
      for (size_t i = first; i < last; ++i) {
        double* x = Row(i) + begin;
        for (size_t j = width; j-- > 0;) {
          const double* column = &columns[j * kPanel];
          const double value = x[j] / column[j];
          x[j] = value;
          for (size_t k = 0; k < j; ++k) x[k] -= value * column[k];
        }
        double* to = packed_.data() + i / kStripe * kStripe * width + i % kStripe;
        for (size_t j = 0; j < width; ++j) to[j * kStripe] = x[j];
      }
    });
  }

  std::vector<double>& m_;
  size_t n_;
  std::vector<double> packed_;  // [stripe][column of the panel][16 rows]
};

}  // namespace

Status FactorFromTheEnd(std::vector<double>* m, size_t n) { return ReversedCholesky(m, n).Run(); }

}  // namespace sdq::converter
