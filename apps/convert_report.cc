#include "apps/convert_report.h"

#include <filesystem>
#include <utility>

#include "apps/support/app.h"
#include "converter/divergence.h"
#include "converter/file_plan.h"
#include "fmt/format.h"

namespace sdq::apps {
namespace {

std::string NameOf(const std::string& path) {
  const auto normal = std::filesystem::path(path).lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).filename().string();
}

// shared: embeddings have a share in the budget, which the totals of the linears do not show.
void SetTarget(const std::optional<converter::RateBudget>& budget, bool shared,
               converter::ReportContent* content) {
  using Kind = converter::RateBudget::Kind;
  if (!budget) return;
  if (budget->kind == Kind::kFileBytes) content->target_bytes = uint64_t(budget->limit);
  if (budget->kind != Kind::kBitsPerWeight) return;
  if (shared) {
    content->facts.emplace_back(
        "Target", fmt::format("{:g} bits per weight, embeddings counted", budget->limit));
  } else {
    content->target_bits = budget->limit;
  }
}

Result<converter::Divergence> Compare(const converter::Checkpoint& checkpoint,
                                      const converter::ConvertOptions& options,
                                      const ReportRequest& request) {
  converter::DivergenceOptions divergence;
  divergence.window = options.calibration_window;
  ProgressLine progress(!request.quiet);
  auto measured = converter::MeasureDivergence(
      checkpoint, request.output, options.calibration, divergence, [&](double share) {
        progress.Update("comparing with the float model", share);
        return !Interrupted();
      });
  progress.Finish();
  return measured;
}

}  // namespace

Status WriteReport(const converter::Checkpoint& checkpoint,
                   const converter::ConvertOptions& options, const converter::RatePlan& plan,
                   const converter::ConvertReport& report, const ReportRequest& request,
                   converter::ReportFile* file) {
  converter::ReportContent content = converter::MakeReportContent(plan, options, report);
  const std::string rates = request.allocation + (request.overrides ? ", with exceptions" : "");
  content.title = NameOf(request.checkpoint);
  content.subtitle = fmt::format(
      "method {}, {} samples; rates: {}; calibration: {}", converter::MethodName(options.method),
      converter::AlphabetName(options.alphabet), rates,
      options.calibration.empty()
          ? std::string("none")
          : fmt::format("{}, {} tokens", options.calibration_name, options.calibration.size()));
  content.half_precision_bytes = converter::FilePlan::HalfPrecisionBytes(checkpoint);
  SetTarget(request.budget, !plan.tables.empty(), &content);
  content.facts.emplace_back("Rates", rates);
  content.facts.emplace_back("Embeddings and head", request.embeddings);
  content.command = request.command;
  if (!options.calibration.empty()) {
    SDQ_ASSIGN_OR_RETURN(const converter::Divergence divergence,
                         Compare(checkpoint, options, request));
    content.divergence = divergence.kl;
    content.divergence_tokens = divergence.tokens;
  }
  return file->Write(content);
}

}  // namespace sdq::apps
