#include "converter/block_feedback.h"

#include <algorithm>

#include "kernels/dense.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

constexpr size_t kRowGrain = 16;
constexpr size_t kSolveBlock = 64;

// A_cb A_bb^-1 for all c < b: X A_bb = A[:begin, b], by forward substitution in every row.
std::vector<float> ExactMap(const Feedback& f, size_t begin, size_t end) {
  const size_t width = end - begin;
  std::vector<float> map(begin * width);
  kernels::ParallelFor(begin, kRowGrain, [&](size_t first, size_t last, size_t) {
    std::vector<double> x(width);
    for (size_t i = first; i < last; ++i) {
      const float* source = f.a.data() + i * f.n + begin;
      std::copy(source, source + width, x.begin());
      for (size_t k = 0; k < width; ++k) {
        const float* pivot_row = f.a.data() + (begin + k) * f.n + begin;
        for (size_t j = k + 1; j < width; ++j) x[j] -= x[k] * double(pivot_row[j]);
      }
      std::transform(x.begin(), x.end(), map.begin() + std::ptrdiff_t(i * width),
                     [](double value) { return float(value); });
    }
  });
  return map;
}

// rows [begin, end) of X: X = A_rr^-1 X with A_rr unit upper triangular, `width` columns.
void SolveRows(const Feedback& f, size_t begin, size_t end, size_t width, float* x) {
  for (size_t i = end; i-- > begin;) {
    for (size_t k = i + 1; k < end; ++k) {
      const float a = f.a[i * f.n + k];
      for (size_t j = 0; j < width; ++j) x[i * width + j] -= a * x[k * width + j];
    }
  }
}

// -(A^-1)[:begin, b], by blocked back substitution: A X = I_b.
std::vector<float> DiagonalMap(const Feedback& f, size_t begin, size_t end) {
  const size_t width = end - begin;
  std::vector<float> x(end * width);
  for (size_t i = begin; i < end; ++i) x[i * width + (i - begin)] = 1.0f;
  SolveRows(f, begin, end, width, x.data());
  for (size_t stop = begin; stop > 0;) {
    const size_t start = (stop - 1) / kSolveBlock * kSolveBlock;
    kernels::MatMul(f.a.data() + start * f.n + stop, f.n, x.data() + stop * width, width,
                    x.data() + start * width, width, stop - start, width, end - stop, false);
    for (size_t i = start * width; i < stop * width; ++i) x[i] = -x[i];
    SolveRows(f, start, stop, width, x.data());
    stop = start;
  }
  x.resize(begin * width);
  for (float& value : x) value = -value;
  return x;
}

}  // namespace

std::vector<float> FeedbackMap(const Feedback& feedback, size_t begin, size_t end,
                               Compensation compensation) {
  return compensation == Compensation::kExact ? ExactMap(feedback, begin, end)
                                              : DiagonalMap(feedback, begin, end);
}

BlockFeedback::BlockFeedback(const float* weights, size_t rows, const Feedback& feedback,
                             Compensation compensation)
    : weights_(weights),
      rows_(rows),
      feedback_(feedback),
      compensation_(compensation),
      errors_(rows * feedback.n) {}

void BlockFeedback::Targets(size_t begin, size_t end, float* targets) const {
  const size_t width = end - begin;
  for (size_t r = 0; r < rows_; ++r) {
    const float* row = weights_ + r * feedback_.n;
    std::copy(row + begin, row + end, targets + r * width);
  }
  if (begin == 0) return;
  const std::vector<float> map = FeedbackMap(feedback_, begin, end, compensation_);
  kernels::MatMul(errors_.data(), feedback_.n, map.data(), width, targets, width, rows_, width,
                  begin, true);
}

void BlockFeedback::Store(size_t begin, size_t end, const float* targets, const float* quantized) {
  const size_t width = end - begin;
  for (size_t r = 0; r < rows_; ++r) {
    const float* aim = compensation_ == Compensation::kExact ? weights_ + r * feedback_.n + begin
                                                             : targets + r * width;
    float* errors = errors_.data() + r * feedback_.n + begin;
    for (size_t j = 0; j < width; ++j) errors[j] = aim[j] - quantized[r * width + j];
  }
}

}  // namespace sdq::converter
