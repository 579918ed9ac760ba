// Small random models for tests: written to .sdq files, and evaluated by an independent reference.
#ifndef SDQ_TESTS_RUNTIME_TEST_MODEL_H_
#define SDQ_TESTS_RUNTIME_TEST_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "format/tensor.h"
#include "runtime/config.h"
#include "runtime/model.h"
#include "runtime/tokenizer.h"

namespace sdq::test {

struct TestTensor {
  uint32_t rows = 0;
  uint32_t columns = 0;
  std::vector<float> values;
  std::vector<float> bias;
  format::DenseType type = format::DenseType::kF32;  // kF32 or kF16

  // Set for a bitstream: `values` is then empty until FillFromFile().
  bool is_stream = false;
  format::DecimatorSpec decimator;
  format::RotationSpec rotation;
  format::Alphabet alphabet = format::Alphabet::kBinary;
  std::vector<uint8_t> bits;
  std::vector<uint16_t> scales;
};

struct TestModel {
  ModelConfig config;
  std::map<std::string, TestTensor> tensors;
};

// Grouped heads, q width different from hidden, biases, llama3 scaling, untied.
ModelConfig LlamaConfig();
// Pre-norm, ReLU, tied.
ModelConfig OptConfig();
// OPT-350M-like: post-norm, projections, no final norm; GELU.
ModelConfig PostNormOptConfig();

TestModel RandomModel(const ModelConfig& config, uint32_t seed, bool biases);

// Replaces a matrix by a random bitstream of OSR num/den with a rotation.
void MakeStream(TestTensor* tensor, uint32_t num, uint32_t den, uint64_t sign_seed);
// Turns every linear of the model's layers into a stream; rates differ inside a layer.
void MakeAllStreams(TestModel* model);

// Writes what is in `model`, whether it is a legal model or not.
Status Write(const TestModel& model, const std::string& path);
// Writes, and opens the result.
Result<std::unique_ptr<Model>> WriteAndOpen(const TestModel& model, const std::string& path);
// The weights that the streams of an opened model stand for, into `values`.
void FillFromFile(const Model& opened, TestModel* model);

// Logits of every position, [tokens][vocab], in float64, from the definition of the architectures:
// no cache, no batches, no code shared with the runtime.
std::vector<double> ReferenceLogits(const TestModel& model, const std::vector<TokenId>& tokens);

// `count` token ids from a fixed generator.
std::vector<TokenId> RandomTokens(const ModelConfig& config, size_t count, uint32_t seed);

}  // namespace sdq::test

#endif  // SDQ_TESTS_RUNTIME_TEST_MODEL_H_
