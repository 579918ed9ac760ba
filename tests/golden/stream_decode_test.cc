// What a converted file means, by FORMAT.md alone: every rate, alphabet and method of the
// converter, decoded by the independent reader, against the runtime's reconstruction and its
// products.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>

#include "converter/pipeline.h"
#include "converter/random_checkpoint.h"
#include "runtime/model.h"
#include "tests/kernels/stream_fixture.h"
#include "tests/support/files.h"
#include "tests/support/independent_reader.h"

namespace sdq {
namespace {

using converter::Method;
using converter::Rate;
using converter::TableType;
using format::Alphabet;

// Widths that are no power of two, no multiple of the block of 128, and odd; rows that do not fill
// their last tile; k and v of 30 rows.
constexpr const char* kLlama = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_act": "silu", "hidden_size": 150, "intermediate_size": 203, "num_hidden_layers": 2,
    "num_attention_heads": 5, "num_key_value_heads": 1, "vocab_size": 37,
    "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2})";
constexpr const char* kOpt = R"({"architectures": ["OPTForCausalLM"], "model_type": "opt",
    "activation_function": "relu", "do_layer_norm_before": true, "enable_bias": true,
    "hidden_size": 130, "word_embed_proj_dim": 130, "ffn_dim": 257, "num_hidden_layers": 1,
    "num_attention_heads": 5, "vocab_size": 41, "max_position_embeddings": 32,
    "tie_word_embeddings": true, "bos_token_id": 2, "eos_token_id": 2})";

struct Conversion {
  const char* title;
  const char* config;
  Method method;
  Alphabet alphabet;
  uint32_t window;          // trellis
  int order;                // published
  std::vector<Rate> rates;  // given to the linears in turn
  // How embeddings and head are stored.
  converter::TableStorage embeddings = {};
  converter::TableStorage head = {};
};

const std::vector<Conversion>& Conversions() {
  static const std::vector<Rate> all = {{1, 1}, {5, 4}, {3, 2}, {7, 4},
                                        {2, 1}, {5, 2}, {3, 1}, {4, 1}};
  // With windows by rate: two kinds of taps in one file, up to six samples per weight.
  static const std::vector<Rate> high = {{6, 1}, {9, 2}, {2, 1}, {15, 4}, {39, 8}, {11, 2}, {5, 1}};
  static const std::vector<Rate> ternary = {{1, 1}, {5, 4}, {3, 2}, {2, 1}};
  static const std::vector<Rate> published = {{2, 1}, {3, 2}, {237, 100}, {1, 1}, {3, 1}};
  static const std::vector<Conversion> conversions = {
      {"trellis, binary", kLlama, Method::kTrellis, Alphabet::kBinary, 8, 1, all},
      {"trellis, binary, high rates",
       kLlama,
       Method::kTrellis,
       Alphabet::kBinary,
       converter::kWindowByRate,
       1,
       high,
       {TableType::kStream, {6, 1}}},
      {"trellis, ternary", kLlama, Method::kTrellis, Alphabet::kTernaryPacked, 5, 1, ternary},
      {"trellis, ternary in planes, biases", kOpt, Method::kTrellis, Alphabet::kTernaryPlanes, 5, 1,
       ternary},
      {"trellis, binary, tables too",
       kLlama,
       Method::kTrellis,
       Alphabet::kBinary,
       8,
       1,
       all,
       {TableType::kStream, {5, 2}},
       {TableType::kStream, {3, 1}}},
      {"trellis, ternary, a tied table too",
       kOpt,
       Method::kTrellis,
       Alphabet::kTernaryPacked,
       5,
       1,
       ternary,
       {TableType::kStream, {2, 1}}},
      {"trellis, an 8-bit head beside stream embeddings",
       kLlama,
       Method::kTrellis,
       Alphabet::kBinary,
       8,
       1,
       all,
       {TableType::kStream, {4, 1}}},
      {"published, ternary", kLlama, Method::kPublished, Alphabet::kTernaryPacked, 0, 1, published},
      {"published, binary, second order, biases", kOpt, Method::kPublished, Alphabet::kBinary, 0, 2,
       published},
  };
  return conversions;
}

// A model as the converter wrote it, opened by the runtime and read by the independent reader.
struct Opened {
  test::TemporaryFolder folder;
  std::unique_ptr<Model> model;
  test::IndependentFile independent;
};

void Convert(const Conversion& conversion, Opened* out) {
  const std::string config = out->folder / "config.json";
  const std::string text = conversion.config;
  test::WriteBytes(config, std::vector<uint8_t>(text.begin(), text.end()));
  const auto checkpoint = converter::OpenRandomCheckpoint(config, 3);
  INFO(checkpoint.status().message());
  REQUIRE(checkpoint.ok());
  converter::ConvertOptions options;
  options.method = conversion.method;
  options.alphabet = conversion.alphabet;
  options.window = conversion.window;
  options.published.order = conversion.order;
  options.published.grid_search = false;
  options.seed = 11;
  options.embeddings = conversion.embeddings;
  options.head = conversion.head;
  for (const TensorShape& shape : ExpectedTensors((*checkpoint)->config())) {
    if (!shape.is_linear || !shape.name.starts_with("layers.")) continue;
    const Rate rate = conversion.rates[options.rates.size() % conversion.rates.size()];
    options.rates.push_back({shape.name, rate});
  }
  REQUIRE(options.rates.size() >= conversion.rates.size());
  const std::string path = out->folder / "model.sdq";
  const auto report = converter::Convert(**checkpoint, options, path, nullptr);
  INFO(report.status().message());
  REQUIRE(report.ok());
  auto model = Model::Open(path);
  INFO(model.status().message());
  REQUIRE(model.ok());
  out->model = *std::move(model);
  REQUIRE(test::ReadIndependently(test::ReadBytes(path), &out->independent) == "");
}

std::vector<const Linear*> LayerLinears(const Model& model) {
  std::vector<const Linear*> linears;
  for (const LayerWeights& layer : model.weights().layers) {
    for (const Linear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      if (linear->rows > 0) linears.push_back(linear);
    }
  }
  return linears;
}

// The two differ by the rounding of float sums only: a row's error, by the row's length.
void CheckRows(const Linear& linear, const test::IndependentTensor& decoded) {
  INFO(linear.name);
  REQUIRE(decoded.rows == linear.rows);
  REQUIRE(decoded.columns == linear.columns);
  std::vector<float> row(linear.columns);
  double worst = 0;
  for (size_t r = 0; r < linear.rows; ++r) {
    Row(linear, r, row.data());
    double error = 0, square = 0;
    for (size_t c = 0; c < linear.columns; ++c) {
      const double expected = double(decoded.values[r * linear.columns + c]);
      error += std::pow(double(row[c]) - expected, 2);
      square += expected * expected;
    }
    REQUIRE(square > 0);
    const double relative = std::sqrt(error / square);
    worst = relative <= worst ? worst : relative;  // a NaN sticks
  }
  CHECK(worst <= 1e-6);
}

TEST_CASE("decode: a converted file's streams are the runtime's weights") {
  const test::KernelState restore;
  const Conversion conversion = GENERATE(from_range(Conversions()));
  INFO(conversion.title);
  Opened opened;
  Convert(conversion, &opened);
  size_t streams = 0;
  for (const Linear* linear : LayerLinears(*opened.model)) {
    const test::IndependentTensor* decoded = opened.independent.Find(linear->name);
    REQUIRE(decoded != nullptr);
    CHECK(decoded->is_stream);
    CheckRows(*linear, *decoded);
    ++streams;
  }
  CHECK(streams == LayerLinears(*opened.model).size());
  // The tables beside them.
  const ModelWeights& weights = opened.model->weights();
  const auto check = [&](const Linear& table, const converter::TableStorage& storage) {
    const test::IndependentTensor* decoded = opened.independent.Find(table.name);
    REQUIRE(decoded != nullptr);
    CHECK(decoded->is_stream == (storage.type == TableType::kStream));
    CheckRows(table, *decoded);
  };
  check(weights.embed_tokens, conversion.embeddings);
  check(weights.head,
        opened.model->config().tied_embeddings ? conversion.embeddings : conversion.head);
}

constexpr size_t kTokens = 3;

// How far a row's sum may be from that of exact table entries: each entry that the row adds is off
// by half a step at most. Every byte of every plane chooses two entries.
struct Rounding {
  double bound = 0;     // all entries off by half a step
  double variance = 0;  // of independent errors, uniform within half a step
};

Rounding RoundingOf(const Linear& linear, const float* segment_steps, size_t row) {
  const kernels::StreamLayout& layout = linear.map->layout();
  const kernels::StreamMatrix& stream = linear.stream;
  Rounding sum;
  for (size_t s = 0; s < layout.segments.size(); ++s) {
    const kernels::Segment& segment = layout.segments[s];
    const size_t at = stream.per_block ? row * layout.blocks + segment.block : row;
    const double scale =
        double(stream.scale_base) * double(kernels::F32FromF16(stream.scales_f16[at]));
    const double step = scale * double(segment_steps[s]);
    const double entries = 2.0 * double(segment.bytes) * double(layout.planes);
    sum.bound += step / 2 * entries;
    sum.variance += step * step / 12 * entries;
  }
  return sum;
}

// The runtime's product of `x` ([kTokens][columns]) against the float product with the decoded
// weights.
void CheckProduct(const Linear& linear, const test::IndependentTensor& decoded,
                  const std::vector<float>& x) {
  const kernels::ActivationMap& map = *linear.map;
  kernels::AlignedFloats tables(kTokens * map.table_bytes() / sizeof(float));
  kernels::AlignedFloats scratch(kernels::Threads() * map.scratch_bytes() / sizeof(float));
  PreparedInput::Memory memory;
  memory.tables = reinterpret_cast<uint8_t*>(tables.data());
  memory.table_bytes = kTokens * map.table_bytes();
  memory.scratch = reinterpret_cast<uint8_t*>(scratch.data());
  PreparedInput input(memory);
  input.SetInput(x.data(), kTokens, linear.columns);
  std::vector<float> y(kTokens * linear.rows);
  Forward(linear, input, y.data(), linear.rows);

  double square = 0, variance = 0;
  size_t beyond = 0;
  for (size_t t = 0; t < kTokens; ++t) {
    const float* steps = tables.data() + t * map.table_bytes() / sizeof(float);
    for (size_t r = 0; r < linear.rows; ++r) {
      double exact = decoded.bias.empty() ? 0.0 : double(decoded.bias[r]);
      double terms = std::abs(exact);
      for (size_t c = 0; c < linear.columns; ++c) {
        const double term =
            double(decoded.values[r * linear.columns + c]) * double(x[t * linear.columns + c]);
        exact += term;
        terms += std::abs(term);
      }
      const Rounding rounding = RoundingOf(linear, steps, r);
      const double error = std::abs(double(y[t * linear.rows + r]) - exact);
      const double float_sums = 1e-5 * terms;
      if (!(error <= rounding.bound + float_sums)) ++beyond;
      square += error * error;
      variance += rounding.variance + float_sums * float_sums;
    }
  }
  CHECK(beyond == 0);
  // Errors of entries are alike in rows that choose the same ones: over all rows and tokens their
  // square comes near its expectation, not to it.
  CHECK(square <= 1.5 * variance);
}

TEST_CASE("decode: products are those of the decoded weights within the activation's 8 bits") {
  const test::KernelState restore;
  const Conversion conversion = GENERATE(from_range(Conversions()));
  INFO(conversion.title);
  Opened opened;
  Convert(conversion, &opened);
  std::mt19937_64 random(5);
  std::vector<const Linear*> linears = LayerLinears(*opened.model);
  if (const Linear& head = opened.model->weights().head; head.is_stream()) linears.push_back(&head);
  for (const Linear* linear : linears) {
    const test::IndependentTensor* decoded = opened.independent.Find(linear->name);
    REQUIRE(decoded != nullptr);
    const std::vector<float> x = test::RandomFloats(random, kTokens * linear->columns);
    for (const std::string& target : kernels::AvailableTargets()) {
      REQUIRE(kernels::ForceTarget(target));
      INFO(linear->name << " " << target);
      CheckProduct(*linear, *decoded, x);
    }
  }
}

}  // namespace
}  // namespace sdq
