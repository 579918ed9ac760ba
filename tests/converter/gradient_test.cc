// Gradients against central differences, on small random models of both families.
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "converter/model_gradient.h"
#include "converter/random_checkpoint.h"
#include "converter/tuning.h"
#include "tests/support/files.h"

namespace sdq {
namespace {

using namespace converter;

constexpr const char* kLlama = R"({"model_type": "llama", "hidden_size": 16,
  "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "vocab_size": 32, "max_position_embeddings": 32,
  "rms_norm_eps": 1e-5, "rope_theta": 100.0, "tie_word_embeddings": true, "hidden_act": "silu",
  "bos_token_id": 1, "eos_token_id": 2})";

std::string OptConfig(bool pre_norm) {
  return std::string(R"({"model_type": "opt", "hidden_size": 16, "ffn_dim": 24,
  "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 32,
  "max_position_embeddings": 32, "word_embed_proj_dim": 8,
  "bos_token_id": 2, "eos_token_id": 2, )") +
         (pre_norm ? R"("do_layer_norm_before": true, "activation_function": "relu"})"
                   : R"("do_layer_norm_before": false, "activation_function": "gelu"})");
}

// A float model in memory and the loss sum_t c_t . logits_t of one window.
struct Fixture {
  explicit Fixture(const std::string& config_text) {
    const test::TemporaryFolder folder;
    std::ofstream(folder / "config.json") << config_text;
    auto opened = OpenRandomCheckpoint(folder / "config.json", 11);
    REQUIRE(opened.ok());
    checkpoint = std::move(*opened);
    for (int64_t l = 0; l < checkpoint->config().layers; ++l) {
      auto layer = FloatLayer::Load(*checkpoint, l);
      REQUIRE(layer.ok());
      // Random weights of deviation 0.02 make a nearly linear model; larger ones test the rest.
      for (const auto& linear : (*layer)->linears()) {
        for (float& w : *linear.values) w *= 20;
      }
      layers.push_back(std::move(*layer));
    }
    auto loaded = OuterWeights::Load(*checkpoint);
    REQUIRE(loaded.ok());
    outer = std::move(*loaded);
    for (float& w : outer.tokens) w *= 20;
    for (const auto& layer : layers) weights.push_back(&layer->weights());
    const ModelConfig& config = checkpoint->config();
    parameters = ModelParameters::FromModel(weights, outer, size_t(config.hidden_size));
    model = std::make_unique<ModelDifferentiator>(config, weights, outer, window.size());
    for (size_t i = 0; i < window.size() * model->vocab(); ++i) {
      coefficients.push_back(std::sin(float(i) * 0.7f));
    }
  }

  double Loss() {
    model->Forward(window, parameters);
    std::vector<float> logits(window.size() * model->vocab());
    model->Logits(0, window.size(), logits.data());
    double loss = 0;
    for (size_t i = 0; i < logits.size(); ++i) loss += double(logits[i]) * double(coefficients[i]);
    return loss;
  }

  std::unique_ptr<Checkpoint> checkpoint;
  std::vector<std::unique_ptr<FloatLayer>> layers;
  OuterWeights outer;
  std::vector<const LayerWeights*> weights;
  std::vector<TokenId> window = {1, 5, 9, 3, 30, 7, 7};
  ModelParameters parameters;
  std::unique_ptr<ModelDifferentiator> model;
  std::vector<float> coefficients;
};

void CheckGradients(Fixture& f) {
  f.model->Forward(f.window, f.parameters);
  ModelParameters sums = f.parameters.ZerosLike();
  f.model->Backward(
      f.parameters,
      [&](size_t first, size_t count, float* logits) {
        const size_t n = f.model->vocab();
        std::copy_n(f.coefficients.data() + first * n, count * n, logits);
      },
      &sums, ModelTap());
  std::vector<std::vector<float>*> values, gradients;
  f.parameters.ForEach([&](std::vector<float>& v) { values.push_back(&v); });
  sums.ForEach([&](std::vector<float>& v) { gradients.push_back(&v); });
  REQUIRE(values.size() == gradients.size());
  size_t checked = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    double error = 0, power = 0;
    for (size_t j = 0; j < values[i]->size(); j += 3) {
      constexpr float kStep = 2e-3f;
      float& value = (*values[i])[j];
      const float original = value;
      value = original + kStep;
      const double up = f.Loss();
      value = original - kStep;
      const double down = f.Loss();
      value = original;
      const double expected = (up - down) / (2.0 * double(kStep));
      error += std::pow(expected - double((*gradients[i])[j]), 2);
      power += expected * expected;
      ++checked;
    }
    INFO("vector " << i << " of " << values[i]->size());
    CHECK(std::sqrt(error) <= 0.02 * std::sqrt(power) + 2e-3);
  }
  CHECK(checked > 100);
}

TEST_CASE("gradient: LLaMA with grouped heads", "[gradient]") {
  Fixture fixture(kLlama);
  CheckGradients(fixture);
}

TEST_CASE("gradient: OPT, pre-norm with projections", "[gradient]") {
  Fixture fixture(OptConfig(true));
  CheckGradients(fixture);
}

TEST_CASE("gradient: OPT, post-norm with projections", "[gradient]") {
  Fixture fixture(OptConfig(false));
  CheckGradients(fixture);
}

TEST_CASE("tuning brings spoiled scales back to the teacher", "[tuning]") {
  Fixture teacher(kLlama);
  Fixture student(kLlama);
  // A student whose rows of one linear are scaled by known factors: gains can undo it exactly.
  auto& values = *student.layers[1]->linears()[4].values;
  const size_t columns = student.layers[1]->linears()[4].linear->columns;
  for (size_t i = 0; i < values.size(); ++i) values[i] *= (i / columns) % 2 == 0 ? 0.8f : 1.2f;
  const ModelConfig& config = teacher.checkpoint->config();
  std::vector<TokenId> tokens;
  for (size_t i = 0; i < 256; ++i) tokens.push_back(TokenId((i * 7 + i / 9) % 32));
  // The teacher's last hidden states, window by window.
  constexpr size_t kWindow = 16;
  std::vector<float> hidden;
  const size_t width = size_t(config.hidden_size);
  for (size_t begin = 0; begin < tokens.size(); begin += kWindow) {
    std::vector<float> x(kWindow * width);
    for (size_t t = 0; t < kWindow; ++t) {
      std::copy_n(teacher.outer.tokens.data() + size_t(tokens[begin + t]) * width, width,
                  x.data() + t * width);
    }
    for (size_t l = 0; l < teacher.weights.size(); ++l) {
      BlockDifferentiator block(config, kWindow);
      block.Forward(*teacher.weights[l], teacher.parameters.layers[l], x.data());
    }
    hidden.insert(hidden.end(), x.begin(), x.end());
  }
  TuningOptions options;
  options.window = kWindow;
  options.epochs = 40;
  options.learning_rate = 1e-2;
  double first = 0, last = 0;
  const auto tuned = TuneParameters(config, student.weights, student.outer, teacher.outer, tokens,
                                    hidden, options, [&](const TuningProgress& p) {
                                      if (p.step == 0) first = p.kl;
                                      last = p.kl;
                                      return true;
                                    });
  REQUIRE(tuned.ok());
  CHECK(first > 1e-4);
  CHECK(last < 0.1 * first);
}

}  // namespace
}  // namespace sdq
