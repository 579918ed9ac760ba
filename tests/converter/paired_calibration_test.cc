// What corrections aim at, against direct sums in f64 over the same inputs.
#include "converter/paired_calibration.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "converter/random_checkpoint.h"
#include "kernels/parallel.h"
#include "tests/support/files.h"

namespace sdq {
namespace {

using namespace converter;

constexpr size_t kWindow = 8;
constexpr size_t kTokens = 24;

constexpr const char* kLlama = R"({"model_type": "llama", "hidden_size": 16,
  "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "vocab_size": 32, "max_position_embeddings": 8,
  "rms_norm_eps": 1e-5, "rope_theta": 100.0, "tie_word_embeddings": true, "hidden_act": "silu",
  "bos_token_id": 1, "eos_token_id": 2})";

std::string OptConfig(bool pre_norm) {
  return std::string(R"({"model_type": "opt", "hidden_size": 16, "ffn_dim": 24,
  "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 32,
  "max_position_embeddings": 8, "word_embed_proj_dim": 16,
  "bos_token_id": 2, "eos_token_id": 2, )") +
         (pre_norm ? R"("do_layer_norm_before": true, "activation_function": "relu"})"
                   : R"("do_layer_norm_before": false, "activation_function": "gelu"})");
}

std::vector<TokenId> Tokens(size_t count) {
  std::vector<TokenId> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = TokenId((i * i + 3 * i + 1) % 32);
  return tokens;
}

// A layer of random weights large enough to matter, and a changed copy that plays the quantized
// one.
struct Fixture {
  explicit Fixture(const std::string& config) {
    const test::TemporaryFolder folder;
    std::ofstream(folder / "config.json") << config;
    auto opened = OpenRandomCheckpoint(folder / "config.json", 5);
    REQUIRE(opened.ok());
    checkpoint = std::move(*opened);
    original = Load(0.0f);
    quantized = Load(0.3f);
  }

  std::unique_ptr<FloatLayer> Load(float change) const {
    auto layer = FloatLayer::Load(*checkpoint, 0);
    REQUIRE(layer.ok());
    std::mt19937 generator(3);
    std::normal_distribution<float> normal;
    for (const auto& linear : (*layer)->linears()) {
      for (float& w : *linear.values) w = 20 * w + change * normal(generator);
    }
    return std::move(*layer);
  }

  std::unique_ptr<PairedCalibration> Paired(const CorrectionOptions& options) const {
    auto paired = PairedCalibration::Create(*checkpoint, *checkpoint, Tokens(kTokens + 2), kWindow,
                                            options, false);
    REQUIRE(paired.ok());
    return std::move(*paired);
  }

  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<FloatLayer> original, quantized;
};

const Linear& Member(const LayerWeights& layer, LinearGroup group) {
  switch (group) {
    case LinearGroup::kAttnIn:
      return layer.k;
    case LinearGroup::kAttnOut:
      return layer.o;
    case LinearGroup::kFfnIn:
      return layer.up;
    case LinearGroup::kFfnMid:
      return layer.down;
  }
  return layer.q;
}

bool InFeedForward(LinearGroup group) {
  return group == LinearGroup::kFfnIn || group == LinearGroup::kFfnMid;
}

// One model alone, after one whole block (and the next one's attention, for feed-forward groups):
// the group's inputs, and the residual stream that its sub-block adds to.
struct Observed {
  Observed(const Fixture& f, const LayerWeights& layer, LinearGroup group) {
    auto model = Calibration::Create(*f.checkpoint, Tokens(kTokens + 2), kWindow);
    REQUIRE(model.ok());
    const LinearTap tap = [&](const Linear& linear, const float* input, size_t tokens,
                              size_t stride) {
      if (&linear != &Member(layer, group)) return true;
      for (size_t t = 0; t < tokens; ++t) {
        x.insert(x.end(), input + t * stride, input + t * stride + linear.columns);
      }
      return true;
    };
    for (size_t w = 0; w < (*model)->windows(); ++w) {
      const std::span<float> states = (*model)->WindowStates(w);
      (*model)->RunWindow(layer, BlockPart::kWhole, states.data(), LinearTap());
      std::vector<float> copy(states.begin(), states.end());
      if (InFeedForward(group)) {
        (*model)->RunWindow(layer, BlockPart::kAttention, states.data(), LinearTap());
      }
      residual.insert(residual.end(), states.begin(), states.end());
      (*model)->RunWindow(layer, BlockPart::kWhole, copy.data(), tap);
    }
  }
  std::vector<float> x, residual;  // [tokens][...]
};

// Mean of e x^T, e = alpha W (x_f - x) + rho (r_f - r).
std::vector<double> DirectShift(const Linear& linear, const Observed& student,
                                const Observed& teacher, double alpha, double rho) {
  const size_t n = linear.columns;
  const size_t tokens = student.x.size() / n;
  const auto* weights = static_cast<const float*>(linear.dense.data);
  std::vector<double> shift(linear.rows * n, 0.0);
  for (size_t r = 0; r < linear.rows; ++r) {
    for (size_t t = 0; t < tokens; ++t) {
      double e = 0;
      for (size_t c = 0; c < n; ++c) {
        e += alpha * double(weights[r * n + c]) *
             (double(teacher.x[t * n + c]) - double(student.x[t * n + c]));
      }
      if (rho != 0) {
        e += rho * (double(teacher.residual[t * linear.rows + r]) -
                    double(student.residual[t * linear.rows + r]));
      }
      for (size_t c = 0; c < n; ++c) {
        shift[r * n + c] += e * double(student.x[t * n + c]) / double(tokens);
      }
    }
  }
  return shift;
}

std::vector<double> DirectHessian(const std::vector<float>& x, size_t n) {
  std::vector<double> h(n * n, 0.0);
  for (size_t t = 0; t < x.size() / n; ++t) {
    for (size_t i = 0; i < n * n; ++i) {
      h[i] += double(x[t * n + i / n]) * double(x[t * n + i % n]) * double(n) / double(x.size());
    }
  }
  return h;
}

// Largest difference over the largest element.
template <class T>
double Distance(const std::vector<double>& expected, const std::vector<T>& actual) {
  REQUIRE(expected.size() == actual.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    worst = std::max(worst, std::abs(expected[i] - double(actual[i])));
    largest = std::max(largest, std::abs(expected[i]));
  }
  REQUIRE(largest > 0);
  return worst / largest;
}

TEST_CASE("paired calibration: moments are those of the two models' inputs") {
  const std::string config = GENERATE(as<std::string>(), kLlama, OptConfig(true), OptConfig(false));
  const auto group = GENERATE(LinearGroup::kAttnIn, LinearGroup::kAttnOut, LinearGroup::kFfnIn,
                              LinearGroup::kFfnMid);
  const Fixture f(config);
  const LayerWeights& original = f.original->weights();
  const LayerWeights& quantized = f.quantized->weights();
  const Observed student(f, quantized, group), teacher(f, original, group);
  const auto paired = f.Paired({0.5, 0.25});
  REQUIRE(paired->Advance(BlockPart::kWhole, quantized, original, {}).ok());
  if (InFeedForward(group)) {
    REQUIRE(paired->Advance(BlockPart::kAttention, quantized, original, {}).ok());
  }
  const auto moments = paired->Collect(group, quantized, original, {});
  REQUIRE(moments.ok());
  const Linear& linear = Member(original, group);
  const bool adds = group == LinearGroup::kAttnOut || group == LinearGroup::kFfnMid;
  REQUIRE(student.x.size() == kTokens * linear.columns);
  CHECK(Distance(DirectHessian(student.x, linear.columns), moments->hessian) < 1e-5);
  CHECK(Distance(DirectShift(linear, student, teacher, 0.5, adds ? 0.25 : 0.0),
                 paired->Shift(*moments, group, linear)) < 1e-5);
}

TEST_CASE("paired calibration: a bias takes the mean error, covariances are left") {
  const auto group = GENERATE(LinearGroup::kAttnIn, LinearGroup::kAttnOut, LinearGroup::kFfnIn,
                              LinearGroup::kFfnMid);
  const Fixture f(OptConfig(true));
  const LayerWeights& original = f.original->weights();
  const LayerWeights& quantized = f.quantized->weights();
  Observed student(f, quantized, group), teacher(f, original, group);
  const auto paired = f.Paired({0.5, 0.25});
  REQUIRE(paired->Advance(BlockPart::kWhole, quantized, original, {}).ok());
  if (InFeedForward(group)) {
    REQUIRE(paired->Advance(BlockPart::kAttention, quantized, original, {}).ok());
  }
  auto moments = paired->Collect(group, quantized, original, {});
  REQUIRE(moments.ok());
  const Linear& linear = Member(original, group);
  const size_t n = linear.columns;
  const auto* w = static_cast<const float*>(linear.dense.data);
  const auto* q = static_cast<const float*>(Member(quantized, group).dense.data);
  const bool adds = group == LinearGroup::kAttnOut || group == LinearGroup::kFfnMid;
  const std::vector<float> reconstructed(q, q + linear.rows * n);
  std::vector<double> expected(linear.rows, 0.0);
  for (size_t r = 0; r < linear.rows; ++r) {
    for (size_t t = 0; t < kTokens; ++t) {
      double error = 0;
      for (size_t c = 0; c < n; ++c) {
        const double x = double(student.x[t * n + c]);
        error += 0.5 * double(w[r * n + c]) * (double(teacher.x[t * n + c]) - x) +
                 (double(w[r * n + c]) - double(q[r * n + c])) * x;
      }
      if (adds) {
        error += 0.25 * (double(teacher.residual[t * linear.rows + r]) -
                         double(student.residual[t * linear.rows + r]));
      }
      expected[r] += error / double(kTokens);
    }
  }
  CHECK(Distance(expected, paired->BiasShift(*moments, group, linear, reconstructed)) < 1e-5);

  moments->Center();
  const auto center = [](std::vector<float>* x, size_t width) {
    for (size_t c = 0; c < width; ++c) {
      double mean = 0;
      for (size_t t = 0; t < kTokens; ++t) mean += double((*x)[t * width + c]) / double(kTokens);
      for (size_t t = 0; t < kTokens; ++t) (*x)[t * width + c] -= float(mean);
    }
  };
  for (Observed* seen : {&student, &teacher}) {
    center(&seen->x, n);
    center(&seen->residual, 16);
  }
  CHECK(Distance(DirectHessian(student.x, n), moments->hessian) < 1e-4);
  CHECK(Distance(DirectShift(linear, student, teacher, 0.5, adds ? 0.25 : 0.0),
                 paired->Shift(*moments, group, linear)) < 1e-4);
}

TEST_CASE("paired calibration: without corrections the float model does not run") {
  const Fixture f(kLlama);
  const auto paired = f.Paired({0.0, 0.0});
  CHECK(paired->teacher() == nullptr);
  const LayerWeights& quantized = f.quantized->weights();
  const auto moments = paired->Collect(LinearGroup::kFfnMid, quantized, f.original->weights(), {});
  REQUIRE(moments.ok());
  CHECK(moments->cross.empty());
  CHECK(paired->Shift(*moments, LinearGroup::kFfnMid, f.original->weights().down).empty());
}

TEST_CASE("paired calibration: the parts of a block are the block") {
  const std::string config = GENERATE(as<std::string>(), kLlama, OptConfig(true), OptConfig(false));
  const Fixture f(config);
  auto model = Calibration::Create(*f.checkpoint, Tokens(kTokens), kWindow);
  REQUIRE(model.ok());
  const LayerWeights& layer = f.original->weights();
  const std::span<const float> states = (*model)->WindowStates(1);
  std::vector<float> whole(states.begin(), states.end());
  std::vector<float> parts = whole;
  (*model)->RunWindow(layer, BlockPart::kWhole, whole.data(), LinearTap());
  (*model)->RunWindow(layer, BlockPart::kAttention, parts.data(), LinearTap());
  CHECK(parts != whole);
  (*model)->RunWindow(layer, BlockPart::kFeedForward, parts.data(), LinearTap());
  CHECK(parts == whole);
}

TEST_CASE("paired calibration: what Collect did already, Advance leaves out") {
  const std::string config = GENERATE(as<std::string>(), kLlama, OptConfig(true), OptConfig(false));
  const auto precision = GENERATE(kernels::Precision::kSingle, kernels::Precision::kRounded);
  const Fixture f(config);
  for (const auto* layer : {f.original.get(), f.quantized.get()}) {
    for (const auto& linear : layer->linears()) linear.linear->dense.precision = precision;
  }
  const LayerWeights& original = f.original->weights();
  const LayerWeights& quantized = f.quantized->weights();
  const auto after = [&](bool collect) {
    const auto paired = f.Paired({0.5, 0.25});
    for (const auto& [group, part] : {std::pair(LinearGroup::kAttnOut, BlockPart::kAttention),
                                      std::pair(LinearGroup::kFfnMid, BlockPart::kFeedForward)}) {
      if (collect) {
        REQUIRE(paired->Collect(group, quantized, original, {}).ok());
        CHECK_FALSE(paired->Collect(group, quantized, original, {}).ok());
      }
      REQUIRE(paired->Advance(part, quantized, original, {}).ok());
    }
    auto moments = paired->Collect(LinearGroup::kAttnIn, quantized, original, {});
    REQUIRE(moments.ok());
    return std::move(*moments);
  };
  const GroupMoments apart = after(false), together = after(true);
  if (precision == kernels::Precision::kSingle) {
    CHECK(apart.hessian == together.hessian);
    CHECK(apart.cross == together.cross);
  } else {
    CHECK(Distance(apart.hessian, together.hessian) < 0.01);
    CHECK(Distance(apart.cross, together.cross) < 0.05);
  }
}

TEST_CASE("paired calibration: same moments for any number of threads, and it can be cancelled") {
  const Fixture f(kLlama);
  const auto collect = [&](size_t threads) {
    kernels::SetThreads(threads);
    const auto paired = f.Paired({1.0, 1.0});
    REQUIRE(
        paired->Advance(BlockPart::kWhole, f.quantized->weights(), f.original->weights(), {}).ok());
    auto moments =
        paired->Collect(LinearGroup::kAttnOut, f.quantized->weights(), f.original->weights(), {});
    REQUIRE(moments.ok());
    return std::move(*moments);
  };
  const size_t before = kernels::Threads();
  const GroupMoments one = collect(1), three = collect(3);
  kernels::SetThreads(before);
  CHECK(one.hessian == three.hessian);
  CHECK(one.cross == three.cross);
  size_t ticks = 0;
  const auto stopped =
      f.Paired({1.0, 1.0})
          ->Collect(LinearGroup::kAttnIn, f.quantized->weights(), f.original->weights(),
                    [&](size_t, size_t) { return ++ticks < 2; });
  CHECK(stopped.status().code() == StatusCode::kCancelled);
  CHECK(ticks == 2);
}

}  // namespace
}  // namespace sdq
