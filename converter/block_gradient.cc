#include "converter/block_gradient.h"

#include <algorithm>
#include <cmath>

#include "converter/attention_gradient.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"
#include "runtime/transformer.h"

namespace sdq::converter {
namespace {

using Matrix = std::vector<float>;

bool IsLlama(const ModelConfig& config) { return config.architecture == Architecture::kLlama; }

// y[t][r] = gain_r (W x)_r + bias_r
void RunLinear(const Linear& linear, const BlockParameters::LinearParameters& parameters,
               const Matrix& x, size_t tokens, Matrix* y) {
  y->resize(tokens * linear.rows);
  kernels::DenseMatrix plain = linear.dense;
  plain.bias = nullptr;
  kernels::DenseProduct(plain, x.data(), tokens, linear.columns, y->data(), linear.rows);
  kernels::ParallelFor(tokens, 8, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      float* row = y->data() + t * linear.rows;
      if (!parameters.gain.empty()) {
        for (size_t r = 0; r < linear.rows; ++r) row[r] *= parameters.gain[r];
      }
      if (!parameters.bias.empty()) {
        for (size_t r = 0; r < linear.rows; ++r) row[r] += parameters.bias[r];
      }
    }
  });
}

// Gradients of gain and bias; y is the linear's output of the forward pass.
void AddLinearSums(const Linear& linear, const BlockParameters::LinearParameters& parameters,
                   const Matrix& y, const Matrix& dy, size_t tokens,
                   BlockParameters::LinearParameters* sums) {
  const size_t rows = linear.rows;
  kernels::ParallelFor(rows, 16, [&](size_t begin, size_t end, size_t) {
    for (size_t t = 0; t < tokens; ++t) {
      const float* out = y.data() + t * rows;
      const float* gradient = dy.data() + t * rows;
      for (size_t r = begin; r < end; ++r) {
        const float bias = parameters.bias.empty() ? 0.0f : parameters.bias[r];
        if (!sums->gain.empty()) {
          sums->gain[r] += gradient[r] * (out[r] - bias) / parameters.gain[r];
        }
        if (!sums->bias.empty()) sums->bias[r] += gradient[r];
      }
    }
  });
}

// dx[t][c] (+)= sum_r dy[t][r] gain_r W[r][c]. dy is scaled in place by the gains.
void LinearBackward(const Linear& linear, const BlockParameters::LinearParameters& parameters,
                    Matrix* dy, size_t tokens, float* dx, bool accumulate) {
  if (!parameters.gain.empty()) {
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t r = 0; r < linear.rows; ++r) {
        (*dy)[t * linear.rows + r] *= parameters.gain[r];
      }
    }
  }
  kernels::MatMul(dy->data(), linear.rows, static_cast<const float*>(linear.dense.data),
                  linear.columns, dx, linear.columns, tokens, linear.columns, linear.rows,
                  accumulate, linear.dense.precision);
}

// d activation(x) / dx
float ActivationSlope(Activation activation, float x) {
  switch (activation) {
    case Activation::kRelu:
      return x > 0 ? 1.0f : 0.0f;
    case Activation::kSilu: {
      const float s = 1.0f / (1.0f + std::exp(-x));
      return s * (1 + x * (1 - s));
    }
    case Activation::kGelu: {
      const float cdf = 0.5f * (1.0f + std::erf(x * 0.70710678f));
      return cdf + x * 0.39894228f * std::exp(-0.5f * x * x);
    }
  }
  return 0;
}

}  // namespace

const Linear& LinearAt(const LayerWeights& layer, LinearSlot slot) {
  const std::array<const Linear*, kLinearSlots> slots = {
      &layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down};
  return *slots[slot];
}

void BlockParameters::ForEach(const std::function<void(std::vector<float>&)>& fn) {
  for (LinearParameters& linear : linears) {
    fn(linear.gain);
    fn(linear.bias);
  }
  fn(attn_norm_weight);
  fn(attn_norm_bias);
  fn(ffn_norm_weight);
  fn(ffn_norm_bias);
}

BlockParameters BlockParameters::FromLayer(const LayerWeights& layer, size_t hidden) {
  BlockParameters parameters;
  for (size_t s = 0; s < kLinearSlots; ++s) {
    const Linear& linear = LinearAt(layer, LinearSlot(s));
    parameters.linears[s].gain.assign(linear.rows, 1.0f);
    if (linear.dense.bias != nullptr) {
      parameters.linears[s].bias.assign(linear.dense.bias, linear.dense.bias + linear.rows);
    }
  }
  const auto copy = [&](const float* values, std::vector<float>* out) {
    if (values != nullptr) out->assign(values, values + hidden);
  };
  copy(layer.attn_norm.weight, &parameters.attn_norm_weight);
  copy(layer.attn_norm.bias, &parameters.attn_norm_bias);
  copy(layer.ffn_norm.weight, &parameters.ffn_norm_weight);
  copy(layer.ffn_norm.bias, &parameters.ffn_norm_bias);
  return parameters;
}

BlockParameters BlockParameters::ZerosLike() const {
  BlockParameters zeros = *this;
  zeros.ForEach([](std::vector<float>& v) { std::fill(v.begin(), v.end(), 0.0f); });
  return zeros;
}

void NormForward(const ModelConfig& config, std::span<const float> weight,
                 std::span<const float> bias, const float* x, size_t tokens, float* y) {
  const size_t n = size_t(config.hidden_size);
  const float eps = float(config.norm_eps);
  kernels::ParallelFor(tokens, 8, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      if (IsLlama(config)) {
        kernels::RmsNorm(x + t * n, weight.data(), eps, n, y + t * n);
      } else {
        kernels::LayerNorm(x + t * n, weight.empty() ? nullptr : weight.data(),
                           bias.empty() ? nullptr : bias.data(), eps, n, y + t * n);
      }
    }
  });
}

void NormBackward(const ModelConfig& config, std::span<const float> weight, const float* x,
                  size_t tokens, float* gradient, std::vector<float>* weight_sum,
                  std::vector<float>* bias_sum) {
  const size_t n = size_t(config.hidden_size);
  const bool centered = !IsLlama(config);
  std::vector<float> normalized(n);
  for (size_t t = 0; t < tokens; ++t) {
    const float* row = x + t * n;
    float* g = gradient + t * n;
    double mean = 0, power = 0;
    for (size_t i = 0; centered && i < n; ++i) mean += double(row[i]);
    mean /= double(n);
    for (size_t i = 0; i < n; ++i) power += (double(row[i]) - mean) * (double(row[i]) - mean);
    const float r = float(1.0 / std::sqrt(power / double(n) + config.norm_eps));
    double dot = 0, sum = 0;
    for (size_t i = 0; i < n; ++i) {
      normalized[i] = (row[i] - float(mean)) * r;
      if (weight_sum != nullptr && !weight_sum->empty()) (*weight_sum)[i] += g[i] * normalized[i];
      if (bias_sum != nullptr && !bias_sum->empty()) (*bias_sum)[i] += g[i];
      if (!weight.empty()) g[i] *= weight[i];
      dot += double(g[i]) * double(normalized[i]);
      sum += double(g[i]);
    }
    const float mean_dot = float(dot / double(n));
    const float mean_sum = centered ? float(sum / double(n)) : 0.0f;
    for (size_t i = 0; i < n; ++i) g[i] = r * (g[i] - mean_sum - normalized[i] * mean_dot);
  }
}

struct BlockDifferentiator::State {
  State(const ModelConfig& model_config, size_t window_tokens)
      : config(model_config), tokens(window_tokens), attention(model_config, window_tokens) {}

  ModelConfig config;
  size_t tokens;
  AttentionDifferentiator attention;
  // Values of the last Forward.
  Matrix input;     // block input
  Matrix attn_in;   // input of q, k, v
  Matrix q, k, v;   // linear outputs, before the rotary embedding
  Matrix attn_out;  // input of o
  Matrix o;
  Matrix middle;    // residual after attention; post-norm: before its norm
  Matrix ffn_in;    // input of gate, up
  Matrix gate, up;  // linear outputs
  Matrix ffn_mid;   // input of down
  Matrix down;
  Matrix before_ffn_norm;  // post-norm only
};

BlockDifferentiator::BlockDifferentiator(const ModelConfig& config, size_t tokens)
    : state_(std::make_unique<State>(config, tokens)) {}
BlockDifferentiator::~BlockDifferentiator() = default;

void BlockDifferentiator::Forward(const LayerWeights& layer, const BlockParameters& p, float* x) {
  State& s = *state_;
  const size_t tokens = s.tokens;
  const size_t count = tokens * size_t(s.config.hidden_size);
  const bool pre = IsLlama(s.config) || s.config.pre_norm;
  const bool gated = layer.gate.rows > 0;
  s.input.assign(x, x + count);
  s.attn_in = s.input;
  if (pre) {
    NormForward(s.config, p.attn_norm_weight, p.attn_norm_bias, x, tokens, s.attn_in.data());
  }
  RunLinear(layer.q, p.linears[kQ], s.attn_in, tokens, &s.q);
  RunLinear(layer.k, p.linears[kK], s.attn_in, tokens, &s.k);
  RunLinear(layer.v, p.linears[kV], s.attn_in, tokens, &s.v);
  s.attention.Forward(s.q, s.k, s.v, &s.attn_out);
  RunLinear(layer.o, p.linears[kO], s.attn_out, tokens, &s.o);
  s.middle = s.input;
  kernels::AddInPlace(s.middle.data(), s.o.data(), count);

  s.ffn_in.resize(count);
  if (pre) {
    NormForward(s.config, p.ffn_norm_weight, p.ffn_norm_bias, s.middle.data(), tokens,
                s.ffn_in.data());
  } else {
    NormForward(s.config, p.attn_norm_weight, p.attn_norm_bias, s.middle.data(), tokens,
                s.ffn_in.data());
  }
  RunLinear(layer.up, p.linears[kUp], s.ffn_in, tokens, &s.up);
  s.ffn_mid = s.up;
  if (gated) {
    RunLinear(layer.gate, p.linears[kGate], s.ffn_in, tokens, &s.gate);
    s.ffn_mid = s.gate;
    kernels::ParallelFor(tokens, 8, [&](size_t begin, size_t end, size_t) {
      const size_t n = layer.up.rows;
      kernels::SiluMul(&s.ffn_mid[begin * n], &s.up[begin * n], (end - begin) * n);
    });
  } else if (s.config.activation == Activation::kRelu) {
    kernels::ReluInPlace(s.ffn_mid.data(), s.ffn_mid.size());
  } else {
    kernels::GeluInPlace(s.ffn_mid.data(), s.ffn_mid.size());
  }
  RunLinear(layer.down, p.linears[kDown], s.ffn_mid, tokens, &s.down);
  const Matrix& residual = pre ? s.middle : s.ffn_in;
  std::copy(residual.begin(), residual.end(), x);
  kernels::AddInPlace(x, s.down.data(), count);
  if (!pre) {
    s.before_ffn_norm.assign(x, x + count);
    NormForward(s.config, p.ffn_norm_weight, p.ffn_norm_bias, s.before_ffn_norm.data(), tokens, x);
  }
}

void BlockDifferentiator::Backward(const LayerWeights& layer, const BlockParameters& p,
                                   float* gradient, BlockParameters* sums,
                                   const OutputGradientTap& tap) {
  State& s = *state_;
  const size_t tokens = s.tokens;
  const size_t count = tokens * size_t(s.config.hidden_size);
  const bool pre = IsLlama(s.config) || s.config.pre_norm;
  const bool gated = layer.gate.rows > 0;
  const auto visit = [&](LinearSlot slot, const Matrix& x, const Matrix& y, Matrix& dy, float* dx,
                         bool accumulate) {
    const Linear& linear = LinearAt(layer, slot);
    if (tap) tap(slot, x.data(), dy.data());
    if (sums != nullptr) {
      AddLinearSums(linear, p.linears[slot], y, dy, tokens, &sums->linears[slot]);
    }
    LinearBackward(linear, p.linears[slot], &dy, tokens, dx, accumulate);
  };
  const auto norm = [&](std::span<const float> weight, const float* x, float* g,
                        std::vector<float> BlockParameters::*weight_sum,
                        std::vector<float> BlockParameters::*bias_sum) {
    NormBackward(s.config, weight, x, tokens, g, sums != nullptr ? &(sums->*weight_sum) : nullptr,
                 sums != nullptr ? &(sums->*bias_sum) : nullptr);
  };

  if (!pre) {
    norm(p.ffn_norm_weight, s.before_ffn_norm.data(), gradient, &BlockParameters::ffn_norm_weight,
         &BlockParameters::ffn_norm_bias);
  }
  // Feed-forward branch: d(ffn_in) in `branch`.
  Matrix dy(gradient, gradient + count);
  Matrix d_mid(s.ffn_mid.size());
  visit(kDown, s.ffn_mid, s.down, dy, d_mid.data(), false);
  Matrix d_up(s.up.size()), d_gate(gated ? s.gate.size() : 0);
  kernels::ParallelFor(d_mid.size(), 4096, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      if (!gated) {
        d_up[i] = d_mid[i] * ActivationSlope(s.config.activation, s.up[i]);
        continue;
      }
      const float z = s.gate[i];
      d_up[i] = d_mid[i] * z / (1.0f + std::exp(-z));
      d_gate[i] = d_mid[i] * s.up[i] * ActivationSlope(Activation::kSilu, z);
    }
  });
  Matrix branch(count);
  visit(kUp, s.ffn_in, s.up, d_up, branch.data(), false);
  if (gated) visit(kGate, s.ffn_in, s.gate, d_gate, branch.data(), true);
  if (pre) {
    norm(p.ffn_norm_weight, s.middle.data(), branch.data(), &BlockParameters::ffn_norm_weight,
         &BlockParameters::ffn_norm_bias);
  }
  kernels::AddInPlace(gradient, branch.data(), count);
  if (!pre) {
    norm(p.attn_norm_weight, s.middle.data(), gradient, &BlockParameters::attn_norm_weight,
         &BlockParameters::attn_norm_bias);
  }
  // Attention branch: gradient is now that of `middle`.
  dy.assign(gradient, gradient + count);
  Matrix d_attn(s.attn_out.size());
  visit(kO, s.attn_out, s.o, dy, d_attn.data(), false);
  Matrix dq, dk, dv;
  s.attention.Backward(d_attn, &dq, &dk, &dv);
  visit(kQ, s.attn_in, s.q, dq, branch.data(), false);
  visit(kK, s.attn_in, s.k, dk, branch.data(), true);
  visit(kV, s.attn_in, s.v, dv, branch.data(), true);
  if (pre) {
    norm(p.attn_norm_weight, s.input.data(), branch.data(), &BlockParameters::attn_norm_weight,
         &BlockParameters::attn_norm_bias);
  }
  kernels::AddInPlace(gradient, branch.data(), count);
}

}  // namespace sdq::converter
