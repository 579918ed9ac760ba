// The two architectures in float64, as plainly as they can be written.
#include <cmath>
#include <numbers>

#include "tests/runtime/test_model.h"

namespace sdq::test {
namespace {

using Vec = std::vector<double>;

class Reference {
 public:
  explicit Reference(const TestModel& model) : model_(model), c_(model.config) {}

  Vec Logits(const std::vector<TokenId>& tokens) const {
    std::vector<Vec> states;
    for (size_t p = 0; p < tokens.size(); ++p) states.push_back(Embed(tokens[p], p));
    for (int64_t n = 0; n < c_.layers; ++n) RunLayer(n, &states);
    Vec logits;
    for (Vec state : states) {
      if (c_.final_norm) state = Normalize("final_norm", state);
      if (c_.embed_size != c_.hidden_size) state = Apply("embed.project_out", state);
      const Vec row = Apply(c_.tied_embeddings ? "embed.tokens" : "head", state);
      logits.insert(logits.end(), row.begin(), row.end());
    }
    return logits;
  }

 private:
  const TestTensor& At(const std::string& name) const { return model_.tensors.at(name); }
  bool llama() const { return c_.architecture == Architecture::kLlama; }

  Vec RowOf(const std::string& name, size_t row) const {
    const TestTensor& t = At(name);
    Vec out;
    for (size_t i = 0; i < t.columns; ++i) out.push_back(double(t.values[row * t.columns + i]));
    return out;
  }

  Vec Apply(const std::string& name, const Vec& x) const {
    const TestTensor& t = At(name);
    Vec y(t.rows);
    for (size_t r = 0; r < t.rows; ++r) {
      y[r] = t.bias.empty() ? 0.0 : double(t.bias[r]);
      for (size_t i = 0; i < t.columns; ++i) y[r] += double(t.values[r * t.columns + i]) * x[i];
    }
    return y;
  }

  Vec Embed(TokenId token, size_t position) const {
    Vec x = RowOf("embed.tokens", static_cast<size_t>(token));
    if (llama()) return x;
    if (c_.embed_size != c_.hidden_size) x = Apply("embed.project_in", x);
    const Vec place = RowOf("embed.positions", position + static_cast<size_t>(c_.position_offset));
    for (size_t i = 0; i < x.size(); ++i) x[i] += place[i];
    return x;
  }

  Vec Normalize(const std::string& name, Vec x) const {
    double mean = 0, square = 0;
    if (!llama()) {
      for (double v : x) mean += v / double(x.size());
    }
    for (double v : x) square += (v - mean) * (v - mean) / double(x.size());
    const Vec weight = RowOf(name + ".weight", 0);
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = (x[i] - mean) / std::sqrt(square + c_.norm_eps) * weight[i];
      if (!llama()) x[i] += RowOf(name + ".bias", 0)[i];
    }
    return x;
  }

  double Frequency(int64_t pair) const {
    const double f = std::pow(c_.rope_theta, -2.0 * double(pair) / double(c_.head_dim));
    if (c_.rope_scaling == RopeScaling::kLinear) return f / c_.rope_factor;
    if (c_.rope_scaling != RopeScaling::kLlama3) return f;
    // How often the pair turns over the original context decides how much it is slowed down.
    const double turns = double(c_.rope_original_positions) * f / (2 * std::numbers::pi);
    double keep =
        (turns - c_.rope_low_freq_factor) / (c_.rope_high_freq_factor - c_.rope_low_freq_factor);
    keep = std::min(1.0, std::max(0.0, keep));
    return keep * f + (1 - keep) * f / c_.rope_factor;
  }

  void Rotate(Vec* x, int64_t heads, size_t position) const {
    if (!llama()) return;
    const int64_t half = c_.head_dim / 2;
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < half; ++i) {
        double& a = (*x)[size_t(h * c_.head_dim + i)];
        double& b = (*x)[size_t(h * c_.head_dim + i + half)];
        const double angle = double(position) * Frequency(i);
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = turned;
      }
    }
  }

  // One query head over all positions up to its own.
  void AttendHead(const Vec& q, const std::vector<Vec>& keys, const std::vector<Vec>& values,
                  size_t position, int64_t head, Vec* out) const {
    const size_t dim = size_t(c_.head_dim);
    const size_t mine = size_t(head) * dim;
    const size_t theirs = size_t(head / (c_.heads / c_.kv_heads)) * dim;
    Vec weights(position + 1);
    double total = 0;
    for (size_t p = 0; p <= position; ++p) {
      double dot = 0;
      for (size_t i = 0; i < dim; ++i) dot += q[mine + i] * keys[p][theirs + i];
      weights[p] = std::exp(dot / std::sqrt(double(dim)));
      total += weights[p];
    }
    for (size_t p = 0; p <= position; ++p) {
      for (size_t i = 0; i < dim; ++i) {
        (*out)[mine + i] += weights[p] / total * values[p][theirs + i];
      }
    }
  }

  std::vector<Vec> SelfAttention(int64_t n, const std::vector<Vec>& inputs) const {
    std::vector<Vec> queries, keys, values, outputs;
    for (size_t p = 0; p < inputs.size(); ++p) {
      queries.push_back(Apply(LayerTensorName(n, "attn.q"), inputs[p]));
      keys.push_back(Apply(LayerTensorName(n, "attn.k"), inputs[p]));
      values.push_back(Apply(LayerTensorName(n, "attn.v"), inputs[p]));
      Rotate(&queries.back(), c_.heads, p);
      Rotate(&keys.back(), c_.kv_heads, p);
    }
    for (size_t p = 0; p < inputs.size(); ++p) {
      Vec attended(size_t(c_.heads * c_.head_dim));
      for (int64_t h = 0; h < c_.heads; ++h) {
        AttendHead(queries[p], keys, values, p, h, &attended);
      }
      outputs.push_back(Apply(LayerTensorName(n, "attn.o"), attended));
    }
    return outputs;
  }

  Vec FeedForward(int64_t n, const Vec& x) const {
    Vec up = Apply(LayerTensorName(n, "ffn.up"), x);
    if (llama()) {
      const Vec gate = Apply(LayerTensorName(n, "ffn.gate"), x);
      for (size_t i = 0; i < up.size(); ++i) up[i] *= gate[i] / (1 + std::exp(-gate[i]));
    } else if (c_.activation == Activation::kRelu) {
      for (double& v : up) v = std::max(v, 0.0);
    } else {
      for (double& v : up) v = 0.5 * v * (1 + std::erf(v / std::numbers::sqrt2));
    }
    return Apply(LayerTensorName(n, "ffn.down"), up);
  }

  void RunLayer(int64_t n, std::vector<Vec>* states) const {
    const std::string attn_norm = LayerTensorName(n, "attn_norm");
    const std::string ffn_norm = LayerTensorName(n, "ffn_norm");
    std::vector<Vec> inputs;
    for (const Vec& x : *states) inputs.push_back(c_.pre_norm ? Normalize(attn_norm, x) : x);
    const std::vector<Vec> attended = SelfAttention(n, inputs);
    for (size_t p = 0; p < states->size(); ++p) {
      Vec x = (*states)[p];
      for (size_t i = 0; i < x.size(); ++i) x[i] += attended[p][i];
      if (!c_.pre_norm) x = Normalize(attn_norm, x);
      const Vec more = FeedForward(n, c_.pre_norm ? Normalize(ffn_norm, x) : x);
      for (size_t i = 0; i < x.size(); ++i) x[i] += more[i];
      if (!c_.pre_norm) x = Normalize(ffn_norm, x);
      (*states)[p] = x;
    }
  }

  const TestModel& model_;
  const ModelConfig& c_;
};

}  // namespace

std::vector<double> ReferenceLogits(const TestModel& model, const std::vector<TokenId>& tokens) {
  return Reference(model).Logits(tokens);
}

}  // namespace sdq::test
