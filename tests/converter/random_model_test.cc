#include "converter/random_model.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <string>
#include <variant>

#include "converter/random_checkpoint.h"
#include "format/mapped_file.h"
#include "format/reader.h"
#include "kernels/parallel.h"
#include "runtime/model.h"
#include "runtime/session.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

// Rows that are no multiple of a tile, samples of a row that are none of a byte.
constexpr const char* kSmallShape = R"({
  "model_type": "llama", "hidden_act": "silu", "hidden_size": 40, "intermediate_size": 72,
  "num_hidden_layers": 2, "num_attention_heads": 5, "num_key_value_heads": 1, "vocab_size": 50,
  "max_position_embeddings": 32, "tie_word_embeddings": false, "attention_bias": true})";

std::unique_ptr<Checkpoint> SmallShape(const test::TemporaryFolder& folder) {
  const std::string text = kSmallShape;
  test::WriteBytes(folder / "config.json", {text.begin(), text.end()});
  auto opened = OpenRandomCheckpoint(folder / "config.json", 3);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return *std::move(opened);
}

ConvertOptions Options(Method method, format::Alphabet alphabet) {
  ConvertOptions options;
  options.method = method;
  options.alphabet = alphabet;
  options.osr = 1.25;
  options.window = alphabet == format::Alphabet::kBinary ? 8 : 5;
  options.seed = 3;
  return options;
}

TEST_CASE("random model: every alphabet and method gives a whole file that runs") {
  const Method method = GENERATE(Method::kTrellis, Method::kPublished);
  const auto alphabet = GENERATE(format::Alphabet::kBinary, format::Alphabet::kTernaryPlanes,
                                 format::Alphabet::kTernaryPacked);
  const test::TemporaryFolder folder;
  const auto shape = SmallShape(folder);
  const std::string path = folder / "m.sdq";
  const auto report = WriteRandomModel(*shape, Options(method, alphabet), path, {});
  INFO(report.status().message());
  REQUIRE(report.ok());
  CHECK(report->linears.size() == 14);
  CHECK(report->mean_osr == Approx(1.25));

  const auto mapped = format::MappedFile::Open(path);
  REQUIRE(mapped.ok());
  CHECK(mapped->bytes().size() == report->file_bytes);
  const auto file = format::SdqFile::Parse(mapped->bytes(), path);
  REQUIRE(file.ok());
  const Status verified = file->VerifyAll();
  INFO(verified.message());
  CHECK(verified.ok());

  const auto model = Model::Open(path);
  INFO(model.status().message());
  REQUIRE(model.ok());
  auto session = Session::Create(**model, {});
  REQUIRE(session.ok());
  const std::vector<TokenId> tokens = {1, 20, 49, 7, 7, 30};
  REQUIRE((*session)->Append(tokens).ok());
  double power = 0;
  for (const float logit : (*session)->logits()) power += double(logit) * double(logit);
  CHECK(std::isfinite(power));
  CHECK(power > 1e-6);
}

TEST_CASE("random model: derived samples at low rates, unless they are not wanted") {
  const bool derived = GENERATE(true, false);
  const test::TemporaryFolder folder;
  const auto shape = SmallShape(folder);
  ConvertOptions options = Options(Method::kTrellis, format::Alphabet::kBinary);
  options.derived = derived;
  REQUIRE(WriteRandomModel(*shape, options, folder / "made_up.sdq", {}).ok());
  REQUIRE(Convert(*shape, options, folder / "encoded.sdq", {}).ok());
  for (const char* name : {"made_up.sdq", "encoded.sdq"}) {
    const auto mapped = format::MappedFile::Open(folder / name);
    REQUIRE(mapped.ok());
    const auto file = format::SdqFile::Parse(mapped->bytes(), name);
    REQUIRE(file.ok());
    size_t streams = 0;
    for (const format::TensorView& tensor : file->tensors()) {
      const auto* stream = std::get_if<format::StreamView>(&tensor);
      if (stream == nullptr) continue;
      CHECK((stream->decimator.derived != 0) == derived);
      ++streams;
    }
    CHECK(streams == 14);
    CHECK(file->metadata().Has("quantization.derived") == !derived);
  }
}

TEST_CASE("random model: the bytes of a real conversion, tensor by tensor") {
  const auto alphabet = GENERATE(format::Alphabet::kBinary, format::Alphabet::kTernaryPlanes,
                                 format::Alphabet::kTernaryPacked);
  const Method method = GENERATE(Method::kTrellis, Method::kPublished);
  const test::TemporaryFolder folder;
  const auto shape = SmallShape(folder);
  ConvertOptions options = Options(method, alphabet);
  if (method == Method::kTrellis) options.embeddings = {TableType::kStream, {3, 2}};
  REQUIRE(WriteRandomModel(*shape, options, folder / "made_up.sdq", {}).ok());
  REQUIRE(Convert(*shape, options, folder / "encoded.sdq", {}).ok());
  const auto made_up_bytes = format::MappedFile::Open(folder / "made_up.sdq");
  const auto encoded_bytes = format::MappedFile::Open(folder / "encoded.sdq");
  REQUIRE((made_up_bytes.ok() && encoded_bytes.ok()));
  const auto made_up = format::SdqFile::Parse(made_up_bytes->bytes(), "made_up");
  const auto encoded = format::SdqFile::Parse(encoded_bytes->bytes(), "encoded");
  REQUIRE((made_up.ok() && encoded.ok()));
  REQUIRE(made_up->tensors().size() == encoded->tensors().size());
  for (size_t i = 0; i < encoded->tensors().size(); ++i) {
    const format::TensorView& tensor = encoded->tensors()[i];
    const std::string name = std::visit([](const auto& view) { return view.name; }, tensor);
    INFO(name);
    const format::TensorView* twin = made_up->Find(name);
    REQUIRE(twin != nullptr);
    REQUIRE(twin->index() == tensor.index());
    const size_t twin_index = size_t(twin - made_up->tensors().data());
    const format::TensorBytes a = made_up->BytesOf(twin_index);
    const format::TensorBytes b = encoded->BytesOf(i);
    CHECK(a.data == b.data);
    CHECK(a.scales == b.scales);
    CHECK(a.means == b.means);
    CHECK(a.bias == b.bias);
  }
}

TEST_CASE("random model: bytes depend on shape, options and seed, not on threads") {
  const test::TemporaryFolder folder;
  const auto shape = SmallShape(folder);
  ConvertOptions options = Options(Method::kTrellis, format::Alphabet::kTernaryPacked);
  const size_t threads = kernels::Threads();
  kernels::SetThreads(1);
  REQUIRE(WriteRandomModel(*shape, options, folder / "one.sdq", {}).ok());
  kernels::SetThreads(3);
  REQUIRE(WriteRandomModel(*shape, options, folder / "three.sdq", {}).ok());
  kernels::SetThreads(threads);
  CHECK(test::ReadBytes(folder / "one.sdq") == test::ReadBytes(folder / "three.sdq"));
  options.seed = 4;
  REQUIRE(WriteRandomModel(*shape, options, folder / "other.sdq", {}).ok());
  CHECK(test::ReadBytes(folder / "one.sdq") != test::ReadBytes(folder / "other.sdq"));
}

TEST_CASE("random model: what cannot be written is refused and leaves no file") {
  const test::TemporaryFolder folder;
  const auto shape = SmallShape(folder);
  const std::string path = folder / "m.sdq";
  ConvertOptions options = Options(Method::kFloat, format::Alphabet::kBinary);
  CHECK(WriteRandomModel(*shape, options, path, {}).status().code() ==
        StatusCode::kInvalidArgument);
  options = Options(Method::kTrellis, format::Alphabet::kBinary);
  options.window = 3;  // no taps
  CHECK(WriteRandomModel(*shape, options, path, {}).status().code() == StatusCode::kNotFound);
  options = Options(Method::kTrellis, format::Alphabet::kBinary);
  const auto stop = [](const ConvertProgress&) { return false; };
  CHECK(WriteRandomModel(*shape, options, path, stop).status().code() == StatusCode::kCancelled);
  CHECK_FALSE(format::MappedFile::Open(path).ok());
}

}  // namespace
}  // namespace sdq::converter
