// Budgets: met from below, exactly counted, refused with the possible range.
#include "converter/rate_budget.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <memory>

#include "converter/file_plan.h"
#include "converter/rate_plan.h"
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
  options.window = GENERATE(8u, 10u, 12u);
  uint64_t weights = 0;
  for (const double limit : {1.31, 1.5, 2.0, 2.718, 3.5}) {
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
  for (const double limit : {2.2e6, 2345678.0, 3145728.0}) {
    const auto plan = PlanRates(
        *checkpoint, options, Request(*checkpoint, options, allocation, {Kind::kFileBytes, limit}));
    INFO(plan.status().message());
    REQUIRE(plan.ok());
    const double bytes = double(BytesOf(*checkpoint, options, plan->rates).file);
    CHECK(bytes <= limit);
    CHECK(bytes >= limit * 0.999);
  }
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
  CHECK(message(Kind::kBitsPerWeight, 5.0).find("4.05") != std::string::npos);
  const std::string small = message(Kind::kFileBytes, 1e6);
  CHECK(small.find("1000000 bytes cannot be met") != std::string::npos);
  message(Kind::kFileBytes, 1e8);
  // The limits that the message names can be met.
  std::vector<NamedRate> least, most;
  for (const TensorShape& shape : ExpectedTensors(checkpoint->config())) {
    if (!shape.is_linear) continue;
    least.push_back({shape.name, {1, 1}});
    most.push_back({shape.name, {4, 1}});
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
               RateBudget{Kind::kBitsPerWeight, 0.9}, RateBudget{Kind::kBitsPerWeight, 4.2},
               RateBudget{Kind::kMeanOsr, 0.5}, RateBudget{Kind::kFileBytes, 2.2e6},
               RateBudget{Kind::kBitsPerWeight, 1.06}, RateBudget{Kind::kMeanOsr, 4.0});
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
  options.osr = 4.5;
  CHECK(message(options, request).find("from 1 to 4") != std::string::npos);
  options.osr = 2;
  options.window = 9;
  CHECK(message(options, request).find("window of 9") != std::string::npos);
  options.window = 8;
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
