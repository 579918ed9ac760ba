// Budgets: met from below, exactly counted, refused with the possible range.
#include "converter/rate_budget.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <memory>

#include "converter/file_plan.h"
#include "converter/random_checkpoint.h"
#include "converter/rate_plan.h"
#include "converter/stored_shape.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

using Kind = RateBudget::Kind;

std::unique_ptr<Checkpoint> Bundled(const std::string& name) {
  auto opened = Checkpoint::Open(test::BundledModel(name));
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return *std::move(opened);
}

// Made-up losses that differ widely between linears.
std::vector<Sensitivity> MadeUp(const Checkpoint& checkpoint, const ConvertOptions& options) {
  std::vector<Sensitivity> sensitivities;
  for (const TensorShape& shape : ExpectedTensors(checkpoint.config())) {
    if (!shape.is_linear) continue;
    Sensitivity& s = sensitivities.emplace_back(Sensitivity{shape.name, {}, {}});
    const double scale = std::exp(std::sin(3.0 * double(sensitivities.size())));
    for (const Rate rate : CandidateRates(options)) {
      s.losses.push_back(scale * ExpectedError(options, rate));
    }
  }
  return sensitivities;
}

RateRequest Request(const Checkpoint& checkpoint, const ConvertOptions& options,
                    Allocation allocation, RateBudget budget) {
  RateRequest request;
  request.allocation = allocation;
  request.budget = budget;
  if (allocation == Allocation::kSensitivity) {
    request.sensitivities = MadeUp(checkpoint, options);
  }
  return request;
}

FilePlan::Bytes BytesOf(const Checkpoint& checkpoint, const ConvertOptions& options,
                        const std::vector<NamedRate>& rates) {
  const auto plan = FilePlan::Create(checkpoint, options);
  REQUIRE(plan.ok());
  const auto bytes = plan->BytesOf(rates);
  REQUIRE(bytes.ok());
  return *bytes;
}

TEST_CASE("rate budget: the file has exactly the bytes that were planned") {
  const auto model = GENERATE("stories-llama-5m", "stories-opt-6m");
  const auto method = GENERATE(Method::kTrellis, Method::kPublished);
  const auto checkpoint = Bundled(model);
  ConvertOptions options;
  options.method = method;
  options.published.grid_search = false;
  if (method == Method::kPublished) options.alphabet = format::Alphabet::kTernaryPacked;
  const RateBudget budget = {Kind::kFileBytes, method == Method::kTrellis ? 2.3e6 : 2.9e6};
  const auto plan = PlanRates(*checkpoint, options,
                              Request(*checkpoint, options, Allocation::kSensitivity, budget));
  INFO(plan.status().message());
  REQUIRE(plan.ok());
  options.rates = plan->rates;
  const FilePlan::Bytes planned = BytesOf(*checkpoint, options, plan->rates);
  CHECK(double(planned.file) <= budget.limit);
  CHECK(double(planned.file) >= budget.limit * 0.999);
  const test::TemporaryFolder folder;
  const auto report = Convert(*checkpoint, options, folder / "model.sdq", {});
  INFO(report.status().message());
  REQUIRE(report.ok());
  CHECK(report->file_bytes == planned.file);
  CHECK(std::filesystem::file_size(folder / "model.sdq") == planned.file);
  uint64_t weights = 0;
  for (const AllocationItem& item : plan->items) weights += item.weights;
  CHECK(report->bits_per_weight * double(weights) / 8 == Approx(double(planned.streams)));
}

TEST_CASE("rate budget: within a thousandth below the target, for any allocation") {
  const auto model = GENERATE("stories-llama-5m", "stories-opt-6m");
  const auto allocation =
      GENERATE(Allocation::kUniform, Allocation::kSigma, Allocation::kSensitivity);
  const auto checkpoint = Bundled(model);
  ConvertOptions options;
  options.window = GENERATE(as<uint32_t>{}, kWindowByRate, 8, 10, 12);
  const bool high = options.window == kWindowByRate;
  uint64_t weights = 0;
  for (const double limit : {1.31, 1.5, 2.0, 2.718, 3.5, 4.4, 5.3, 5.95}) {
    if (limit > 4 && !high) continue;
    const auto plan =
        PlanRates(*checkpoint, options,
                  Request(*checkpoint, options, allocation, {Kind::kBitsPerWeight, limit}));
    INFO(plan.status().message());
    REQUIRE(plan.ok());
    weights = 0;
    for (const AllocationItem& item : plan->items) weights += item.weights;
    const FilePlan::Bytes bytes = BytesOf(*checkpoint, options, plan->rates);
    const double bits = 8 * double(bytes.streams) / double(weights);
    CHECK(bits <= limit);
    CHECK(bits >= limit * 0.999);
  }
  for (const double limit : {2.2e6, 2345678.0, 3145728.0, 3.8e6, 4.4e6}) {
    if (limit > 3.4e6 && !high) continue;
    const auto plan = PlanRates(
        *checkpoint, options, Request(*checkpoint, options, allocation, {Kind::kFileBytes, limit}));
    INFO(plan.status().message());
    REQUIRE(plan.ok());
    const double bytes = double(BytesOf(*checkpoint, options, plan->rates).file);
    CHECK(bytes <= limit);
    CHECK(bytes >= limit * 0.999);
  }
}

// Losses as those of the model's linears together.
TableSensitivity MadeUpTable(const ConvertOptions& options, const std::string& name, double scale) {
  TableSensitivity table;
  table.name = name;
  for (const Rate rate : CandidateRates(options)) {
    table.losses.push_back(scale * ExpectedError(options, rate));
  }
  table.eight_bit_loss = scale * 1e-5;
  return table;
}

// A random model most of whose weights are embeddings, described by a file at `path`.
auto LargeTables(const std::string& path, bool tied) {
  const std::string text = R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 160,
      "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
      "vocab_size": 2000, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
      "rope_theta": 10000.0, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
      "tie_word_embeddings": )" +
                           std::string(tied ? "true}" : "false}");
  test::WriteBytes(path, std::vector<uint8_t>(text.begin(), text.end()));
  return OpenRandomCheckpoint(path, 1);
}

TEST_CASE("rate budget: embeddings and head share it, to the byte") {
  const test::TemporaryFolder folder;
  auto opened = LargeTables(folder / "config.json", false);
  REQUIRE(opened.ok());
  const Checkpoint& checkpoint = **opened;
  ConvertOptions options;
  RateRequest request = Request(checkpoint, options, Allocation::kSensitivity, {});
  request.shared_tables = {"embed.tokens", "head"};
  request.tables = {MadeUpTable(options, "embed.tokens", 5), MadeUpTable(options, "head", 40)};
  bool some_stream = false, some_eight_bits = false;
  for (const double limit : {110e3, 160e3, 210e3, 279.3e3, 335e3}) {
    INFO(limit);
    request.budget = {Kind::kFileBytes, limit};
    REQUIRE(CheckRequest(checkpoint, options, request).ok());
    const auto plan = PlanRates(checkpoint, options, request);
    INFO(plan.status().message());
    REQUIRE(plan.ok());
    REQUIRE(plan->tables.size() == 2);
    REQUIRE(plan->rates.size() == plan->items.size());
    CHECK(plan->tables[0].name == "embed.tokens");
    CHECK(plan->tables[1].name == "head");
    options.rates = plan->rates;
    options.embeddings = plan->tables[0].storage;
    options.head = plan->tables[1].storage;
    for (const TablePlan& table : plan->tables) {
      some_stream |= table.storage.type == TableType::kStream;
      some_eight_bits |= table.storage.type == TableType::kQ8;
      CHECK(table.predicted_loss > 0);
    }
    // What matters more gets more.
    const auto rank = [](const TableStorage& table) {
      return table.type == TableType::kQ8 ? 8.0 : table.rate.osr();
    };
    CHECK(rank(options.head) >= rank(options.embeddings));
    const uint64_t planned = BytesOf(checkpoint, options, plan->rates).file;
    CHECK(double(planned) <= limit);
    CHECK(double(planned) >= 0.999 * limit);
    const auto report = Convert(checkpoint, options, folder / "model.sdq", {});
    INFO(report.status().message());
    REQUIRE(report.ok());
    CHECK(report->file_bytes == planned);
    CHECK(std::filesystem::file_size(folder / "model.sdq") == planned);
    CHECK(report->linears.size() == plan->items.size());
  }
  CHECK(some_stream);
  CHECK(some_eight_bits);

  // Bits per weight count what shares them.
  request.budget = {Kind::kBitsPerWeight, 2.25};
  const auto plan = PlanRates(checkpoint, options, request);
  REQUIRE(plan.ok());
  double bytes = double(BytesOf(checkpoint, options, plan->rates).streams);
  double weights = 0;
  for (const AllocationItem& item : plan->items) weights += double(item.weights);
  for (const TablePlan& table : plan->tables) {
    REQUIRE(table.storage.type == TableType::kStream);
    const auto shape = DescribeStream(options, 64, table.storage.rate);
    REQUIRE(shape.ok());
    bytes +=
        double(format::BitstreamBytes(shape->decimator, options.alphabet, 2000, 64)) + 2 * 2000;
    weights += 2000 * 64;
  }
  CHECK(8 * bytes / weights <= 2.25);
  CHECK(8 * bytes / weights >= 0.999 * 2.25);
}

// Least loss alone would stop where every stream has the highest rate.
TEST_CASE("rate budget: a large table in rows leaves no gap below the largest file") {
  const test::TemporaryFolder folder;
  auto opened = LargeTables(folder / "config.json", GENERATE(false, true));
  REQUIRE(opened.ok());
  const Checkpoint& checkpoint = **opened;
  ConvertOptions options;
  RateRequest request = Request(checkpoint, options, Allocation::kSensitivity, {});
  request.tables = {MadeUpTable(options, "embed.tokens", 5)};
  if (!checkpoint.config().tied_embeddings) {
    request.tables.push_back(MadeUpTable(options, "head", 40));
  }
  for (TableSensitivity& table : request.tables) {
    request.shared_tables.push_back(table.name);
    table.eight_bit_loss = 0.999 * table.losses.back();
  }
  const auto planned = [&](double limit) {
    INFO(limit);
    request.budget = {Kind::kFileBytes, limit};
    const auto plan = PlanRates(checkpoint, options, request);
    INFO(plan.status().message());
    REQUIRE(plan.ok());
    ConvertOptions chosen = options;
    chosen.embeddings = plan->tables[0].storage;
    if (plan->tables.size() > 1) chosen.head = plan->tables[1].storage;
    return double(BytesOf(checkpoint, chosen, plan->rates).file);
  };
  const auto refused = [&](double limit) {
    request.budget = {Kind::kFileBytes, limit};
    return !CheckRequest(checkpoint, options, request).ok();
  };
  double most = 150e3;
  while (!refused(most * 1.001)) most *= 1.001;
  for (double limit = 0.6 * most; limit < most; limit *= 1.013) {
    const double bytes = planned(limit);
    CHECK(bytes <= limit);
    CHECK(bytes >= 0.999 * limit);
  }
}

TEST_CASE("rate budget: a table of a given rate is counted, with decimators that linears share") {
  const auto checkpoint = Bundled("stories-llama-5m");
  ConvertOptions options;
  options.embeddings = {TableType::kStream, {3, 1}};
  const RateBudget budget = {Kind::kFileBytes, 2e6};
  const auto plan = PlanRates(*checkpoint, options,
                              Request(*checkpoint, options, Allocation::kSensitivity, budget));
  INFO(plan.status().message());
  REQUIRE(plan.ok());
  CHECK(plan->tables.empty());
  const double bytes = double(BytesOf(*checkpoint, options, plan->rates).file);
  CHECK(bytes <= budget.limit);
  CHECK(bytes >= 0.999 * budget.limit);
}

TEST_CASE("rate budget: tables that cannot share or be streams are refused at once") {
  const auto checkpoint = Bundled("stories-llama-5m");
  const auto refused = [&](const ConvertOptions& options, const RateRequest& request) {
    for (const Status& status : {CheckRequest(*checkpoint, options, request),
                                 PlanRates(*checkpoint, options, request).status()}) {
      INFO(status.message());
      CHECK(status.code() == StatusCode::kInvalidArgument);
      CHECK(status.message().find("embed.tokens") != std::string::npos);
    }
  };
  ConvertOptions options;
  const RateBudget budget = {Kind::kFileBytes, 2e6};
  RateRequest request = Request(*checkpoint, options, Allocation::kUniform, budget);
  request.shared_tables = {"embed.tokens"};
  refused(options, request);  // by no measure
  request = Request(*checkpoint, options, Allocation::kSensitivity, budget);
  request.shared_tables = {"embed.tokens"};
  request.budget = {Kind::kMeanOsr, 2.0};
  refused(options, request);  // 8 bits are no OSR
  options.embeddings = {TableType::kStream, {21, 10}};
  refused(options, Request(*checkpoint, options, Allocation::kUniform, budget));  // no such taps
  options.embeddings.rate = {2, 1};
  options.method = Method::kPublished;
  refused(options, Request(*checkpoint, options, Allocation::kUniform, budget));
  const test::TemporaryFolder folder;
  const auto report = Convert(*checkpoint, options, folder / "model.sdq", {});
  CHECK(report.status().code() == StatusCode::kInvalidArgument);
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("rate budget: by sensitivity less is lost than by any one rate") {
  const auto checkpoint = Bundled("stories-llama-5m");
  ConvertOptions options;
  const std::vector<Sensitivity> sensitivities = MadeUp(*checkpoint, options);
  for (const double osr : {1.5, 2.0, 3.0}) {
    options.osr = osr;
    RateRequest request;
    request.allocation = Allocation::kSensitivity;
    request.sensitivities = sensitivities;
    const auto plan = PlanRates(*checkpoint, options, request);
    REQUIRE(plan.ok());
    CHECK(plan->mean_osr <= osr + 1e-12);
    CHECK(plan->mean_osr >= 0.999 * osr);
    request.allocation = Allocation::kUniform;
    const auto uniform = PlanRates(*checkpoint, options, request);
    REQUIRE(uniform.ok());
    double loss = 0, uniform_loss = 0;
    for (const double l : plan->predicted_losses) loss += l;
    for (const double l : uniform->predicted_losses) uniform_loss += l;
    CHECK(loss < 0.9 * uniform_loss);
    CHECK(uniform_loss > 0);
  }
}

TEST_CASE("rate budget: uniform means neighbouring rates, sigma keeps its order") {
  const auto checkpoint = Bundled("stories-llama-5m");
  ConvertOptions options;
  const RateBudget budget = {Kind::kBitsPerWeight, 2.1};
  const auto uniform =
      PlanRates(*checkpoint, options, Request(*checkpoint, options, Allocation::kUniform, budget));
  REQUIRE(uniform.ok());
  for (const NamedRate& named : uniform->rates) {
    CHECK(named.rate.osr() >= 1.9);
    CHECK(named.rate.osr() <= 2.2);
  }
  const auto sigma =
      PlanRates(*checkpoint, options, Request(*checkpoint, options, Allocation::kSigma, budget));
  REQUIRE(sigma.ok());
  for (size_t i = 0; i < sigma->items.size(); ++i) {
    for (size_t j = 0; j < sigma->items.size(); ++j) {
      const bool much_smaller = sigma->items[i].sigma < 0.8 * sigma->items[j].sigma;
      if (!much_smaller || sigma->items[i].layer != sigma->items[j].layer) continue;
      CHECK(sigma->rates[i].rate.osr() >= sigma->rates[j].rate.osr());
    }
  }
}

TEST_CASE("rate budget: overridden linears keep their rates, the others make up for it") {
  const auto checkpoint = Bundled("stories-llama-5m");
  ConvertOptions options;
  const RateBudget budget = {Kind::kFileBytes, 2.1e6};
  RateRequest request = Request(*checkpoint, options, Allocation::kSensitivity, budget);
  request.overrides = "layers.0.* 4\nlayers.5.ffn.* 1\n";
  const auto plan = PlanRates(*checkpoint, options, request);
  REQUIRE(plan.ok());
  for (const NamedRate& named : plan->rates) {
    if (named.name.starts_with("layers.0.")) CHECK(named.rate.osr() == 4);
    if (named.name.starts_with("layers.5.ffn.")) CHECK(named.rate.osr() == 1);
  }
  const double bytes = double(BytesOf(*checkpoint, options, plan->rates).file);
  CHECK(bytes <= budget.limit);
  CHECK(bytes >= 0.999 * budget.limit);
}

TEST_CASE("rate budget: what cannot be met is refused with what can") {
  const auto checkpoint = Bundled("stories-llama-5m");
  const ConvertOptions options;
  const auto message = [&](Kind kind, double limit) {
    const auto plan = PlanRates(*checkpoint, options,
                                Request(*checkpoint, options, Allocation::kUniform, {kind, limit}));
    REQUIRE_FALSE(plan.ok());
    CHECK(plan.status().code() == StatusCode::kOutOfRange);
    return plan.status().message();
  };
  CHECK(message(Kind::kBitsPerWeight, 0.9).find("1.05") != std::string::npos);
  CHECK(message(Kind::kBitsPerWeight, 7.0).find("6.05") != std::string::npos);
  const std::string small = message(Kind::kFileBytes, 1e6);
  CHECK(small.find("1000000 bytes cannot be met") != std::string::npos);
  message(Kind::kFileBytes, 1e8);
  // The limits that the message names can be met.
  std::vector<NamedRate> least, most;
  for (const TensorShape& shape : ExpectedTensors(checkpoint->config())) {
    if (!shape.is_linear) continue;
    least.push_back({shape.name, {1, 1}});
    most.push_back({shape.name, {6, 1}});
  }
  for (const auto& rates : {least, most}) {
    const uint64_t bytes = BytesOf(*checkpoint, options, rates).file;
    CHECK(small.find(std::to_string(bytes)) != std::string::npos);
    CHECK(PlanRates(*checkpoint, options,
                    Request(*checkpoint, options, Allocation::kUniform,
                            {Kind::kFileBytes, double(bytes)}))
              .ok());
  }
  RateRequest request;
  request.allocation = Allocation::kSensitivity;
  CHECK(PlanRates(*checkpoint, options, request).status().message().find("calibration") !=
        std::string::npos);
}

TEST_CASE("rate budget: the same refusals before there is text or a sensitivity") {
  const auto checkpoint = Bundled("stories-llama-5m");
  ConvertOptions early;
  early.calibration_name = "text.txt";
  ConvertOptions late = early;
  late.calibration.assign(1000, 1);
  const auto allocation =
      GENERATE(Allocation::kUniform, Allocation::kSigma, Allocation::kSensitivity);
  const RateBudget budget =
      GENERATE(RateBudget{Kind::kFileBytes, 1e6}, RateBudget{Kind::kFileBytes, 1e8},
               RateBudget{Kind::kBitsPerWeight, 0.9}, RateBudget{Kind::kBitsPerWeight, 6.2},
               RateBudget{Kind::kMeanOsr, 0.5}, RateBudget{Kind::kFileBytes, 2.2e6},
               RateBudget{Kind::kBitsPerWeight, 1.06}, RateBudget{Kind::kMeanOsr, 6.0});
  RateRequest request;
  request.allocation = allocation;
  request.budget = budget;
  const Status refused = CheckRequest(*checkpoint, early, request);
  const auto plan = PlanRates(*checkpoint, late, Request(*checkpoint, late, allocation, budget));
  CHECK(refused.code() == plan.status().code());
  CHECK(refused.message() == plan.status().message());
}

TEST_CASE("rate budget: rates that do not exist are refused early too") {
  const auto checkpoint = Bundled("stories-llama-5m");
  const auto message = [&](const ConvertOptions& options, const RateRequest& request) {
    return CheckRequest(*checkpoint, options, request).message();
  };
  ConvertOptions options;
  RateRequest request;
  CHECK(message(options, request).empty());
  options.osr = 6.5;
  CHECK(message(options, request).find("from 1 to 6") != std::string::npos);
  options.osr = 4.5;
  CHECK(message(options, request).empty());
  options.window = 8;
  CHECK(message(options, request).find("from 1 to 4") != std::string::npos);
  options.osr = 2;
  options.window = 9;
  CHECK(message(options, request).find("window of 9") != std::string::npos);
  options.window = kWindowByRate;
  request.overrides = "layers.9.* 2\n";
  CHECK(message(options, request).find("line 1") != std::string::npos);
  request.overrides = "layers.0.* 7\n";
  CHECK(message(options, request).find("7/1") != std::string::npos);
  // What is fixed narrows what a file can be.
  request.overrides = "layers.* 4\n";
  request.budget = {Kind::kFileBytes, 2.2e6};
  CHECK(message(options, request).find("cannot be met") != std::string::npos);
}

TEST_CASE("rate budget: sizes as people write them") {
  CHECK(*ParseTargetSize("1500000", 0) == 1500000);
  CHECK(*ParseTargetSize("1500000B", 0) == 1500000);
  CHECK(*ParseTargetSize("3KiB", 0) == 3072);
  CHECK(*ParseTargetSize("1.5MiB", 0) == 1572864);
  CHECK(*ParseTargetSize("2GiB", 0) == 2147483648);
  CHECK(*ParseTargetSize("12.5%", 1000) == 125);
  for (const char* text :
       {"", "x", "12 %", "-5", "0", "nan", "inf", "1e99", "5MB", "5%%", "%", "1MiBx", "0.1"}) {
    INFO(text);
    CHECK(ParseTargetSize(text, 1000).status().code() == StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace sdq::converter
