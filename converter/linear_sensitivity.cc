#include "converter/linear_sensitivity.h"

#include <algorithm>
#include <numeric>

#include "converter/random_bits.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/rotation.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

constexpr size_t kSampledRows = 32;     // per linear, for the terms between tokens
constexpr double kLargestVariance = 8;  // an encoder that fails altogether
constexpr size_t kPowerProbes = 16;

// Linears that share an input, by the slot that comes first in Backward().
LinearSlot InputOf(LinearSlot slot) {
  if (slot == kK || slot == kV) return kQ;
  return slot == kGate ? kUp : slot;
}

// H's own part, without damping, of E e H e^T for e = z (I + A)^-1 and white z; with damping that
// is sum_j D_j.
double PowerWithoutDamping(const std::vector<double>& hessian, const Feedback& feedback,
                           uint64_t seed) {
  const size_t n = feedback.n;
  std::vector<double> powers(kPowerProbes);
  kernels::ParallelFor(kPowerProbes, 1, [&](size_t begin, size_t end, size_t) {
    std::vector<double> e(n);
    for (size_t probe = begin; probe < end; ++probe) {
      SplitMix64 random(seed, probe * n);
      for (double& z : e) z = (random.Next() >> 63) != 0 ? 1.0 : -1.0;
      for (size_t i = 0; i < n; ++i) {
        const float* row = feedback.a.data() + i * n;
        for (size_t j = i + 1; j < n; ++j) e[j] -= e[i] * double(row[j]);
      }
      for (size_t i = 0; i < n; ++i) {
        double product = 0;
        for (size_t j = 0; j < n; ++j) product += hessian[i * n + j] * e[j];
        powers[probe] += e[i] * product;
      }
    }
  });
  return std::accumulate(powers.begin(), powers.end(), 0.0) / double(kPowerProbes);
}

}  // namespace

std::vector<double> FeedbackPowers(const Feedback& feedback, const std::vector<double>& errors) {
  const size_t n = feedback.n;
  std::vector<double> powers(errors.size());
  kernels::ParallelFor(errors.size(), 1, [&](size_t begin, size_t end, size_t) {
    for (size_t k = begin; k < end; ++k) {
      std::vector<float> enlarged(n, 1.0f);
      for (size_t i = 0; i < n; ++i) {
        const double v = std::min(errors[k] * double(enlarged[i]), kLargestVariance);
        powers[k] += v * double(feedback.d[i]);
        const float* row = feedback.a.data() + i * n;
        for (size_t j = i + 1; j < n; ++j) enlarged[j] += float(v) * row[j] * row[j];
      }
    }
  });
  return powers;
}

LayerSensitivity::LayerSensitivity(const LayerWeights& weights, size_t tokens)
    : weights_(weights), tokens_(tokens) {
  for (size_t s = 0; s < kLinearSlots; ++s) {
    const Linear& linear = LinearAt(weights, LinearSlot(s));
    if (linear.rows == 0) continue;
    sums_[s].squares.assign(linear.rows, 0.0);
    const size_t count = std::min(kSampledRows, linear.rows);
    for (size_t i = 0; i < count; ++i) sums_[s].sampled.push_back(i * linear.rows / count);
    if (InputOf(LinearSlot(s)) == s) hessians_[s].assign(linear.columns * linear.columns, 0.0);
  }
}

void LayerSensitivity::Add(LinearSlot slot, const float* x, const float* dy) {
  const Linear& linear = LinearAt(weights_, slot);
  const size_t rows = linear.rows;
  const size_t columns = linear.columns;
  Sums& sums = sums_[slot];
  kernels::ParallelFor(rows, 64, [&](size_t begin, size_t end, size_t) {
    for (size_t t = 0; t < tokens_; ++t) {
      for (size_t r = begin; r < end; ++r) {
        const double g = double(dy[t * rows + r]);
        sums.squares[r] += g * g;
      }
    }
  });
  if (InputOf(slot) == slot) {
    kernels::AccumulateGramUpper(x, tokens_, columns, columns, hessians_[slot].data(),
                                 linear.dense.precision);
  }
  const size_t count = sums.sampled.size();
  std::vector<float> transposed(count * tokens_);
  for (size_t i = 0; i < count; ++i) {
    for (size_t t = 0; t < tokens_; ++t) {
      transposed[i * tokens_ + t] = dy[t * rows + sums.sampled[i]];
    }
  }
  const size_t before = sums.gradients.size();
  sums.gradients.resize(before + count * columns);
  kernels::MatMul(transposed.data(), tokens_, x, columns, sums.gradients.data() + before, columns,
                  count, columns, tokens_, false, linear.dense.precision);
  if (slot == kDown) ++windows_;
}

// mean_j(w_rj^2)
double LayerSensitivity::RowPower(LinearSlot slot, size_t row) const {
  const Linear& linear = LinearAt(weights_, slot);
  const float* w = static_cast<const float*>(linear.dense.data) + row * linear.columns;
  return double(kernels::Dot(w, w, linear.columns)) / double(linear.columns);
}

// On the sampled rows: the loss with all terms over that without those between tokens.
double LayerSensitivity::Coherence(LinearSlot slot, const Feedback& feedback, uint64_t seed) const {
  const Sums& sums = sums_[slot];
  const size_t n = feedback.n;
  const kernels::Rotation rotation(n, n, seed);
  const size_t count = sums.sampled.size();
  std::vector<double> squares(windows_ * count);
  std::vector<float> y = sums.gradients;  // then y (I + A)^T = G_r
  rotation.ApplyRows(y.data(), squares.size(), n);
  SolveFactorRows(feedback, squares.size(), y.data());
  for (size_t k = 0; k < squares.size(); ++k) {
    for (size_t i = 0; i < n; ++i) squares[k] += double(y[k * n + i]) * double(y[k * n + i]);
  }
  double power = 0;  // sum_j D_j
  for (const float d : feedback.d) power += double(d);
  double whole = 0, separate = 0;
  for (size_t i = 0; i < count; ++i) {
    const double weight = RowPower(slot, sums.sampled[i]);
    for (size_t w = 0; w < windows_; ++w) whole += weight * squares[w * count + i];
    separate += weight * sums.squares[sums.sampled[i]] * power;
  }
  return separate > 0 ? whole / separate : 1.0;
}

Result<LayerLosses> LayerSensitivity::Losses(const std::vector<double>& errors, double damping,
                                             uint64_t seed) {
  const double tokens = double(windows_ * tokens_);
  LayerLosses losses;
  for (const LinearSlot input : {kQ, kO, kUp, kDown}) {
    const size_t n = LinearAt(weights_, input).columns;
    std::vector<double> hessian = std::move(hessians_[input]);
    kernels::MirrorUpper(n, hessian.data());
    for (double& value : hessian) value /= tokens;
    RotateHessian(kernels::Rotation(n, n, seed), &hessian);
    SDQ_ASSIGN_OR_RETURN(const Feedback feedback, FactorHessian(hessian, n, damping));
    const std::vector<double> powers = FeedbackPowers(feedback, errors);
    const double undamped = PowerWithoutDamping(hessian, feedback, seed);
    const double damped = std::accumulate(feedback.d.begin(), feedback.d.end(), 0.0);
    for (size_t s = 0; s < kLinearSlots; ++s) {
      const auto slot = LinearSlot(s);
      const std::vector<double>& squares = sums_[s].squares;
      if (squares.empty() || InputOf(slot) != input) continue;
      const double coherence = Coherence(slot, feedback, seed);
      double weight = 0;
      for (size_t r = 0; r < squares.size(); ++r) {
        const double cost = 0.5 / tokens * squares[r] * coherence;
        weight += cost * RowPower(slot, r);
        losses[s].row_costs.push_back(undamped > 0 ? cost * damped / undamped : 0.0);
      }
      for (const double power : powers) losses[s].losses.push_back(weight * power);
    }
  }
  return losses;
}

}  // namespace sdq::converter
