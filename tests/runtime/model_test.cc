#include "runtime/model.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "format/writer.h"
#include "runtime/session.h"
#include "tests/runtime/test_model.h"
#include "tests/support/files.h"

namespace sdq {
namespace {

using test::TestModel;

// Opening fails with this code and a message that names the file and has all of `texts`.
void CheckRefused(const TestModel& model, StatusCode code, const std::vector<std::string>& texts) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "model.sdq";
  const Status written = test::Write(model, path);
  INFO(written.message());
  REQUIRE(written.ok());
  const Status status = Model::Open(path).status();
  INFO(status.message());
  CHECK(status.code() == code);
  CHECK(status.message().find(path) == 0);
  for (const std::string& text : texts) {
    CHECK(status.message().find(text) != std::string::npos);
  }
}

TestModel Llama() { return test::RandomModel(test::LlamaConfig(), 1, true); }
TestModel Opt() { return test::RandomModel(test::OptConfig(), 1, true); }

TEST_CASE("model: views point into the file") {
  const test::TemporaryFolder folder;
  const auto mode = GENERATE(format::MappedFile::Mode::kMmap, format::MappedFile::Mode::kRead);
  const TestModel model = Llama();
  REQUIRE(test::Write(model, folder / "model.sdq").ok());
  const Result<std::unique_ptr<Model>> opened = Model::Open(folder / "model.sdq", mode);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const LayerWeights& layer = (*opened)->weights().layers[1];
  const test::TestTensor& k = model.tensors.at("layers.1.attn.k");
  CHECK(layer.k.name == "layers.1.attn.k");
  CHECK(layer.k.rows == 20);
  CHECK(layer.k.columns == 48);
  CHECK(!layer.k.is_stream());
  std::vector<float> row(48);
  Row(layer.k, 19, row.data());
  CHECK(std::equal(row.begin(), row.end(), k.values.begin() + 19 * 48));
  CHECK(layer.k.dense.bias[7] == k.bias[7]);
  CHECK(layer.ffn_norm.weight[3] == model.tensors.at("layers.1.ffn_norm.weight").values[3]);
  CHECK(layer.ffn_norm.bias == nullptr);
  CHECK((*opened)->weights().head.dense.data != (*opened)->weights().embed_tokens.dense.data);
}

TEST_CASE("model: a tied head is the embedding; projections are bound") {
  const test::TemporaryFolder folder;
  const auto opened = test::WriteAndOpen(test::RandomModel(test::PostNormOptConfig(), 1, true),
                                         folder / "model.sdq");
  REQUIRE(opened.ok());
  const ModelWeights& weights = (*opened)->weights();
  CHECK(weights.head.dense.data == weights.embed_tokens.dense.data);
  CHECK(weights.project_in.rows == 40);
  CHECK(weights.project_out.rows == 24);
  CHECK(weights.final_norm.weight == nullptr);
  CHECK(weights.layers[0].gate.rows == 0);
}

TEST_CASE("model: every linear knows which come after it, from the first layer to the next token") {
  const test::TemporaryFolder folder;
  const bool llama = GENERATE(true, false);
  const auto opened = test::WriteAndOpen(llama ? Llama() : Opt(), folder / "model.sdq");
  REQUIRE(opened.ok());
  const ModelWeights& weights = (*opened)->weights();
  std::vector<const Linear*> expected, met;
  for (const LayerWeights& layer : weights.layers) {
    expected.insert(expected.end(), {&layer.q, &layer.k, &layer.v, &layer.o});
    if (llama) expected.push_back(&layer.gate);
    expected.insert(expected.end(), {&layer.up, &layer.down});
  }
  expected.push_back(&weights.head);
  for (auto next = weights.head.next; met.size() < expected.size(); next = next[0]->next) {
    REQUIRE(!next.empty());
    for (const Linear* linear : next) {
      met.push_back(linear);
      CHECK(linear->next.data() == next[0]->next.data());
    }
  }
  CHECK(met == expected);
}

TEST_CASE("model: every missing tensor is named") {
  for (const TestModel& whole :
       {Llama(), Opt(), test::RandomModel(test::PostNormOptConfig(), 1, true)}) {
    for (const TensorShape& shape : ExpectedTensors(whole.config)) {
      if (shape.optional) continue;
      TestModel model = whole;
      model.tensors.erase(shape.name);
      CheckRefused(model, StatusCode::kCorrupt, {fmt::format("'{}' is missing", shape.name)});
    }
  }
}

TEST_CASE("model: every misshaped tensor is named, with both shapes") {
  for (const TestModel& whole : {Llama(), Opt()}) {
    for (const TensorShape& shape : ExpectedTensors(whole.config)) {
      TestModel model = whole;
      test::TestTensor& tensor = model.tensors.at(shape.name);
      ++tensor.columns;
      tensor.values.resize(size_t{tensor.rows} * tensor.columns);
      const std::string columns = fmt::format("[{}]", shape.columns);
      const std::string found = fmt::format("[{}]", shape.columns + 1);
      CheckRefused(model, StatusCode::kCorrupt, {shape.name, columns, found});
    }
  }
}

TEST_CASE("model: streams of one layer that disagree on their input's width are refused") {
  TestModel model = Llama();
  test::MakeAllStreams(&model);
  test::TestTensor& k = model.tensors.at("layers.1.attn.k");
  k.columns = 56;
  k.scales.clear();
  test::MakeStream(&k, 2, 1, 11);
  CheckRefused(model, StatusCode::kCorrupt, {"'layers.1.attn.k' is [20][56]", "[20][48]"});
}

TEST_CASE("model: bitstream tables of another shape are refused") {
  for (const char* name : {"embed.tokens", "head"}) {
    for (const bool wider : {false, true}) {
      TestModel model = Llama();
      test::TestTensor& table = model.tensors.at(name);
      const std::string expected = fmt::format("[{}][{}]", table.rows, table.columns);
      (wider ? table.columns : table.rows) += 1;
      test::MakeStream(&table, 5, 2, 11);
      const std::string found = fmt::format("[{}][{}]", table.rows, table.columns);
      CheckRefused(model, StatusCode::kCorrupt, {name, expected, found});
    }
  }
}

TEST_CASE("model: too many rows or too few are refused") {
  TestModel model = Llama();
  test::TestTensor& up = model.tensors.at("layers.0.ffn.up");
  --up.rows;
  up.values.resize(size_t{up.rows} * up.columns);
  up.bias.resize(up.rows);
  CheckRefused(model, StatusCode::kCorrupt, {"'layers.0.ffn.up' is [55][48]", "[56][48]"});
}

TEST_CASE("model: a layer count that does not match the tensors is refused") {
  TestModel model = Llama();
  model.config.layers = 1;
  CheckRefused(model, StatusCode::kCorrupt, {"'layers.1.", "1 layers"});
  model.config.layers = 3;
  CheckRefused(model, StatusCode::kCorrupt, {"'layers.2.attn_norm.weight' is missing"});
}

TEST_CASE("model: a huge layer count costs nothing") {
  TestModel model = Llama();
  model.config.layers = 1000;
  CheckRefused(model, StatusCode::kCorrupt, {"model.layers is 1000"});
}

TEST_CASE("model: tied and untied heads at once are refused") {
  TestModel model = Llama();
  model.config.tied_embeddings = true;
  CheckRefused(model, StatusCode::kCorrupt, {"'head'", "tied_embeddings"});
}

TEST_CASE("model: unknown tensors are errors among the model's names, else ignored") {
  for (const char* name : {"layers.0.attn.qkv", "embed.extra", "final_norm.bias", "layers.7.attn.q",
                           "layers.0.attn_norm.bias"}) {
    TestModel model = Llama();
    model.tensors[name] = model.tensors.at("final_norm.weight");
    CheckRefused(model, StatusCode::kCorrupt, {name});
  }
  TestModel model = Llama();
  model.tensors["vision.patch"] = model.tensors.at("final_norm.weight");
  const test::TemporaryFolder folder;
  CHECK(test::WriteAndOpen(model, folder / "model.sdq").ok());
}

TEST_CASE("model: vectors must be plain f32, tables without bias, positions dense") {
  TestModel model = Llama();
  model.tensors.at("final_norm.weight").type = format::DenseType::kF16;
  CheckRefused(model, StatusCode::kUnsupported, {"'final_norm.weight'", "f32"});
  model = Llama();
  model.tensors.at("layers.0.ffn_norm.weight").bias.assign(1, 1.0f);
  CheckRefused(model, StatusCode::kUnsupported, {"'layers.0.ffn_norm.weight'"});
  model = Opt();
  model.tensors.at("embed.tokens").bias.assign(53, 1.0f);
  CheckRefused(model, StatusCode::kCorrupt, {"'embed.tokens' has a bias"});
  test::MakeStream(&model.tensors.at("embed.tokens"), 2, 1, 3);
  CheckRefused(model, StatusCode::kCorrupt, {"'embed.tokens' has a bias"});
  model = Opt();
  test::MakeStream(&model.tensors.at("embed.positions"), 2, 1, 3);
  CheckRefused(model, StatusCode::kUnsupported, {"'embed.positions' is a bitstream"});
}

TEST_CASE("model: a config that makes no sense is refused") {
  const auto refused = [](auto change, const std::string& text) {
    TestModel model = Llama();
    change(&model.config);
    CheckRefused(model, StatusCode::kCorrupt, {text});
  };
  refused([](ModelConfig* c) { c->heads = 0; }, "heads");
  refused([](ModelConfig* c) { c->kv_heads = 4; }, "kv_heads");
  refused([](ModelConfig* c) { c->head_dim = 11; }, "head_dim");
  refused([](ModelConfig* c) { c->layers = -1; }, "layers");
  refused([](ModelConfig* c) { c->vocab_size = int64_t{1} << 62; }, "vocab_size");
  refused([](ModelConfig* c) { c->eos_tokens.assign(1, 61); }, "eos_tokens");
}

TEST_CASE("model: a file without model metadata is refused") {
  const test::TemporaryFolder folder;
  auto writer = format::SdqWriter::Create(folder / "empty.sdq");
  REQUIRE(writer.ok());
  REQUIRE((*writer)->Finish(format::Metadata()).ok());
  const Status status = Model::Open(folder / "empty.sdq").status();
  INFO(status.message());
  CHECK(!status.ok());
  CHECK(status.message().find("model.architecture") != std::string::npos);
}

TEST_CASE("model: what is no .sdq file is refused") {
  const test::TemporaryFolder folder;
  CHECK(Model::Open(folder / "absent").status().code() == StatusCode::kNotFound);
  CHECK(!Model::Open(folder.path()).ok());
  test::WriteBytes(folder / "text", {'h', 'e', 'l', 'l', 'o'});
  CHECK(!Model::Open(folder / "text").ok());
}

TEST_CASE("model: bitstream embeddings and heads work") {
  TestModel model = test::RandomModel(test::OptConfig(), 3, true);
  test::MakeStream(&model.tensors.at("embed.tokens"), 2, 1, 5);
  const test::TemporaryFolder folder;
  const auto opened = test::WriteAndOpen(model, folder / "model.sdq");
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const auto session = Session::Create(**opened, {});
  REQUIRE(session.ok());
  CHECK((*session)->Append(std::vector<TokenId>{1, 52, 3}).ok());
  CHECK((*session)->logits().size() == 53);
}

}  // namespace
}  // namespace sdq
