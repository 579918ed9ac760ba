#include "tests/runtime/test_model.h"

#include <cmath>
#include <cstring>
#include <random>

#include "format/writer.h"
#include "kernels/stream_product.h"

namespace sdq::test {
namespace {

// Uniform in [-1, 1) from raw generator output: the same on every standard library.
float Uniform(std::mt19937* generator) {
  return static_cast<float>((*generator)() >> 8) * 0x1.0p-23f - 1.0f;
}

std::vector<float> Random(std::mt19937* generator, size_t count, float center, float spread) {
  std::vector<float> values(count);
  for (float& value : values) value = center + spread * Uniform(generator);
  return values;
}

bool EndsWith(const std::string& text, const std::string& end) { return text.ends_with(end); }

std::vector<uint8_t> Bytes(const TestTensor& tensor) {
  std::vector<uint8_t> bytes;
  for (float value : tensor.values) {
    if (tensor.type == format::DenseType::kF16) {
      const uint16_t half = format::F32ToF16(value);
      bytes.push_back(static_cast<uint8_t>(half & 0xff));
      bytes.push_back(static_cast<uint8_t>(half >> 8));
    } else {
      uint8_t raw[sizeof(float)];
      std::memcpy(raw, &value, sizeof raw);
      bytes.insert(bytes.end(), raw, raw + sizeof raw);
    }
  }
  return bytes;
}

Status WriteTensor(const std::string& name, const TestTensor& tensor, format::SdqWriter* writer) {
  if (tensor.is_stream) {
    format::StreamView view;
    view.name = name;
    view.rows = tensor.rows;
    view.columns = tensor.columns;
    view.rotation = tensor.rotation;
    view.decimator = tensor.decimator;
    view.alphabet = tensor.alphabet;
    view.scales_f16 = tensor.scales;
    view.bias = tensor.bias;
    view.bits = tensor.bits;
    return writer->Add(view);
  }
  const std::vector<uint8_t> bytes = Bytes(tensor);
  format::DenseView view;
  view.name = name;
  view.type = tensor.type;
  view.rows = tensor.rows;
  view.columns = tensor.columns;
  view.data = bytes;
  view.bias = tensor.bias;
  return writer->Add(view);
}

void Fill(const Linear& linear, TestModel* model) {
  if (!linear.is_stream()) return;
  TestTensor& tensor = model->tensors.at(linear.name);
  tensor.values.resize(linear.rows * linear.columns);
  kernels::ReconstructRows(linear.stream, *linear.map, 0, linear.rows, tensor.values.data());
}

}  // namespace

ModelConfig LlamaConfig() {
  ModelConfig c;
  c.architecture = Architecture::kLlama;
  c.vocab_size = 61;
  c.hidden_size = c.embed_size = 48;
  c.layers = 2;
  c.heads = 6;
  c.kv_heads = 2;
  c.head_dim = 10;
  c.ffn_size = 56;
  c.max_positions = 64;
  c.norm_eps = 1e-5;
  c.rope_theta = 500.0;
  c.rope_scaling = RopeScaling::kLlama3;
  c.rope_factor = 8.0;
  c.rope_low_freq_factor = 1.0;
  c.rope_high_freq_factor = 4.0;
  c.rope_original_positions = 32;
  c.bos_token = 1;
  c.eos_tokens = {2};
  return c;
}

ModelConfig OptConfig() {
  ModelConfig c;
  c.architecture = Architecture::kOpt;
  c.vocab_size = 53;
  c.hidden_size = c.embed_size = 40;
  c.layers = 2;
  c.heads = c.kv_heads = 5;
  c.head_dim = 8;
  c.ffn_size = 72;
  c.max_positions = 64;
  c.tied_embeddings = true;
  c.activation = Activation::kRelu;
  c.position_offset = 2;
  c.bos_token = 2;
  c.eos_tokens = {2};
  return c;
}

ModelConfig PostNormOptConfig() {
  ModelConfig c = OptConfig();
  c.embed_size = 24;
  c.activation = Activation::kGelu;
  c.pre_norm = false;
  c.final_norm = false;
  return c;
}

TestModel RandomModel(const ModelConfig& config, uint32_t seed, bool biases) {
  TestModel model;
  model.config = config;
  std::mt19937 generator(seed);
  for (const TensorShape& shape : ExpectedTensors(config)) {
    TestTensor tensor;
    tensor.rows = static_cast<uint32_t>(shape.rows);
    tensor.columns = static_cast<uint32_t>(shape.columns);
    const size_t count = size_t{tensor.rows} * tensor.columns;
    if (shape.rows == 1 && EndsWith(shape.name, ".weight")) {
      tensor.values = Random(&generator, count, 1.0f, 0.3f);
    } else if (shape.rows == 1) {
      tensor.values = Random(&generator, count, 0.0f, 0.2f);
    } else if (shape.is_linear) {
      const float spread = 2.0f / std::sqrt(static_cast<float>(shape.columns));
      tensor.values = Random(&generator, count, 0.0f, spread);
      if (biases) tensor.bias = Random(&generator, tensor.rows, 0.0f, 0.3f);
    } else {
      tensor.values = Random(&generator, count, 0.0f, 1.0f);
    }
    model.tensors[shape.name] = std::move(tensor);
  }
  return model;
}

void MakeStream(TestTensor* tensor, uint32_t num, uint32_t den, uint64_t sign_seed) {
  std::mt19937 generator(static_cast<uint32_t>(sign_seed) * 7919u + num);
  tensor->is_stream = true;
  tensor->values.clear();
  tensor->rotation = {format::RotationKind::kHadamard, tensor->columns, sign_seed};
  tensor->decimator.kind = format::DecimatorKind::kPolyphase;
  tensor->decimator.osr_num = num;
  tensor->decimator.osr_den = den;
  tensor->decimator.window = 6;
  tensor->decimator.taps = Random(&generator, size_t{den} * 6, 0.0f, 0.6f);
  const uint64_t bytes =
      format::BitstreamBytes(tensor->decimator, tensor->alphabet, tensor->rows, tensor->columns);
  tensor->bits.resize(bytes);
  for (uint8_t& byte : tensor->bits) byte = static_cast<uint8_t>(generator() >> 24);
  // Bits that stand for no sample are zero: rows beyond the last, samples beyond the row's last.
  const uint64_t row_bytes = format::RowBytes(tensor->decimator, tensor->alphabet, tensor->columns);
  const uint64_t samples = format::RowSamples(tensor->decimator, tensor->columns);
  for (uint64_t i = 0; i < bytes; ++i) {
    const uint64_t row = i / (row_bytes * 16) * 16 + i % 16;
    const uint64_t byte = i % (row_bytes * 16) / 16;
    if (row >= tensor->rows) tensor->bits[i] = 0;
    if (byte + 1 == row_bytes && samples % 8 != 0) {
      tensor->bits[i] &= static_cast<uint8_t>((1u << (samples % 8)) - 1);
    }
  }
  for (uint32_t r = 0; r < tensor->rows; ++r) {
    const float scale =
        (1.5f + 0.5f * Uniform(&generator)) / std::sqrt(static_cast<float>(tensor->columns));
    tensor->scales.push_back(format::F32ToF16(scale));
  }
}

void MakeAllStreams(TestModel* model) {
  for (int64_t n = 0; n < model->config.layers; ++n) {
    const auto make = [&](const char* part, uint32_t num, uint32_t den, uint64_t seed) {
      const auto it = model->tensors.find(LayerTensorName(n, part));
      if (it != model->tensors.end()) MakeStream(&it->second, num, den, seed);
    };
    // q and v share a map, k between them does not.
    make("attn.q", 2, 1, 11);
    make("attn.k", 3, 2, 11);
    make("attn.v", 2, 1, 11);
    make("attn.o", 2, 1, 11);
    make("ffn.gate", 5, 4, 11);
    make("ffn.up", 5, 4, 11);
    make("ffn.down", 3, 1, 12);
  }
}

Status Write(const TestModel& model, const std::string& path) {
  SDQ_ASSIGN_OR_RETURN(std::unique_ptr<format::SdqWriter> writer, format::SdqWriter::Create(path));
  for (const auto& [name, tensor] : model.tensors) {
    SDQ_RETURN_IF_ERROR(WriteTensor(name, tensor, writer.get()));
  }
  format::Metadata metadata;
  model.config.Store(&metadata);
  return writer->Finish(metadata);
}

Result<std::unique_ptr<Model>> WriteAndOpen(const TestModel& model, const std::string& path) {
  SDQ_RETURN_IF_ERROR(Write(model, path));
  return Model::Open(path);
}

void FillFromFile(const Model& opened, TestModel* model) {
  for (const LayerWeights& layer : opened.weights().layers) {
    for (const Linear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      Fill(*linear, model);
    }
  }
  Fill(opened.weights().embed_tokens, model);
  if (!opened.config().tied_embeddings) Fill(opened.weights().head, model);
}

std::vector<TokenId> RandomTokens(const ModelConfig& config, size_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(generator() % static_cast<uint32_t>(config.vocab_size));
  }
  return tokens;
}

}  // namespace sdq::test
