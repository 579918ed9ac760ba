// Polyphase decimator + trellis modulator: weights in, bitstream out (contract: encoder.h).
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "converter/encoder.h"
#include "converter/hessian.h"
#include "converter/trellis.h"
#include "converter/trellis_core.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/rotation.h"

namespace sdq::converter {
namespace {

constexpr size_t kRowsPerTask = 16;
constexpr size_t kRowsAtOnce = 1024;

Status CheckInput(const EncodeInput& input, const TrellisOptions& options) {
  if (input.weights == nullptr || input.rows == 0 || input.columns == 0 ||
      input.rows > format::kMaxDimension || input.columns > format::kMaxDimension) {
    return Status::InvalidArgument(
        fmt::format("a linear of {} x {} weights", input.rows, input.columns));
  }
  if (input.hessian != nullptr && input.hessian->size() != input.columns * input.columns) {
    return Status::InvalidArgument(fmt::format("a Hessian of {} numbers for {} columns",
                                               input.hessian->size(), input.columns));
  }
  if (input.shift != nullptr && !input.shift->empty() &&
      (input.hessian == nullptr || input.shift->size() != input.rows * input.columns)) {
    return Status::InvalidArgument(fmt::format("a shift of {} numbers for {} x {} weights{}",
                                               input.shift->size(), input.rows, input.columns,
                                               input.hessian == nullptr ? ", no Hessian" : ""));
  }
  if (options.rotation_block > input.columns) {
    return Status::InvalidArgument(
        fmt::format("rotation blocks of {} for {} columns", options.rotation_block, input.columns));
  }
  return Status::Ok();
}

// Scales every row to unit mean square; returns the factors (0 for a row of zeros). False if a
// weight is not finite.
bool NormalizeRows(std::vector<float>* weights, size_t columns, std::vector<double>* rms) {
  for (size_t r = 0; r < rms->size(); ++r) {
    float* row = weights->data() + r * columns;
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) sum += double(row[i]) * double(row[i]);
    if (!std::isfinite(sum)) return false;
    (*rms)[r] = std::sqrt(sum / double(columns));
    const double factor = (*rms)[r] > 0 ? 1.0 / (*rms)[r] : 0.0;
    for (size_t i = 0; i < columns; ++i) row[i] = float(double(row[i]) * factor);
  }
  return true;
}

// Adds the shift's solution to the rotated weights.
void ShiftWeights(const kernels::Rotation& rotation, const Feedback& feedback,
                  const std::vector<float>& shift, size_t rows, std::vector<float>* weights) {
  std::vector<float> change = shift;
  rotation.ApplyRows(change.data(), rows, feedback.n);
  SolveRows(feedback, rows, change.data());
  for (size_t i = 0; i < change.size(); ++i) (*weights)[i] += change[i];
}

// Row scales that are tried one after the other, relative to the row's root mean square.
constexpr std::array<float, kMaxScaleTries> kScaleTries = {1.0f, 1.05f, 1.1f, 0.95f, 1.03f, 1.07f};

// Per row: w H w^T, w H q^T, q H q^T. `h` null: H = identity.
struct Moments {
  double ww = 0, wq = 0, qq = 0;
};

double Dot(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += double(a[i]) * double(b[i]);
  return sum;
}

// visit(row, x_r H) for every row of x[rows][n], in parallel. A row's sum over n^2 products needs
// no exact factors.
template <typename Visit>
void ForRowsTimesHessian(const std::vector<float>& x, size_t rows, size_t n,
                         const std::vector<float>* h, const Visit& visit) {
  std::vector<float> product(h != nullptr ? std::min(kRowsAtOnce, rows) * n : 0);
  for (size_t first = 0; first < rows; first += kRowsAtOnce) {
    const size_t count = std::min(kRowsAtOnce, rows - first);
    const float* rows_times_h = &x[first * n];
    if (h != nullptr) {
      kernels::MatMul(&x[first * n], n, h->data(), n, product.data(), n, count, n, n, false,
                      kernels::Precision::kRounded);
      rows_times_h = product.data();
    }
    kernels::ParallelFor(count, kRowsPerTask, [&](size_t begin, size_t end, size_t) {
      for (size_t r = begin; r < end; ++r) visit(first + r, rows_times_h + r * n);
    });
  }
}

// H in f32, brought to the order of one first: only ratios of moments count.
std::vector<float> ScaledHessian(const std::vector<double>& h, size_t n) {
  double largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, h[i * n + i]);
  const double factor = largest > 0 ? 1 / largest : 1.0;
  std::vector<float> scaled(h.size());
  std::transform(h.begin(), h.end(), scaled.begin(),
                 [&](double value) { return float(value * factor); });
  return scaled;
}

// The scale of least error under H; a degenerate row keeps the one it was encoded with.
double RefittedScale(const Moments& m, double encoded_with) {
  const double scale = m.qq > 0 ? m.wq / m.qq : 0.0;
  return std::isfinite(scale) && scale > 0 ? scale : encoded_with;
}

// Samples of all rows and what they decode to, each row with the best of the scales tried so far.
struct EncodedRows {
  std::vector<int8_t> samples;   // [rows][RowSamples]
  std::vector<float> values;     // [rows][n]
  std::vector<Moments> moments;  // against the weights, values unscaled
  std::vector<double> scales;    // refitted
};

double ErrorOf(const Moments& m, double scale) {
  return m.ww - 2 * scale * m.wq + scale * scale * m.qq;
}

// One pass of the search over all rows, aiming at weights / scale.
EncodedRows EncodeWithScale(const Trellis& trellis, const std::vector<float>& weights, size_t n,
                            const Feedback* feedback, const std::vector<float>* hessian,
                            size_t feedback_window, float scale) {
  const size_t rows = weights.size() / n;
  std::vector<float> aimed = weights;
  for (float& w : aimed) w /= scale;
  EncodedRows out;
  out.samples.resize(rows * trellis.RowSamples(n));
  out.values.resize(rows * n);
  EncodeRows(trellis, aimed.data(), rows, n, feedback, feedback_window, out.samples.data(),
             out.values.data());
  out.moments.resize(rows);
  out.scales.resize(rows);
  ForRowsTimesHessian(out.values, rows, n, hessian, [&](size_t r, const float* product) {
    Moments& m = out.moments[r];
    m.wq = Dot(product, &weights[r * n], n);
    m.qq = Dot(product, &out.values[r * n], n);
    out.scales[r] = RefittedScale(m, double(scale));
  });
  return out;
}

// Rows of `other` that have less error replace those of `best`.
void KeepBetterRows(const EncodedRows& other, EncodedRows* best) {
  const size_t rows = best->moments.size();
  const size_t samples = best->samples.size() / rows;
  const size_t n = best->values.size() / rows;
  for (size_t r = 0; r < rows; ++r) {
    Moments candidate = other.moments[r];
    candidate.ww = best->moments[r].ww;
    if (!(ErrorOf(candidate, other.scales[r]) < ErrorOf(best->moments[r], best->scales[r]))) {
      continue;
    }
    std::copy_n(&other.samples[r * samples], samples, &best->samples[r * samples]);
    std::copy_n(&other.values[r * n], n, &best->values[r * n]);
    best->moments[r] = candidate;
    best->scales[r] = other.scales[r];
  }
}

EncodedRows BestRows(const Trellis& trellis, const std::vector<float>& weights, size_t n,
                     const Feedback* feedback, const std::vector<float>* hessian,
                     const TrellisOptions& options) {
  const auto pass = [&](float scale) {
    return EncodeWithScale(trellis, weights, n, feedback, hessian, options.feedback_window, scale);
  };
  EncodedRows best = pass(kScaleTries[0]);
  ForRowsTimesHessian(weights, best.moments.size(), n, hessian,
                      [&](size_t r, const float* product) {
                        best.moments[r].ww = Dot(product, &weights[r * n], n);
                      });
  const size_t tries = feedback != nullptr ? std::min(options.scale_tries, kMaxScaleTries) : 1;
  for (size_t i = 1; i < tries; ++i) KeepBetterRows(pass(kScaleTries[i]), &best);
  return best;
}

}  // namespace

Result<EncodedLinear> EncodeTrellis(const EncodeInput& input, const TrellisOptions& options) {
  SDQ_RETURN_IF_ERROR(CheckInput(input, options));
  const size_t rows = input.rows;
  const size_t n = input.columns;
  EncodedLinear out;
  out.rows = uint32_t(rows);
  out.columns = uint32_t(n);
  out.alphabet = options.alphabet;
  SDQ_ASSIGN_OR_RETURN(out.decimator, LearnedDecimator(options.alphabet, options.osr_num,
                                                       options.osr_den, options.window));
  out.decimator.lead = FreeLead(out.decimator, options.alphabet, n);
  out.rotation.kind = format::RotationKind::kHadamard;
  out.rotation.block = options.rotation_block != 0 ? options.rotation_block : uint32_t(n);
  out.rotation.sign_seed = input.seed;
  SDQ_ASSIGN_OR_RETURN(
      const Trellis trellis,
      Trellis::Create(out.decimator, options.alphabet == format::Alphabet::kBinary ? 2 : 3));

  const kernels::Rotation rotation(n, out.rotation.block, out.rotation.sign_seed);
  std::vector<float> weights(input.weights, input.weights + rows * n);
  std::vector<double> rms(rows);
  rotation.ApplyRows(weights.data(), rows, n);
  std::vector<float> hessian;
  std::optional<Feedback> feedback;
  if (input.hessian != nullptr) {
    std::vector<double> rotated = *input.hessian;
    RotateHessian(rotation, &rotated);
    hessian = ScaledHessian(rotated, n);
    SDQ_ASSIGN_OR_RETURN(feedback, FactorHessian(std::move(rotated), n, input.damping));
    if (input.shift != nullptr && !input.shift->empty()) {
      ShiftWeights(rotation, *feedback, *input.shift, rows, &weights);
    }
  }
  if (!NormalizeRows(&weights, n, &rms)) {
    return Status::InvalidArgument("a weight is not finite or too large");
  }

  EncodedRows best = BestRows(trellis, weights, n, feedback ? &*feedback : nullptr,
                              feedback ? &hessian : nullptr, options);
  out.bits = PackSamples(best.samples, out.rows, out.columns, out.decimator, out.alphabet);
  out.reconstructed = std::move(best.values);

  std::vector<float> scales(rows);
  for (size_t r = 0; r < rows; ++r) scales[r] = float(rms[r] * best.scales[r]);
  PackScales(scales, &out.scales_f16, &out.scale_base);
  double error = 0;
  double total = 0;
  for (size_t r = 0; r < rows; ++r) {
    const float stored = out.scale_base * format::F16ToF32(out.scales_f16[r]);
    for (size_t i = 0; i < n; ++i) out.reconstructed[r * n + i] *= stored;
    const Moments& m = best.moments[r];
    const double power = rms[r] * rms[r];
    const double row_error =
        power * m.ww - 2 * rms[r] * double(stored) * m.wq + double(stored) * double(stored) * m.qq;
    out.row_errors.push_back(std::max(row_error, 0.0));
    error += row_error;
    total += power * m.ww;
  }
  out.relative_error = total > 0 ? std::max(error, 0.0) / total : 0.0;
  rotation.InverseRows(out.reconstructed.data(), rows, n);
  return out;
}

}  // namespace sdq::converter
