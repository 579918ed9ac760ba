// Sensitivities against what errors of the weights really do to a model's predictions: the KL
// divergence of small changes, by running the changed model.
#include "converter/sensitivity.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "converter/calibration.h"
#include "converter/encoder.h"
#include "converter/model_gradient.h"
#include "converter/random_checkpoint.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"
#include "tests/support/files.h"

namespace sdq {
namespace {

using namespace converter;

constexpr size_t kWindow = 16;
constexpr size_t kWindows = 96;

constexpr const char* kLlama = R"({"model_type": "llama", "hidden_size": 32,
  "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "vocab_size": 48, "max_position_embeddings": 16,
  "rms_norm_eps": 1e-5, "rope_theta": 100.0, "tie_word_embeddings": true, "hidden_act": "silu",
  "bos_token_id": 1, "eos_token_id": 2})";

constexpr const char* kOpt = R"({"model_type": "opt", "hidden_size": 32, "ffn_dim": 48,
  "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 48,
  "max_position_embeddings": 16, "word_embed_proj_dim": 32, "bos_token_id": 2, "eos_token_id": 2,
  "do_layer_norm_before": true, "activation_function": "relu"})";

constexpr const char* kOptProjected = R"({"model_type": "opt", "hidden_size": 32, "ffn_dim": 48,
  "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 48,
  "max_position_embeddings": 16, "word_embed_proj_dim": 16, "bos_token_id": 2, "eos_token_id": 2,
  "do_layer_norm_before": true, "activation_function": "relu"})";

// A random model whose matrices are large enough to matter, and in which single ones can be
// exchanged.
class TestCheckpoint : public Checkpoint {
 public:
  explicit TestCheckpoint(const std::string& config_text) {
    const test::TemporaryFolder folder;
    std::ofstream(folder / "config.json") << config_text;
    auto opened = OpenRandomCheckpoint(folder / "config.json", 3);
    REQUIRE(opened.ok());
    random_ = *std::move(opened);
  }
  const ModelConfig& config() const override { return random_->config(); }
  Result<TokenizerSpec> LoadTokenizer() const override { return random_->LoadTokenizer(); }
  bool Has(const std::string& name) const override { return random_->Has(name); }
  std::string StoredType(const std::string& name) const override {
    return random_->StoredType(name);
  }
  void StoreExtras(format::Metadata* metadata) const override { random_->StoreExtras(metadata); }
  Status Read(const std::string& name, std::vector<float>* out) const override {
    const auto found = changed_.find(name);
    if (found != changed_.end()) {
      *out = found->second;
      return Status::Ok();
    }
    SDQ_RETURN_IF_ERROR(random_->Read(name, out));
    if (!name.ends_with("norm.weight") && !name.ends_with(".bias")) {
      for (float& value : *out) value *= 12;
    }
    return Status::Ok();
  }

  std::vector<float> Values(const std::string& name) const {
    std::vector<float> values;
    REQUIRE(Read(name, &values).ok());
    return values;
  }
  void Change(const std::string& name, std::vector<float> values) {
    changed_[name] = std::move(values);
  }
  void Restore() { changed_.clear(); }

 private:
  std::unique_ptr<Checkpoint> random_;
  std::map<std::string, std::vector<float>> changed_;
};

std::vector<TokenId> Tokens() {
  std::mt19937 random(17);
  std::vector<TokenId> tokens(kWindow * kWindows);
  for (TokenId& token : tokens) token = TokenId(random() % 48);
  return tokens;
}

// Log-probabilities at all positions of all windows.
std::vector<float> LogProbabilities(const Checkpoint& checkpoint) {
  std::vector<std::unique_ptr<FloatLayer>> layers;
  std::vector<const LayerWeights*> weights;
  for (int64_t l = 0; l < checkpoint.config().layers; ++l) {
    auto layer = FloatLayer::Load(checkpoint, l);
    REQUIRE(layer.ok());
    layers.push_back(*std::move(layer));
    weights.push_back(&layers.back()->weights());
  }
  auto outer = OuterWeights::Load(checkpoint);
  REQUIRE(outer.ok());
  const auto hidden = size_t(checkpoint.config().hidden_size);
  const ModelParameters parameters = ModelParameters::FromModel(weights, *outer, hidden);
  ModelDifferentiator model(checkpoint.config(), weights, *outer, kWindow);
  const std::vector<TokenId> tokens = Tokens();
  const size_t vocab = model.vocab();
  std::vector<float> result(tokens.size() * vocab);
  for (size_t w = 0; w < kWindows; ++w) {
    model.Forward(std::span(tokens).subspan(w * kWindow, kWindow), parameters);
    model.Logits(0, kWindow, &result[w * kWindow * vocab]);
  }
  for (size_t t = 0; t < tokens.size(); ++t) {
    const float lse = kernels::LogSumExp(&result[t * vocab], vocab);
    for (size_t i = 0; i < vocab; ++i) result[t * vocab + i] -= lse;
  }
  return result;
}

// Nats per token.
double Divergence(const std::vector<float>& p, const std::vector<float>& q) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    sum += std::exp(double(p[i])) * (double(p[i]) - double(q[i]));
  }
  return sum / double(kWindow * kWindows);
}

Sensitivities MeasureAll(const Checkpoint& checkpoint, const std::vector<double>& errors,
                         double damping) {
  SensitivityOptions options;
  options.window = kWindow;
  options.windows = kWindows;
  options.damping = damping;
  auto measured = MeasureSensitivity(checkpoint, Tokens(), errors, options, {});
  INFO(measured.status().message());
  REQUIRE(measured.ok());
  return *std::move(measured);
}

std::vector<Sensitivity> Measure(const Checkpoint& checkpoint, const std::vector<double>& errors,
                                 double damping) {
  return MeasureAll(checkpoint, errors, damping).linears;
}

size_t ColumnsOf(const Checkpoint& checkpoint, const std::string& name) {
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    if (shape.name == name) return size_t(shape.columns);
  }
  return 0;
}

// Independent errors of variance `error` relative to each row's mean square.
std::vector<float> Disturbed(const std::vector<float>& values, size_t columns, double error,
                             uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<float> changed = values;
  for (size_t r = 0; r < values.size() / columns; ++r) {
    double power = 0;
    for (size_t i = 0; i < columns; ++i) power += std::pow(double(values[r * columns + i]), 2);
    const double deviation = std::sqrt(error * power / double(columns));
    for (size_t i = 0; i < columns; ++i) {
      changed[r * columns + i] += float(deviation * normal(random));
    }
  }
  return changed;
}

TEST_CASE("sensitivity: predicted losses are the divergence that small white errors cause") {
  const char* config = GENERATE(kLlama, kOpt);
  TestCheckpoint checkpoint(config);
  constexpr double kError = 1e-3;
  constexpr uint32_t kDraws = 6;
  // So much damping that nothing is fed back: errors of the weights are white.
  const std::vector<Sensitivity> measured = Measure(checkpoint, {kError, 2 * kError}, 1e6);
  const std::vector<float> reference = LogProbabilities(checkpoint);
  double predicted_sum = 0, real_sum = 0;
  for (const Sensitivity& linear : measured) {
    const std::vector<float> values = checkpoint.Values(linear.name);
    const size_t columns = ColumnsOf(checkpoint, linear.name);
    double real = 0;
    for (uint32_t draw = 0; draw < kDraws; ++draw) {
      checkpoint.Change(linear.name, Disturbed(values, columns, kError, draw));
      real += Divergence(reference, LogProbabilities(checkpoint)) / kDraws;
    }
    checkpoint.Restore();
    INFO(linear.name);
    REQUIRE(linear.losses.size() == 2);
    CHECK(linear.losses[0] == Approx(real).epsilon(0.3));
    CHECK(linear.losses[1] == Approx(2 * linear.losses[0]).epsilon(1e-4));
    predicted_sum += linear.losses[0];
    real_sum += real;
  }
  CHECK(real_sum > 1e-4);
  CHECK(predicted_sum == Approx(real_sum).epsilon(0.1));
}

std::string Untied(std::string config) {
  const std::string tied = "\"tie_word_embeddings\": true";
  return config.replace(config.find(tied), tied.size(), "\"tie_word_embeddings\": false");
}

// 8-bit rows, as DenseTensor rounds them.
std::vector<float> RoundedTo8Bits(std::vector<float> values, size_t columns) {
  for (size_t r = 0; r < values.size() / columns; ++r) {
    float* row = &values[r * columns];
    float largest = 0;
    for (size_t i = 0; i < columns; ++i) largest = std::max(largest, std::abs(row[i]));
    const float step = largest / 127;
    for (size_t i = 0; i < columns; ++i) row[i] = step * std::nearbyint(row[i] / step);
  }
  return values;
}

TEST_CASE("sensitivity: embeddings and head, white errors and 8-bit rows") {
  const std::string config =
      GENERATE(std::string(kLlama), Untied(kLlama), std::string(kOpt), std::string(kOptProjected));
  INFO(config);
  TestCheckpoint checkpoint(config);
  constexpr double kError = 1e-3;
  constexpr uint32_t kDraws = 12;
  const Sensitivities measured = MeasureAll(checkpoint, {kError, 2 * kError}, 1e6);
  const std::vector<float> reference = LogProbabilities(checkpoint);
  REQUIRE(measured.tables.size() == (checkpoint.config().tied_embeddings ? 1 : 2));
  CHECK(measured.tables.front().name == "embed.tokens");
  CHECK(measured.tables.back().name ==
        (checkpoint.config().tied_embeddings ? "embed.tokens" : "head"));
  for (const TableSensitivity& table : measured.tables) {
    INFO(table.name);
    const std::vector<float> values = checkpoint.Values(table.name);
    const size_t columns = ColumnsOf(checkpoint, table.name);
    double real = 0;
    for (uint32_t draw = 0; draw < kDraws; ++draw) {
      checkpoint.Change(table.name, Disturbed(values, columns, kError, draw));
      real += Divergence(reference, LogProbabilities(checkpoint)) / kDraws;
    }
    checkpoint.Change(table.name, RoundedTo8Bits(values, columns));
    const double rounded = Divergence(reference, LogProbabilities(checkpoint));
    checkpoint.Restore();
    CHECK(table.hessian.size() == columns * columns);
    REQUIRE(table.losses.size() == 2);
    CHECK(table.losses[0] == Approx(real).epsilon(0.3));
    CHECK(table.losses[1] == Approx(2 * table.losses[0]).epsilon(1e-4));
    CHECK(table.eight_bit_loss == Approx(rounded).epsilon(0.4));
  }
}

TEST_CASE("sensitivity: row costs tell what an encoder's errors cost") {
  TestCheckpoint checkpoint(kLlama);
  constexpr double kDamping = 0.1;
  const std::vector<Sensitivity> measured = Measure(checkpoint, {0.01}, kDamping);
  const std::vector<float> reference = LogProbabilities(checkpoint);
  auto calibration = Calibration::Create(checkpoint, Tokens(), kWindow);
  REQUIRE(calibration.ok());
  std::map<std::string, const Sensitivity*> by_name;
  for (const Sensitivity& linear : measured) by_name[linear.name] = &linear;
  double told_sum = 0, real_sum = 0;
  for (int64_t l = 0; l < checkpoint.config().layers; ++l) {
    const auto layer = FloatLayer::Load(checkpoint, l);
    REQUIRE(layer.ok());
    const auto hessians = (*calibration)->Collect((*layer)->weights(), {});
    REQUIRE(hessians.ok());
    for (const FloatLayer::NamedLinear& linear : (*layer)->linears()) {
      EncodeInput input;
      input.weights = linear.values->data();
      input.rows = linear.linear->rows;
      input.columns = linear.linear->columns;
      input.hessian = &hessians->For((*layer)->weights(), linear.linear);
      input.damping = kDamping;
      TrellisOptions options;
      options.osr_num = 4;
      const auto encoded = EncodeTrellis(input, options);
      REQUIRE(encoded.ok());
      const std::vector<double>& costs = by_name.at(linear.name)->row_costs;
      REQUIRE(encoded->row_errors.size() == input.rows);
      REQUIRE(costs.size() == input.rows);
      double told = 0;
      for (size_t r = 0; r < costs.size(); ++r) told += costs[r] * encoded->row_errors[r];
      checkpoint.Change(linear.name, encoded->reconstructed);
      const double real = Divergence(reference, LogProbabilities(checkpoint));
      checkpoint.Restore();
      INFO(linear.name);
      CHECK(told == Approx(real).epsilon(0.5));
      told_sum += told;
      real_sum += real;
    }
    REQUIRE((*calibration)->Advance((*layer)->weights(), {}).ok());
  }
  CHECK(told_sum == Approx(real_sum).epsilon(0.15));
}

TEST_CASE("sensitivity: the same for any number of threads; cancelled when asked to") {
  const TestCheckpoint checkpoint(kLlama);
  const size_t threads = kernels::Threads();
  kernels::SetThreads(1);
  const std::vector<Sensitivity> one = Measure(checkpoint, {0.1, 0.01}, 0.1);
  kernels::SetThreads(3);
  const std::vector<Sensitivity> three = Measure(checkpoint, {0.1, 0.01}, 0.1);
  kernels::SetThreads(threads);
  REQUIRE(one.size() == three.size());
  for (size_t i = 0; i < one.size(); ++i) {
    CHECK(one[i].name == three[i].name);
    CHECK(one[i].losses == three[i].losses);
    CHECK(one[i].row_costs == three[i].row_costs);
    CHECK(one[i].losses[0] > one[i].losses[1]);
  }
  SensitivityOptions options;
  options.window = kWindow;
  const auto cancelled =
      MeasureSensitivity(checkpoint, Tokens(), {0.1}, options, [](double) { return false; });
  CHECK(cancelled.status().code() == StatusCode::kCancelled);
  const auto short_text = MeasureSensitivity(checkpoint, {1, 2, 3}, {0.1}, options, {});
  CHECK(short_text.status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sdq
