// The divergence of a file from the float model, against what the runtime finds with two files.
#include "converter/divergence.h"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "converter/calibration.h"
#include "converter/pipeline.h"
#include "runtime/perplexity.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

constexpr size_t kWindow = 48;

std::vector<TokenId> Tokens(size_t count) {
  std::vector<TokenId> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = TokenId((7 * i * i + 31 * i + 1) % 4096);
  return tokens;
}

void Write(const Checkpoint& checkpoint, Method method, const std::string& path) {
  ConvertOptions options;
  options.method = method;
  options.osr = 1;
  const auto report = Convert(checkpoint, options, path, {});
  INFO(report.status().message());
  REQUIRE(report.ok());
}

TEST_CASE("divergence: as the runtime finds it with a float file as reference") {
  const char* name = GENERATE("stories-llama-5m", "stories-opt-6m");
  const auto checkpoint = Checkpoint::Open(test::BundledModel(name));
  REQUIRE(checkpoint.ok());
  const test::TemporaryFolder folder;
  Write(**checkpoint, Method::kFloat, folder / "float.sdq");
  Write(**checkpoint, Method::kTrellis, folder / "model.sdq");
  const std::vector<TokenId> tokens = Tokens(10 * kWindow);
  DivergenceOptions options;
  options.window = kWindow;
  options.windows = 3;
  double last = -1;
  const auto found =
      MeasureDivergence(**checkpoint, folder / "model.sdq", tokens, options, [&](double share) {
        CHECK(share >= last);
        last = share;
        return true;
      });
  INFO(found.status().message());
  REQUIRE(found.ok());
  CHECK(found->tokens == 3 * (kWindow - 1));
  CHECK(last > 0.5);

  const auto model = Model::Open(folder / "model.sdq");
  const auto reference = Model::Open(folder / "float.sdq");
  REQUIRE(model.ok());
  REQUIRE(reference.ok());
  PerplexityOptions evaluation;
  evaluation.window = kWindow;
  const std::vector<TokenId> windows = SpreadWindows(tokens, kWindow, 3);
  const auto expected = EvaluatePerplexity(**model, (*reference).get(), windows, evaluation, {});
  REQUIRE(expected.ok());
  CHECK(expected->kl > 0.1);
  CHECK(found->kl == Approx(expected->kl).epsilon(2e-3));

  const auto none = MeasureDivergence(**checkpoint, folder / "float.sdq", tokens, options, {});
  REQUIRE(none.ok());
  CHECK(none->kl < 1e-3);
}

TEST_CASE("divergence: no text, no file, cancelled") {
  const auto checkpoint = Checkpoint::Open(test::BundledModel("stories-llama-5m"));
  REQUIRE(checkpoint.ok());
  const test::TemporaryFolder folder;
  DivergenceOptions options;
  options.window = kWindow;
  const auto code = [&](const std::vector<TokenId>& tokens, const std::string& path, bool go_on) {
    return MeasureDivergence(**checkpoint, path, tokens, options, [&](double) { return go_on; })
        .status()
        .code();
  };
  Write(**checkpoint, Method::kFloat, folder / "float.sdq");
  CHECK(code(Tokens(kWindow - 1), folder / "float.sdq", true) == StatusCode::kInvalidArgument);
  CHECK(code(Tokens(kWindow), folder / "missing.sdq", true) == StatusCode::kNotFound);
  CHECK(code(Tokens(kWindow), folder / "float.sdq", false) == StatusCode::kCancelled);
}

TEST_CASE("calibration: windows spread over a text") {
  const std::vector<TokenId> tokens = Tokens(100);
  CHECK(SpreadWindows(tokens, 10, 10) == tokens);
  CHECK(SpreadWindows(tokens, 30, 3) == tokens);
  const std::vector<TokenId> two = SpreadWindows(tokens, 10, 2);
  REQUIRE(two.size() == 20);
  CHECK(std::equal(two.begin(), two.begin() + 10, tokens.begin()));
  CHECK(std::equal(two.begin() + 10, two.end(), tokens.begin() + 50));
}

}  // namespace
}  // namespace sdq::converter
