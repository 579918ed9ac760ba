#include "converter/tuning.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

constexpr double kBeta1 = 0.9;
constexpr double kBeta2 = 0.99;
constexpr double kEpsilon = 1e-10;
constexpr double kWarmUpShare = 0.05;

// Adam over all vectors of a ModelParameters.
class Adam {
 public:
  explicit Adam(const ModelParameters& parameters)
      : first_(parameters.ZerosLike()), second_(parameters.ZerosLike()) {}

  void Step(double rate, ModelParameters* parameters, ModelParameters* gradients) {
    ++steps_;
    std::vector<std::vector<float>*> p, g, m, v;
    Collect(*parameters, &p);
    Collect(*gradients, &g);
    Collect(first_, &m);
    Collect(second_, &v);
    const double correction1 = 1 - std::pow(kBeta1, double(steps_));
    const double correction2 = 1 - std::pow(kBeta2, double(steps_));
    for (size_t i = 0; i < p.size(); ++i) {
      for (size_t j = 0; j < p[i]->size(); ++j) {
        const double gradient = double((*g[i])[j]);
        const double mean = kBeta1 * double((*m[i])[j]) + (1 - kBeta1) * gradient;
        const double power = kBeta2 * double((*v[i])[j]) + (1 - kBeta2) * gradient * gradient;
        (*m[i])[j] = float(mean);
        (*v[i])[j] = float(power);
        (*p[i])[j] -=
            float(rate * (mean / correction1) / (std::sqrt(power / correction2) + kEpsilon));
      }
    }
  }

 private:
  static void Collect(ModelParameters& parameters, std::vector<std::vector<float>*>* out) {
    parameters.ForEach([&](std::vector<float>& v) { out->push_back(&v); });
  }
  ModelParameters first_, second_;
  size_t steps_ = 0;
};

// The float model's logits from the outputs of its last block.
class Teacher {
 public:
  Teacher(const ModelConfig& config, const OuterWeights& outer) : config_(config), outer_(outer) {}

  void Logits(const float* hidden, size_t count, std::vector<float>* logits) const {
    const size_t n = size_t(config_.hidden_size);
    const size_t width = size_t(config_.embed_size);
    std::vector<float> x(hidden, hidden + count * n);
    if (!outer_.final_norm_weight.empty()) {
      NormForward(config_, outer_.final_norm_weight, outer_.final_norm_bias, hidden, count,
                  x.data());
    }
    if (!outer_.project_out.empty()) {
      std::vector<float> projected(count * width);
      Product(outer_.project_out, width, n, x, count, projected.data());
      x = std::move(projected);
    }
    logits->resize(count * size_t(config_.vocab_size));
    Product(outer_.HeadMatrix(), size_t(config_.vocab_size), width, x, count, logits->data());
  }

 private:
  static void Product(const std::vector<float>& matrix, size_t rows, size_t columns,
                      const std::vector<float>& x, size_t count, float* y) {
    kernels::DenseMatrix dense;
    dense.data = matrix.data();
    dense.rows = rows;
    dense.columns = columns;
    kernels::DenseProduct(dense, x.data(), count, columns, y, rows);
  }
  const ModelConfig& config_;
  const OuterWeights& outer_;
};

// Turns student logits into d KL(teacher || student) / d logits / positions; returns the KL sum.
double KlGradient(const std::vector<float>& teacher, size_t count, size_t vocab, double scale,
                  float* logits) {
  std::vector<double> kl(count);
  kernels::ParallelFor(count, 1, [&](size_t begin, size_t end, size_t) {
    std::vector<float> p(vocab), difference(vocab);
    for (size_t t = begin; t < end; ++t) {
      const float* target = teacher.data() + t * vocab;
      float* z = logits + t * vocab;
      std::copy_n(target, vocab, p.begin());
      for (size_t i = 0; i < vocab; ++i) difference[i] = target[i] - z[i];
      const double teacher_lse = double(kernels::Softmax(p.data(), vocab));
      const double student_lse = double(kernels::Softmax(z, vocab));
      kl[t] = double(kernels::Dot(p.data(), difference.data(), vocab)) + student_lse - teacher_lse;
      for (size_t i = 0; i < vocab; ++i) z[i] = float(scale) * (z[i] - p[i]);
    }
  });
  double sum = 0;
  for (const double value : kl) sum += value;
  return sum;
}

double RateAt(const TuningOptions& options, size_t step, size_t steps) {
  const double position = (double(step) + 0.5) / double(steps);
  const double warm = std::min(1.0, position / kWarmUpShare);
  return options.learning_rate * warm * 0.5 * (1 + std::cos(std::numbers::pi * position));
}

}  // namespace

Result<ModelParameters> TuneParameters(const ModelConfig& config,
                                       const std::vector<const LayerWeights*>& student,
                                       const OuterWeights& outer, const OuterWeights& teacher_outer,
                                       std::span<const TokenId> tokens,
                                       std::span<const float> teacher_hidden,
                                       const TuningOptions& options,
                                       const std::function<bool(const TuningProgress&)>& progress) {
  const size_t windows = tokens.size() / options.window;
  if (windows == 0) return Status::InvalidArgument("tuning needs at least one window of tokens");
  const size_t hidden = size_t(config.hidden_size);
  const size_t vocab = size_t(config.vocab_size);
  ModelParameters parameters = ModelParameters::FromModel(student, outer, hidden);
  ModelDifferentiator model(config, student, outer, options.window);
  const Teacher teacher(config, teacher_outer);
  Adam adam(parameters);
  const size_t steps_per_epoch = (windows + options.batch_windows - 1) / options.batch_windows;
  TuningProgress state;
  state.steps = steps_per_epoch * options.epochs;
  std::vector<float> teacher_logits;
  for (state.step = 0; state.step < state.steps; ++state.step) {
    const size_t first = state.step % steps_per_epoch * options.batch_windows;
    const size_t last = std::min(first + options.batch_windows, windows);
    ModelParameters sums = parameters.ZerosLike();
    const double scored = double((last - first) * options.window);
    double kl = 0;
    for (size_t w = first; w < last; ++w) {
      const size_t begin = w * options.window;
      model.Forward(tokens.subspan(begin, options.window), parameters);
      const LogitsLoss loss = [&](size_t at, size_t count, float* logits) {
        teacher.Logits(teacher_hidden.data() + (begin + at) * hidden, count, &teacher_logits);
        kl += KlGradient(teacher_logits, count, vocab, 1.0 / scored, logits);
      };
      model.Backward(parameters, loss, &sums, ModelTap());
    }
    adam.Step(RateAt(options, state.step, state.steps), &parameters, &sums);
    state.kl = kl / scored;
    if (progress && !progress(state)) return Status::Cancelled("interrupted");
  }
  return parameters;
}

}  // namespace sdq::converter
