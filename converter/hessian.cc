#include "converter/hessian.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "converter/cholesky.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

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

Result<Feedback> FactorHessian(std::vector<double> factor, size_t n, double damping) {
  if (n == 0 || factor.size() / n != n || factor.size() % n != 0) {
    return Status::InvalidArgument("Hessian of " + std::to_string(factor.size()) +
                                   " elements does not fit " + std::to_string(n) + " columns");
  }
  if (!std::isfinite(damping) || damping < 0) {
    return Status::InvalidArgument("Hessian damping must be finite and not negative");
  }
  SDQ_ASSIGN_OR_RETURN(const double mean, MeanDiagonal(factor, n));
  for (size_t i = 0; i < n; ++i) {
    double& d = factor[i * n + i];
    d = (d > 0 ? d : mean) + damping * mean;
  }
  SDQ_RETURN_IF_ERROR(FactorFromTheEnd(&factor, n));
  return FromFactor(factor, n);
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
