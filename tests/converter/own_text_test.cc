// Text that a model writes for its own calibration.
#include "converter/own_text.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <set>

#include "converter/batch_decoder.h"
#include "converter/pipeline.h"
#include "kernels/parallel.h"
#include "runtime/session.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

std::unique_ptr<Checkpoint> OpenBundled(const std::string& name) {
  auto opened = Checkpoint::Open(test::BundledModel(name));
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return *std::move(opened);
}

std::vector<TokenId> Write(const Checkpoint& checkpoint, size_t tokens, size_t window,
                           uint64_t seed = 0) {
  auto text = WriteOwnText(checkpoint, {tokens, window, seed}, nullptr);
  INFO(text.status().message());
  REQUIRE(text.ok());
  return *std::move(text);
}

TEST_CASE("own text: whole windows, each begins a document, seeded") {
  const auto checkpoint = OpenBundled("stories-llama-5m");
  const std::vector<TokenId> text = Write(*checkpoint, 200, 32);
  REQUIRE(text.size() == 224);
  for (size_t i = 0; i < text.size(); i += 32) CHECK(text[i] == checkpoint->config().bos_token);
  for (const int64_t end : checkpoint->config().eos_tokens) {
    CHECK(std::find(text.begin(), text.end(), TokenId(end)) == text.end());
  }
  CHECK(std::set<TokenId>(text.begin(), text.end()).size() > 50);
  CHECK(Write(*checkpoint, 200, 32) == text);
  CHECK(Write(*checkpoint, 200, 32, 1) != text);
}

TEST_CASE("own text: does not depend on the number of threads") {
  const auto checkpoint = OpenBundled("stories-opt-6m");
  const size_t before = kernels::Threads();
  kernels::SetThreads(1);
  const std::vector<TokenId> text = Write(*checkpoint, 96, 16);
  kernels::SetThreads(3);
  CHECK(Write(*checkpoint, 96, 16) == text);
  kernels::SetThreads(before);
}

TEST_CASE("own text: nothing is asked for, or somebody interrupts") {
  const auto checkpoint = OpenBundled("stories-llama-5m");
  CHECK(WriteOwnText(*checkpoint, {0, 32, 0}, nullptr).status().code() ==
        StatusCode::kInvalidArgument);
  CHECK(WriteOwnText(*checkpoint, {32, 0, 0}, nullptr).status().code() ==
        StatusCode::kInvalidArgument);
  size_t calls = 0;
  const auto cancelled = WriteOwnText(*checkpoint, {64, 32, 0}, [&](size_t done, size_t total) {
    CHECK(total == 32);
    CHECK(done == ++calls);
    return done < 3;
  });
  CHECK(cancelled.status().code() == StatusCode::kCancelled);
  CHECK(calls == 3);
}

// Largest difference, in units of the largest expected value.
double Distance(std::span<const float> expected, std::span<const float> found) {
  double largest = 0;
  double difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(double(expected[i])));
    difference = std::max(difference, std::abs(double(expected[i]) - double(found[i])));
  }
  return difference / largest;
}

void CheckAgainstSessions(const std::string& path) {
  INFO(path);
  const auto opened = Checkpoint::Open(path);
  REQUIRE(opened.ok());
  const Checkpoint& checkpoint = **opened;
  const test::TemporaryFolder folder;
  ConvertOptions options;
  options.method = Method::kFloat;
  REQUIRE(Convert(checkpoint, options, folder / "float.sdq", nullptr).ok());
  const auto model = Model::Open(folder / "float.sdq");
  REQUIRE(model.ok());
  // The decoder holds matrices in f16.
  const bool exact = checkpoint.StoredType("layers.0.attn.q") == "f16";
  const auto decoder = BatchDecoder::Create(checkpoint, 2, 8);
  REQUIRE(decoder.ok());
  // The second sequence starts anew after three tokens.
  const std::vector<std::vector<TokenId>> tokens = {{1, 30, 240, 77, 5, 6}, {2, 9, 100, 2, 8, 9}};
  const std::vector<std::vector<size_t>> positions = {{0, 1, 2, 3, 4, 5}, {0, 1, 2, 0, 1, 2}};
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 2; ++i) {
    auto session = Session::Create(**model, {8, 4, kernels::KvType::kF16});
    REQUIRE(session.ok());
    sessions.push_back(*std::move(session));
  }
  for (size_t step = 0; step < 6; ++step) {
    (*decoder)->Step(std::vector<TokenId>{tokens[0][step], tokens[1][step]},
                     std::vector<size_t>{positions[0][step], positions[1][step]});
    for (size_t i = 0; i < 2; ++i) {
      if (positions[i][step] == 0) sessions[i]->Truncate(0);
      REQUIRE(sessions[i]->Append(std::span(&tokens[i][step], 1)).ok());
      const auto expected = sessions[i]->logits();
      const auto found = (*decoder)->logits(i);
      INFO("step " << step << ", sequence " << i);
      if (exact) {
        CHECK(std::equal(expected.begin(), expected.end(), found.begin(), found.end()));
      } else {
        CHECK(Distance(expected, found) < 0.01);
      }
    }
  }
}

TEST_CASE("batch decoder: sequences side by side are what a session makes of each alone") {
  CheckAgainstSessions(test::BundledModel(GENERATE("stories-llama-5m", "stories-opt-6m")));
}

TEST_CASE("batch decoder: the same for every golden shape") {
  SDQ_NEEDS_SHARED(root, "golden/tiny");
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    CheckAgainstSessions(entry.path().string());
  }
}

}  // namespace
}  // namespace sdq::converter
