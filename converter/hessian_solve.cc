// Rows times the inverse of the factored Hessian (contract: hessian.h).
#include <algorithm>
#include <vector>

#include "converter/hessian.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

constexpr size_t kBlock = 64;       // columns solved at a time
constexpr size_t kMostRows = 2048;  // that share a pass over A
constexpr size_t kRowGrain = 16;

// One block of columns of A and the rows that are solved.
struct Block {
  const Feedback& feedback;
  size_t begin, end;
  size_t count;
  float* rows;

  size_t width() const { return end - begin; }
  const float* A(size_t row, size_t column) const { return &feedback.a[row * feedback.n + column]; }
};

// fn(row), x_r[begin, end), in parallel.
template <typename Fn>
void ForRows(const Block& b, const Fn& fn) {
  kernels::ParallelFor(b.count, kRowGrain, [&](size_t first, size_t last, size_t) {
    for (size_t r = first; r < last; ++r) fn(r, b.rows + r * b.feedback.n + b.begin);
  });
}

// Y[:, b] -= Y[:, end:] A[b, end:]^T, then y (I + A_bb)^T = Y[:, b] in every row.
void SolveTransposed(const Block& b, std::vector<float>* a, std::vector<float>* product) {
  const size_t n = b.feedback.n;
  const size_t width = b.width();
  const size_t depth = n - b.end;
  if (depth > 0) {
    a->resize(width * depth);
    for (size_t i = 0; i < width; ++i) {
      std::copy_n(b.A(b.begin + i, b.end), depth, a->begin() + std::ptrdiff_t(i * depth));
    }
    kernels::DenseMatrix matrix;
    matrix.data = a->data();
    matrix.rows = width;
    matrix.columns = depth;
    kernels::DenseProduct(matrix, b.rows + b.end, b.count, n, product->data(), width);
    ForRows(b, [&](size_t r, float* y) {
      for (size_t k = 0; k < width; ++k) y[k] -= (*product)[r * width + k];
    });
  }
  std::vector<float> columns(width * width);
  for (size_t j = 0; j < width; ++j) {
    for (size_t k = 0; k < j; ++k) columns[j * width + k] = *b.A(b.begin + k, b.begin + j);
  }
  ForRows(b, [&](size_t, float* y) {
    for (size_t j = width; j-- > 0;) {
      for (size_t k = 0; k < j; ++k) y[k] -= y[j] * columns[j * width + k];
    }
  });
}

// z (I + A_bb) = Z[:, b] in every row, then Z[:, end:] -= Z[:, b] A[b, end:].
void Solve(const Block& b, std::vector<float>* negated) {
  const size_t n = b.feedback.n;
  const size_t width = b.width();
  ForRows(b, [&](size_t r, float* z) {
    for (size_t j = 0; j < width; ++j) {
      const float* a = b.A(b.begin + j, b.begin);
      for (size_t k = j + 1; k < width; ++k) z[k] -= z[j] * a[k];
    }
    for (size_t j = 0; j < width; ++j) (*negated)[r * width + j] = -z[j];
  });
  if (b.end == n) return;
  kernels::MatMul(negated->data(), width, b.A(b.begin, b.end), n, b.rows + b.end, n, b.count,
                  n - b.end, width, true);
}

// y (I + A)^T = row, from the last column.
void SolveFactorChunk(const Feedback& feedback, size_t count, float* rows) {
  const size_t n = feedback.n;
  std::vector<float> block_of_a, products(count * std::min(kBlock, n));
  for (size_t end = n; end > 0;) {
    const size_t begin = (end - 1) / kBlock * kBlock;
    SolveTransposed({feedback, begin, end, count, rows}, &block_of_a, &products);
    end = begin;
  }
}

// After that, z (I + A) = y D^-1, from the first column.
void SolveChunk(const Feedback& feedback, size_t count, float* rows) {
  const size_t n = feedback.n;
  std::vector<float> products(count * std::min(kBlock, n));
  SolveFactorChunk(feedback, count, rows);
  for (size_t r = 0; r < count; ++r) {
    for (size_t j = 0; j < n; ++j) rows[r * n + j] /= feedback.d[j];
  }
  for (size_t begin = 0; begin < n; begin += kBlock) {
    Solve({feedback, begin, std::min(n, begin + kBlock), count, rows}, &products);
  }
}

}  // namespace

void SolveFactorRows(const Feedback& feedback, size_t count, float* rows) {
  for (size_t first = 0; first < count; first += kMostRows) {
    SolveFactorChunk(feedback, std::min(kMostRows, count - first), rows + first * feedback.n);
  }
}

void SolveRows(const Feedback& feedback, size_t count, float* rows) {
  for (size_t first = 0; first < count; first += kMostRows) {
    SolveChunk(feedback, std::min(kMostRows, count - first), rows + first * feedback.n);
  }
}

}  // namespace sdq::converter
