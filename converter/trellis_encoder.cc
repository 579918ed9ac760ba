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
constexpr size_t kManyColumns = 1024;

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

// Per row: w H q^T, q H q^T. `h` null: H = identity.
struct Moments {
  double wq = 0, qq = 0;
};

// H = factor * values, the largest on the diagonal being 1, so that no product leaves f32's range.
struct ScaledHessian {
  double factor = 1;
  std::vector<float> values;
};

double Dot(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += double(a[i]) * double(b[i]);
  return sum;
}

// In sums of n^2 products the roundings of factors average out.
kernels::Precision ForSumsOver(size_t n) {
  return n < kManyColumns ? kernels::Precision::kSingle : kernels::Precision::kRounded;
}

// visit(row, x_r H / factor) for every row of x[rows][n], in parallel.
template <typename Visit>
void ForRowsTimesHessian(const std::vector<float>& x, size_t rows, size_t n, const ScaledHessian* h,
                         kernels::Precision precision, const Visit& visit) {
  std::vector<float> product(h != nullptr ? std::min(kRowsAtOnce, rows) * n : 0);
  for (size_t first = 0; first < rows; first += kRowsAtOnce) {
    const size_t count = std::min(kRowsAtOnce, rows - first);
    const float* rows_times_h = &x[first * n];
    if (h != nullptr) {
      kernels::MatMul(&x[first * n], n, h->values.data(), n, product.data(), n, count, n, n, false,
                      precision);
      rows_times_h = product.data();
    }
    kernels::ParallelFor(count, kRowsPerTask, [&](size_t begin, size_t end, size_t) {
      for (size_t r = begin; r < end; ++r) visit(first + r, rows_times_h + r * n);
    });
  }
}

ScaledHessian Scaled(const std::vector<double>& h, size_t n) {
  ScaledHessian scaled;
  double largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, h[i * n + i]);
  if (largest > 0) scaled.factor = largest;
  scaled.values.resize(h.size());
  std::transform(h.begin(), h.end(), scaled.values.begin(),
                 [&](double value) { return float(value / scaled.factor); });
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

// Of a row, less w H w^T.
double ErrorOf(const Moments& m, double scale) { return scale * scale * m.qq - 2 * scale * m.wq; }

// One pass of the search over all rows, aiming at weights / scale.
EncodedRows EncodeWithScale(const Trellis& trellis, const std::vector<float>& weights, size_t n,
                            const Feedback* feedback, const ScaledHessian* hessian,
                            const TrellisOptions& options, float scale) {
  const size_t rows = weights.size() / n;
  std::vector<float> aimed = weights;
  for (float& w : aimed) w /= scale;
  EncodedRows out;
  out.samples.resize(rows * trellis.RowSamples(n));
  out.values.resize(rows * n);
  EncodeRows(trellis, aimed.data(), rows, n, feedback, options.feedback_window, out.samples.data(),
             out.values.data());
  out.moments.resize(rows);
  out.scales.resize(rows);
  // To tell which of two scales is better takes exact sums.
  const auto precision = options.scale_tries > 1 ? kernels::Precision::kSingle : ForSumsOver(n);
  ForRowsTimesHessian(out.values, rows, n, hessian, precision, [&](size_t r, const float* product) {
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
    if (!(ErrorOf(other.moments[r], other.scales[r]) <
          ErrorOf(best->moments[r], best->scales[r]))) {
      continue;
    }
    std::copy_n(&other.samples[r * samples], samples, &best->samples[r * samples]);
    std::copy_n(&other.values[r * n], n, &best->values[r * n]);
    best->moments[r] = other.moments[r];
    best->scales[r] = other.scales[r];
  }
}

EncodedRows BestRows(const Trellis& trellis, const std::vector<float>& weights, size_t n,
                     const Feedback* feedback, const ScaledHessian* hessian,
                     const TrellisOptions& options) {
  const auto pass = [&](float scale) {
    return EncodeWithScale(trellis, weights, n, feedback, hessian, options, scale);
  };
  EncodedRows best = pass(kScaleTries[0]);
  const size_t tries = feedback != nullptr ? std::min(options.scale_tries, kMaxScaleTries) : 1;
  for (size_t i = 1; i < tries; ++i) KeepBetterRows(pass(kScaleTries[i]), &best);
  return best;
}

// From the errors[rows][n] = w - s q that remain: e H e^T, and what it is of w H w^T, which is
// e H e^T + 2 s w H q^T - s^2 q H q^T. (That last one the other way round would cancel.)
void SetErrors(const std::vector<float>& errors, const std::vector<Moments>& moments,
               const std::vector<double>& rms, const std::vector<float>& scales,
               const ScaledHessian* hessian, EncodedLinear* out) {
  const size_t rows = moments.size();
  const size_t n = errors.size() / rows;
  const double factor = hessian != nullptr ? hessian->factor : 1.0;
  out->row_errors.resize(rows);
  ForRowsTimesHessian(errors, rows, n, hessian, ForSumsOver(n),
                      [&](size_t r, const float* product) {
                        const double error = factor * Dot(product, &errors[r * n], n);
                        out->row_errors[r] = std::max(error, 0.0);
                      });
  double error = 0, total = 0;
  for (size_t r = 0; r < rows; ++r) {
    const double scale = double(scales[r]);
    error += out->row_errors[r];
    total += out->row_errors[r] +
             factor * (2 * scale * rms[r] * moments[r].wq - scale * scale * moments[r].qq);
  }
  out->relative_error = total > 0 ? error / total : 0.0;
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
  SDQ_ASSIGN_OR_RETURN(out.decimator,
                       LearnedDecimator(options.alphabet, options.osr_num, options.osr_den,
                                        options.window, options.derived));
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
  ScaledHessian hessian;
  std::optional<Feedback> feedback;
  if (input.hessian != nullptr) {
    std::vector<double> rotated = *input.hessian;
    RotateHessian(rotation, &rotated);
    hessian = Scaled(rotated, n);
    SDQ_ASSIGN_OR_RETURN(feedback, FactorHessian(std::move(rotated), n, input.damping));
    if (input.shift != nullptr && !input.shift->empty()) {
      ShiftWeights(rotation, *feedback, *input.shift, rows, &weights);
    }
  }
  if (!NormalizeRows(&weights, n, &rms)) {
    return Status::InvalidArgument("a weight is not finite or too large");
  }

  const ScaledHessian* h = feedback ? &hessian : nullptr;
  EncodedRows best = BestRows(trellis, weights, n, feedback ? &*feedback : nullptr, h, options);
  out.bits = PackSamples(best.samples, out.rows, out.columns, out.decimator, out.alphabet);
  out.reconstructed = std::move(best.values);

  std::vector<float> scales(rows);
  for (size_t r = 0; r < rows; ++r) scales[r] = float(rms[r] * best.scales[r]);
  PackScales(scales, &out.scales_f16, &out.scale_base);
  for (size_t r = 0; r < rows; ++r) {
    scales[r] = out.scale_base * format::F16ToF32(out.scales_f16[r]);
    float* row = &out.reconstructed[r * n];
    for (size_t i = 0; i < n; ++i) row[i] *= scales[r];
    for (size_t i = 0; i < n; ++i) weights[r * n + i] = float(rms[r]) * weights[r * n + i] - row[i];
  }
  SetErrors(weights, best.moments, rms, scales, h, &out);
  rotation.InverseRows(out.reconstructed.data(), rows, n);
  return out;
}

}  // namespace sdq::converter
