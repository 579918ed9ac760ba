#include "converter/hessian.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/parallel.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

constexpr size_t kPanel = 64;  // columns factored at a time
constexpr size_t kTileRows = 4;
constexpr size_t kTileColumns = 8;

// Upper triangular R with M = R R^T, from the last panel of columns to the first, in place in the
// upper triangle of m[n][n]. Every element is reduced over panels in the same order, whatever the
// number of threads.
class ReversedCholesky {
 public:
  ReversedCholesky(std::vector<double>* m, size_t n) : m_(*m), n_(n), panel_(kPanel * n) {}

  Status Run() {
    for (size_t end = n_; end > 0;) {
      const size_t begin = (end - 1) / kPanel * kPanel;
      SDQ_RETURN_IF_ERROR(FactorDiagonal(begin, end));
      SolvePanel(begin, end);
      UpdateLeading(begin, end - begin);
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
      for (size_t i = begin; i < j; ++i) SolveElement(Row(i), j, end);
    }
    return Status::Ok();
  }

  // row[j] = (row[j] - sum_{k>j} row[k] R[j][k]) / R[j][j] within one panel.
  void SolveElement(double* row, size_t j, size_t end) {
    const double* row_j = Row(j);
    double sum = row[j];
    for (size_t k = j + 1; k < end; ++k) sum -= row[k] * row_j[k];
    row[j] = sum / row_j[j];
  }

  // Rows above the diagonal block, and their transpose into panel_ (panel_[k][i] = R[i][begin+k]).
  void SolvePanel(size_t begin, size_t end) {
    kernels::ParallelFor(begin, 16, [&](size_t first, size_t last, size_t) {
      for (size_t i = first; i < last; ++i) {
        for (size_t j = end; j-- > begin;) SolveElement(Row(i), j, end);
        for (size_t j = begin; j < end; ++j) panel_[(j - begin) * n_ + i] = Row(i)[j];
      }
    });
  }

  // M[i][j] -= sum_k R[i][k] R[j][k] over the panel's columns, for i <= j < size.
  void UpdateLeading(size_t size, size_t depth) {
    constexpr size_t kStripe = 16;
    const size_t stripes = (size + kStripe - 1) / kStripe;
    kernels::ParallelFor(stripes, 1, [&](size_t first, size_t last, size_t) {
      for (size_t s = first; s < last; ++s) {
        // Long rows and short ones alternate, so that equal ranges are equal work.
        const size_t stripe = s % 2 == 0 ? s / 2 : stripes - 1 - s / 2;
        const size_t stop = std::min(size, (stripe + 1) * kStripe);
        for (size_t i = stripe * kStripe; i < stop; i += kTileRows) {
          UpdateRows(i, std::min(kTileRows, stop - i), size, depth);
        }
      }
    });
  }

  void UpdateRows(size_t i, size_t rows, size_t size, size_t depth) {
    size_t j = i;
    if (rows == kTileRows) {
      for (; j + kTileColumns <= size; j += kTileColumns) UpdateTile(i, j, depth);
    }
    for (; j < size; ++j) {
      for (size_t r = 0; r < rows; ++r) {
        double sum = 0;
        for (size_t k = 0; k < depth; ++k) sum += panel_[k * n_ + i + r] * panel_[k * n_ + j];
        Row(i + r)[j] -= sum;
      }
    }
  }

  // A tile may reach below the diagonal: those elements are never read.
  void UpdateTile(size_t i, size_t j, size_t depth) {
    double sum[kTileRows][kTileColumns] = {};
    for (size_t k = 0; k < depth; ++k) {
      const double* p = panel_.data() + k * n_;
      for (size_t r = 0; r < kTileRows; ++r) {
        for (size_t c = 0; c < kTileColumns; ++c) sum[r][c] += p[i + r] * p[j + c];
      }
    }
    for (size_t r = 0; r < kTileRows; ++r) {
      double* row = Row(i + r) + j;
      for (size_t c = 0; c < kTileColumns; ++c) row[c] -= sum[r][c];
    }
  }

  std::vector<double>& m_;
  size_t n_;
  std::vector<double> panel_;
};

// Mean over columns that are alive; 1 if there is none.
Result<double> MeanDiagonal(const std::vector<double>& h, size_t n) {
  double sum = 0;
  size_t alive = 0;
  for (size_t i = 0; i < n; ++i) {
    const double d = h[i * n + i];
    if (!std::isfinite(d) || d < 0) {
      return Status::InvalidArgument("Hessian diagonal is negative or not finite at column " +
                                     std::to_string(i));
    }
    sum += d;
    alive += d > 0 ? 1 : 0;
  }
  return alive > 0 ? sum / double(alive) : 1.0;
}

Feedback FromFactor(const std::vector<double>& r, size_t n) {
  Feedback feedback;
  feedback.n = n;
  feedback.a.assign(n * n, 0.0f);
  feedback.d.resize(n);
  std::vector<double> inverse(n);
  for (size_t j = 0; j < n; ++j) {
    const double pivot = r[j * n + j];
    feedback.d[j] = float(pivot * pivot);
    inverse[j] = 1.0 / pivot;
  }
  kernels::ParallelFor(n, 16, [&](size_t first, size_t last, size_t) {
    for (size_t i = first; i < last; ++i) {
      const double* row = r.data() + i * n;
      float* out = feedback.a.data() + i * n;
      out[i] = 1.0f;
      for (size_t j = i + 1; j < n; ++j) out[j] = float(row[j] * inverse[j]);
    }
  });
  return feedback;
}

void TransposeInPlace(std::vector<double>* h, size_t n) {
  constexpr size_t kBlock = 32;
  for (size_t bi = 0; bi < n; bi += kBlock) {
    for (size_t bj = bi; bj < n; bj += kBlock) {
      for (size_t i = bi; i < std::min(n, bi + kBlock); ++i) {
        for (size_t j = std::max(bj, i + 1); j < std::min(n, bj + kBlock); ++j) {
          std::swap((*h)[i * n + j], (*h)[j * n + i]);
        }
      }
    }
  }
}

// T is single precision; rows are brought to the order of one first, so that neither tiny nor huge
// activations leave f32's range.
void RotateRows(const kernels::Rotation& rotation, std::vector<double>* h, size_t n) {
  kernels::ParallelFor(n, 16, [&](size_t first, size_t last, size_t) {
    std::vector<float> buffer(n);
    for (size_t i = first; i < last; ++i) {
      double* row = h->data() + i * n;
      double largest = 0;
      for (size_t j = 0; j < n; ++j) largest = std::max(largest, std::abs(row[j]));
      if (!(largest > 0)) continue;
      for (size_t j = 0; j < n; ++j) buffer[j] = float(row[j] / largest);
      rotation.Apply(buffer.data());
      for (size_t j = 0; j < n; ++j) row[j] = largest * double(buffer[j]);
    }
  });
}

}  // namespace

Result<Feedback> FactorHessian(const std::vector<double>& h, size_t n, double damping) {
  if (n == 0 || h.size() / n != n || h.size() % n != 0) {
    return Status::InvalidArgument("Hessian of " + std::to_string(h.size()) +
                                   " elements does not fit " + std::to_string(n) + " columns");
  }
  if (!std::isfinite(damping) || damping < 0) {
    return Status::InvalidArgument("Hessian damping must be finite and not negative");
  }
  SDQ_ASSIGN_OR_RETURN(const double mean, MeanDiagonal(h, n));
  std::vector<double> factor = h;
  for (size_t i = 0; i < n; ++i) {
    double& d = factor[i * n + i];
    d = (d > 0 ? d : mean) + damping * mean;
  }
  SDQ_RETURN_IF_ERROR(ReversedCholesky(&factor, n).Run());
  return FromFactor(factor, n);
}

void SolveRows(const Feedback& feedback, size_t count, float* rows) {
  constexpr size_t kGroup = 8;  // rows that share a pass over A
  const size_t n = feedback.n;
  kernels::ParallelFor(count, kGroup, [&](size_t begin, size_t end, size_t) {
    for (size_t first = begin; first < end; first += kGroup) {
      const size_t last = std::min(end, first + kGroup);
      // y (I + A)^T = row, from the last column; then z (I + A) = y D^-1, from the first.
      for (size_t j = n; j-- > 0;) {
        const float* a = &feedback.a[j * n];
        for (size_t r = first; r < last; ++r) {
          float* y = rows + r * n;
          y[j] -= kernels::Dot(a + j + 1, y + j + 1, n - j - 1);
        }
      }
      for (size_t r = first; r < last; ++r) {
        for (size_t j = 0; j < n; ++j) rows[r * n + j] /= feedback.d[j];
      }
      for (size_t j = 0; j < n; ++j) {
        const float* a = &feedback.a[j * n];
        for (size_t r = first; r < last; ++r) {
          float* z = rows + r * n;
          const float value = z[j];
          for (size_t k = j + 1; k < n; ++k) z[k] -= value * a[k];
        }
      }
    }
  });
}

void RotateHessian(const kernels::Rotation& rotation, std::vector<double>* h) {
  const size_t n = rotation.columns();
  // (H T^T)^T = T H, since H is symmetric; its rows rotated once more are T H T^T.
  RotateRows(rotation, h, n);
  TransposeInPlace(h, n);
  RotateRows(rotation, h, n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i + 1; j < n; ++j) {
      const double mean = 0.5 * ((*h)[i * n + j] + (*h)[j * n + i]);
      (*h)[i * n + j] = mean;
      (*h)[j * n + i] = mean;
    }
  }
}

}  // namespace sdq::converter
