#include <catch2/catch.hpp>
#include <cmath>

#include "converter/random_checkpoint.h"
#include "format/tensor.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

std::unique_ptr<Checkpoint> Random(const std::string& model, uint64_t seed) {
  auto opened = OpenRandomCheckpoint(test::BundledModel(model), seed);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return *std::move(opened);
}

std::vector<float> Values(const Checkpoint& checkpoint, const std::string& name) {
  std::vector<float> values;
  INFO(name);
  REQUIRE(checkpoint.Read(name, &values).ok());
  return values;
}

TEST_CASE("checkpoint: a random one has all tensors in their shapes") {
  const std::string model = GENERATE("stories-llama-5m", "stories-opt-6m");
  const auto real = Checkpoint::Open(test::BundledModel(model));
  REQUIRE(real.ok());
  const auto random = Random(model, 1);
  CHECK(random->config() == (*real)->config());
  std::vector<float> stored;
  for (const TensorShape& shape : ExpectedTensors(random->config())) {
    INFO(shape.name);
    REQUIRE((*real)->Read(shape.name, &stored).ok());
    CHECK(Values(*random, shape.name).size() == stored.size());
    CHECK(random->Has(shape.name + ".bias") == (*real)->Has(shape.name + ".bias"));
  }
  // The tokenizer of the folder, none of the config alone.
  CHECK(random->LoadTokenizer()->tokens == (*real)->LoadTokenizer()->tokens);
  const auto alone = OpenRandomCheckpoint(test::BundledModel(model) + "/config.json", 1);
  REQUIRE(alone.ok());
  CHECK((*alone)->LoadTokenizer().status().code() == StatusCode::kNotFound);
  CHECK(random->Read("nothing", &stored).code() == StatusCode::kNotFound);
}

TEST_CASE("checkpoint: random weights are nearly Gaussian and exact in f16") {
  const auto random = Random("stories-llama-5m", 7);
  const std::vector<float> values = Values(*random, "embed.tokens");
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  int inexact = 0;
  for (const float x : values) {
    sum += double(x);
    squares += double(x) * double(x);
    fourth += std::pow(double(x), 4);
    inexact += format::F16ToF32(format::F32ToF16(x)) == x ? 0 : 1;
  }
  const auto n = double(values.size());  // a million: the bounds are ten standard errors or more
  CHECK(std::abs(sum / n) < 3e-4);
  CHECK(std::sqrt(squares / n) == Approx(0.02552).epsilon(0.01));
  CHECK(fourth / n / std::pow(squares / n, 2) == Approx(2.85).epsilon(0.02));
  CHECK(inexact == 0);
  CHECK(random->StoredType("embed.tokens") == "f16");
  for (const float x : Values(*random, "final_norm.weight")) REQUIRE(x == 1.0f);
}

TEST_CASE("checkpoint: random weights depend on seed and name alone") {
  const auto one = Random("stories-opt-6m", 5);
  const auto same = Random("stories-opt-6m", 5);
  const auto other = Random("stories-opt-6m", 6);
  const std::vector<float> q = Values(*one, "layers.0.attn.q");
  Values(*same, "layers.3.ffn.up");
  CHECK(Values(*same, "layers.0.attn.q") == q);
  CHECK(Values(*other, "layers.0.attn.q") != q);
  CHECK(Values(*one, "layers.0.attn.k") != q);
  CHECK(Values(*one, "layers.1.attn.q") != q);
  // Pinned: the same on every machine, in every version.
  CHECK(std::vector<float>(q.begin(), q.begin() + 3) ==
        std::vector<float>{233.0f / 8192, 80.0f / 8192, 245.0f / 8192});
}

TEST_CASE("checkpoint: a random one needs a config.json") {
  test::TemporaryFolder folder;
  CHECK_FALSE(OpenRandomCheckpoint(folder / "config.json", 1).ok());
  CHECK_FALSE(OpenRandomCheckpoint(folder.path(), 1).ok());
  test::WriteBytes(folder / "config.json", {'{', '}'});
  CHECK(OpenRandomCheckpoint(folder / "config.json", 1).status().code() == StatusCode::kCorrupt);
}

}  // namespace
}  // namespace sdq::converter
