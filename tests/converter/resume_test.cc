// Interrupted conversions: what a journal keeps is not done again, and the file is the same.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "converter/finished_work.h"
#include "converter/journal.h"
#include "converter/pipeline.h"
#include "converter/random_checkpoint.h"
#include "kernels/dispatch.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

constexpr int kLayers = 3;

// Rows that are no multiple of a tile, a rotation that is not a power of two, biases.
constexpr const char* kLlama = R"({
  "model_type": "llama", "hidden_act": "silu", "hidden_size": 40, "intermediate_size": 72,
  "num_hidden_layers": 3, "num_attention_heads": 5, "num_key_value_heads": 1, "vocab_size": 50,
  "max_position_embeddings": 32, "tie_word_embeddings": true, "attention_bias": true})";
constexpr const char* kOpt = R"({
  "model_type": "opt", "activation_function": "relu", "hidden_size": 32, "ffn_dim": 64,
  "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 50,
  "max_position_embeddings": 32, "word_embed_proj_dim": 32, "do_layer_norm_before": true})";

std::unique_ptr<Checkpoint> OpenShape(const test::TemporaryFolder& folder, std::string config) {
  test::WriteBytes(folder / "config.json", {config.begin(), config.end()});
  auto opened = OpenRandomCheckpoint(folder / "config.json", 3);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return *std::move(opened);
}

ConvertOptions Options(Method method, format::Alphabet alphabet, bool calibration) {
  ConvertOptions options;
  options.method = method;
  options.alphabet = alphabet;
  options.osr = 1.5;
  options.window = alphabet == format::Alphabet::kBinary ? 8 : 5;
  options.published.block = 32;  // and a shorter last one of 40 columns
  options.damping = 0.1;
  options.calibration_window = 16;
  for (int i = 0; calibration && i < 64; ++i) options.calibration.push_back(i * 7 % 50);
  return options;
}

const std::vector<JournalSetting> kSettings = {{"--osr", "1.5"}, {"--seed", ""}};

std::unique_ptr<Journal> OpenJournal(const std::string& output, bool resume) {
  auto opened = Journal::Open(output, kSettings, resume);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return *std::move(opened);
}

// Layers that a run encoded, in the terms of its progress: "1/3", ...
struct Run {
  Status status;
  std::set<std::string> encoded;
  std::vector<LinearReport> linears;
};

// Cancels as soon as layer `last` (from 0) begins, but for -1.
Run ConvertTo(const Checkpoint& checkpoint, const ConvertOptions& options, const std::string& path,
              int last = -1) {
  Run run;
  const std::string end = "layer " + std::to_string(last + 1) + "/";
  const auto report = Convert(checkpoint, options, path, [&](const ConvertProgress& progress) {
    const size_t colon = progress.step.find(": encoding");
    if (colon != std::string::npos) run.encoded.insert(progress.step.substr(6, colon - 6));
    return last < 0 || !progress.step.starts_with(end);
  });
  run.status = report.status();
  if (report.ok()) run.linears = report->linears;
  return run;
}

bool SameReports(const std::vector<LinearReport>& a, const std::vector<LinearReport>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.name == y.name && x.osr == y.osr && x.bits_per_weight == y.bits_per_weight &&
           x.relative_error == y.relative_error && x.loss == y.loss;
  });
}

// Interrupts before every layer in turn and goes on: the bytes of an uninterrupted conversion, and
// no layer encoded twice.
void CheckEveryInterruption(const char* config, ConvertOptions options) {
  const test::TemporaryFolder folder;
  const auto checkpoint = OpenShape(folder, config);
  const std::string path = folder / "m.sdq";
  options.row_costs["layers.0.attn.q"].assign(size_t(checkpoint->config().hidden_size), 1.0);
  const Run whole = ConvertTo(*checkpoint, options, path);
  INFO(whole.status.message());
  REQUIRE(whole.status.ok());
  REQUIRE(whole.linears.at(0).loss.has_value());
  const std::vector<uint8_t> expected = test::ReadBytes(path);
  for (int last = 0; last < kLayers; ++last) {
    CAPTURE(last);
    const std::string output = folder / ("cut-" + std::to_string(last));
    auto journal = OpenJournal(output, false);
    options.journal = journal.get();
    const Run cut = ConvertTo(*checkpoint, options, output, last);
    CHECK(cut.status.code() == StatusCode::kCancelled);
    CHECK(journal->finished_layers() == size_t(last));
    journal.reset();

    journal = OpenJournal(output, true);
    options.journal = journal.get();
    const Run rest = ConvertTo(*checkpoint, options, output);
    INFO(rest.status.message());
    REQUIRE(rest.status.ok());
    CHECK(test::ReadBytes(output) == expected);
    CHECK(SameReports(rest.linears, whole.linears));
    std::set<std::string> wanted;
    for (int i = last; i < kLayers; ++i) wanted.insert(std::to_string(i + 1) + "/3");
    CHECK(rest.encoded == wanted);
  }
}

TEST_CASE("resume: the second method, with calibration and without, has the same bytes") {
  const auto alphabet = GENERATE(format::Alphabet::kBinary, format::Alphabet::kTernaryPlanes,
                                 format::Alphabet::kTernaryPacked);
  const bool calibration = GENERATE(false, true);
  CheckEveryInterruption(kLlama, Options(Method::kTrellis, alphabet, calibration));
}

TEST_CASE("resume: embeddings and head as bitstreams are kept too") {
  std::string untied = kLlama;
  const std::string tied = "\"tie_word_embeddings\": true";
  untied.replace(untied.find(tied), tied.size(), "\"tie_word_embeddings\": false");
  ConvertOptions options = Options(Method::kTrellis, format::Alphabet::kBinary, true);
  options.embeddings = {TableType::kStream, {5, 2}};
  options.head = {TableType::kStream, {3, 1}};
  CheckEveryInterruption(untied.c_str(), options);

  // A journal of tables at other rates is none of this conversion.
  const test::TemporaryFolder folder;
  const auto checkpoint = OpenShape(folder, untied);
  const std::string path = folder / "m.sdq";
  auto journal = OpenJournal(path, false);
  options.journal = journal.get();
  CHECK(ConvertTo(*checkpoint, options, path, 0).status.code() == StatusCode::kCancelled);
  CHECK(journal->Has("table embed.tokens"));
  CHECK(journal->Has("table head"));
  options.head.rate = {2, 1};
  const Run other = ConvertTo(*checkpoint, options, path);
  CHECK(other.status.code() == StatusCode::kCorrupt);
  CHECK(other.status.message().find("head is not one of this conversion") != std::string::npos);
}

TEST_CASE("resume: likewise without a tile unit, whose rounding hides what was kept rounded") {
  struct Forced {
    Forced() { kernels::ForceTarget(kernels::AvailableTargets().back()); }
    ~Forced() { kernels::ForceTarget(""); }
  } const plainest;
  CheckEveryInterruption(kLlama, Options(Method::kTrellis, format::Alphabet::kBinary, true));
}

TEST_CASE("resume: biases that calibration moved come back") {
  CheckEveryInterruption(kOpt, Options(Method::kTrellis, format::Alphabet::kBinary, true));
}

TEST_CASE("resume: the published method, with calibration and without, has the same bytes") {
  const auto alphabet = GENERATE(format::Alphabet::kBinary, format::Alphabet::kTernaryPacked);
  const bool calibration = GENERATE(false, true);
  CheckEveryInterruption(kLlama, Options(Method::kPublished, alphabet, calibration));
}

TEST_CASE("resume: tuning starts from the same layers") {
  ConvertOptions options =
      Options(GENERATE(Method::kTrellis, Method::kPublished), format::Alphabet::kBinary, true);
  options.tuning_epochs = 1;
  CheckEveryInterruption(kLlama, options);
}

// ---- journals that are not as they were left ----

struct Interrupted {
  explicit Interrupted(const test::TemporaryFolder& folder)
      : checkpoint(OpenShape(folder, kLlama)),
        options(Options(Method::kTrellis, format::Alphabet::kBinary, true)),
        output(folder / "m.sdq") {
    REQUIRE(ConvertTo(*checkpoint, options, output).status.ok());
    expected = test::ReadBytes(output);
    const auto journal = OpenJournal(output, false);
    options.journal = journal.get();
    REQUIRE(ConvertTo(*checkpoint, options, output, 2).status.code() == StatusCode::kCancelled);
    bytes = test::ReadBytes(journal->path());
    journal->Remove();
  }
  // Goes on from these bytes.
  Run Resume(const std::vector<uint8_t>& from) {
    test::WriteBytes(Journal::PathFor(output), from);
    const auto journal = OpenJournal(output, true);
    layers = journal->finished_layers();
    options.journal = journal.get();
    Run run = ConvertTo(*checkpoint, options, output);
    journal->Remove();
    return run;
  }

  std::unique_ptr<Checkpoint> checkpoint;
  ConvertOptions options;
  std::string output;
  std::vector<uint8_t> expected;  // the whole file
  std::vector<uint8_t> bytes;     // a journal of two layers
  size_t layers = 0;
};

TEST_CASE("resume: a journal that breaks off anywhere counts up to its last whole layer") {
  const test::TemporaryFolder folder;
  Interrupted work(folder);
  const JournalScan whole = ScanJournal(work.bytes);
  REQUIRE(whole.records.size() == 3);
  REQUIRE(whole.end == work.bytes.size());
  for (size_t size = 0; size < work.bytes.size(); ++size) {
    const JournalScan scan = ScanJournal(std::span(work.bytes).first(size));
    size_t wanted = 0;
    for (const JournalRecord& record : whole.records)
      wanted += record.offset + record.bytes <= size;
    if (!scan.is_journal || scan.records.size() != wanted) FAIL("cut at " << size);
  }
  const uint64_t first = whole.records[1].offset;
  for (const uint64_t size : {uint64_t{0}, uint64_t{5}, uint64_t{20}, first - 1, first + 9,
                              first + whole.records[1].bytes, uint64_t{work.bytes.size() - 1}}) {
    CAPTURE(size);
    std::vector<uint8_t> cut(work.bytes.begin(), work.bytes.begin() + std::ptrdiff_t(size));
    const Run run = work.Resume(cut);
    INFO(run.status.message());
    REQUIRE(run.status.ok());
    CHECK(run.encoded.size() == kLayers - work.layers);
    CHECK(test::ReadBytes(work.output) == work.expected);
  }
}

TEST_CASE("resume: a flipped bit costs the layers from there on, never the result") {
  const test::TemporaryFolder folder;
  Interrupted work(folder);
  for (size_t at = 8; at < work.bytes.size(); ++at) {
    std::vector<uint8_t> flipped = work.bytes;
    flipped[at] ^= uint8_t(1u << at % 8);
    if (ScanJournal(flipped).records.size() >= 3) FAIL("unnoticed at " << at);
  }
  const JournalScan whole = ScanJournal(work.bytes);
  std::vector<uint8_t> flipped = work.bytes;
  flipped[size_t(whole.records[2].offset) + 100] ^= 1;
  const Run run = work.Resume(flipped);
  CHECK(work.layers == 1);
  REQUIRE(run.status.ok());
  CHECK(test::ReadBytes(work.output) == work.expected);
}

TEST_CASE("resume: a record that is no layer of this conversion is refused") {
  const test::TemporaryFolder folder;
  Interrupted work(folder);
  const JournalScan whole = ScanJournal(work.bytes);
  const JournalRecord& record = whole.records[1];
  const auto payload = std::span(work.bytes).subspan(size_t(record.offset), size_t(record.bytes));
  const auto refused = [&](std::span<const uint8_t> bytes) {
    const auto journal = OpenJournal(work.output, false);
    REQUIRE(journal->Append(Journal::LayerKey(0), bytes).ok());
    work.options.journal = journal.get();
    const Status status = ConvertTo(*work.checkpoint, work.options, work.output).status;
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(status.message().find(journal->path()) != std::string::npos);
    journal->Remove();
  };
  SECTION("nothing") { refused({}); }
  SECTION("noise") { refused(std::vector<uint8_t>(1000, 0xa5)); }
  SECTION("cut short") { refused(payload.first(payload.size() - 70)); }
  SECTION("another layer") {
    const JournalRecord& other = whole.records[2];
    refused(std::span(work.bytes).subspan(size_t(other.offset), size_t(other.bytes)));
  }
  SECTION("another rate") {
    work.options.osr = 2;
    refused(payload);
  }
}

TEST_CASE("resume: decoding any change of a layer's bytes gives a legal layer or an error") {
  const test::TemporaryFolder folder;
  Interrupted work(folder);
  const JournalScan whole = ScanJournal(work.bytes);
  const JournalRecord& record = whole.records[1];
  const std::vector<uint8_t> bytes(
      work.bytes.begin() + std::ptrdiff_t(record.offset),
      work.bytes.begin() + std::ptrdiff_t(record.offset + record.bytes));
  size_t refused = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::vector<uint8_t> changed = bytes;
    changed[at] = uint8_t(changed[at] + 1 + at % 255);
    const auto decoded = DecodeFinished(changed);
    if (!decoded.ok()) {
      ++refused;
      continue;
    }
    for (const FinishedLinear& linear : *decoded) {
      format::StreamView view = linear.encoded.View(linear.name);
      view.bias = linear.bias;
      if (!format::ValidateView(view).ok()) FAIL("byte " << at);
    }
  }
  CHECK(refused > 100);
}

// ---- opening ----

TEST_CASE("journal: records come back, each key once; settings that differ are named") {
  const test::TemporaryFolder folder;
  const std::string output = folder / "m.sdq";
  const std::vector<uint8_t> text = {1, 2, 3};
  {
    const auto journal = OpenJournal(output, true);  // nothing to go on from: begins
    CHECK(journal->empty());
    REQUIRE(journal->Append("text", text).ok());
    CHECK(journal->Append("text", text).code() == StatusCode::kInvalidArgument);
    CHECK(journal->Append("", text).code() == StatusCode::kInvalidArgument);
    REQUIRE(journal->Append(Journal::LayerKey(0), {}).ok());
    const auto second = Journal::Open(output, kSettings, true);
    CHECK(second.status().message().find("in use") != std::string::npos);
  }
  {
    const auto journal = OpenJournal(output, true);
    CHECK_FALSE(journal->empty());
    CHECK(journal->finished_layers() == 1);
    const auto read = journal->Read("text");
    REQUIRE(read.ok());
    CHECK(*read == text);
    CHECK(journal->Read("other").status().code() == StatusCode::kNotFound);
  }
  const auto message = [&](const std::vector<JournalSetting>& settings, bool resume) {
    return Journal::Open(output, settings, resume).status().message();
  };
  const auto contains = [](const std::string& part) { return Catch::Matchers::Contains(part); };
  CHECK_THAT(message({{"--osr", "2"}}, true), contains("--osr was '1.5', now it is '2'"));
  CHECK_THAT(message({{"--osr", "1.5"}, {"--seed", "4"}}, true),
             contains("--seed was not given, now it is '4'"));
  CHECK_THAT(message({}, true), contains("--osr was '1.5', now it is not given"));
  CHECK_THAT(message({{"--osr", "1.5"}, {"--new", "x"}}, true), contains("--new was not given"));
  CHECK_THAT(message(kSettings, false), contains("1 finished layer "));
  CHECK(OpenJournal(output, true)->finished_layers() == 1);  // none of them harmed it
  OpenJournal(output, true)->Remove();
  CHECK_FALSE(OpenJournal(output, true)->Has("text"));
}

TEST_CASE("journal: without finished layers another conversion begins anew") {
  const test::TemporaryFolder folder;
  const std::string output = folder / "m.sdq";
  REQUIRE(OpenJournal(output, false)->Append("text", {}).ok());
  const std::vector<JournalSetting> other = {{"--osr", "2"}};
  const auto journal = Journal::Open(output, other, false);
  REQUIRE(journal.ok());
  CHECK((*journal)->empty());
}

TEST_CASE("journal: other files of that name are left alone; outputs that cannot be are refused") {
  const test::TemporaryFolder folder;
  const std::string output = folder / "m.sdq";
  const std::vector<uint8_t> foreign = {'m', 'i', 'n', 'e'};
  test::WriteBytes(Journal::PathFor(output), foreign);
  for (const bool resume : {false, true}) {
    CHECK_THAT(Journal::Open(output, kSettings, resume).status().message(),
               Catch::Matchers::Contains("in the way"));
  }
  CHECK(test::ReadBytes(Journal::PathFor(output)) == foreign);
  CHECK_THAT(Journal::Open(folder.path(), kSettings, false).status().message(),
             Catch::Matchers::Contains("is a directory"));
  CHECK_FALSE(Journal::Open(folder / "missing/m.sdq", kSettings, false).ok());
}

TEST_CASE("journal: calibration text and sensitivities come back, damaged ones do not") {
  const std::vector<TokenId> tokens = {5, 0, 49, 7};
  const std::vector<uint8_t> encoded = EncodeTokens(tokens);
  CHECK(*DecodeTokens(encoded) == tokens);
  for (size_t size = 0; size < encoded.size(); ++size) {
    CHECK(DecodeTokens(std::span(encoded).first(size)).status().code() == StatusCode::kCorrupt);
  }
  std::vector<uint8_t> many = encoded;
  many[7] = 0x40;  // a count that no memory holds
  CHECK(DecodeTokens(many).status().code() == StatusCode::kCorrupt);

  const std::vector<Sensitivity> sensitivities = {{"layers.0.attn.q", {0.5, 0.25}, {1, 2, 3}},
                                                  {"layers.0.attn.k", {}, {}}};
  const std::vector<uint8_t> bytes = EncodeSensitivities(sensitivities);
  const auto decoded = DecodeSensitivities(bytes);
  REQUIRE(decoded.ok());
  REQUIRE(decoded->size() == 2);
  CHECK((*decoded)[0].name == "layers.0.attn.q");
  CHECK((*decoded)[0].losses == std::vector<double>{0.5, 0.25});
  CHECK((*decoded)[0].row_costs == std::vector<double>{1, 2, 3});
  CHECK((*decoded)[1].losses.empty());
  CHECK(DecodeSensitivities(std::span(bytes).first(bytes.size() - 1)).status().code() ==
        StatusCode::kCorrupt);
}

TEST_CASE("journal: sensitivities of tables come back, damaged ones do not") {
  const std::vector<TableSensitivity> tables = {{"embed.tokens", {1, 2, 2, 4}, {0.5, 0.25}, 0.125},
                                                {"head", {}, {}, 0}};
  const std::vector<uint8_t> bytes = EncodeTableSensitivities(tables);
  const auto decoded = DecodeTableSensitivities(bytes);
  REQUIRE(decoded.ok());
  REQUIRE(decoded->size() == 2);
  CHECK((*decoded)[0].name == "embed.tokens");
  CHECK((*decoded)[0].hessian == std::vector<double>{1, 2, 2, 4});
  CHECK((*decoded)[0].losses == std::vector<double>{0.5, 0.25});
  CHECK((*decoded)[0].eight_bit_loss == 0.125);
  CHECK((*decoded)[1].name == "head");
  CHECK(DecodeTableSensitivities(std::span(bytes).first(bytes.size() - 1)).status().code() ==
        StatusCode::kCorrupt);
  std::vector<TableSensitivity> infinite = tables;
  infinite[0].hessian[2] = INFINITY;
  CHECK(DecodeTableSensitivities(EncodeTableSensitivities(infinite)).status().code() ==
        StatusCode::kCorrupt);
}

}  // namespace
}  // namespace sdq::converter
