#include "converter/report.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

namespace sdq::converter {
namespace {

std::string CalibrationText(const ConvertOptions& options) {
  if (options.calibration.empty()) return "none: plain squared error";
  return fmt::format("{}, {} tokens", options.calibration_name, options.calibration.size());
}

std::vector<std::pair<std::string, std::string>> Facts(const ConvertOptions& options) {
  std::vector<std::pair<std::string, std::string>> facts = {
      {"Method", MethodName(options.method)}, {"Alphabet", AlphabetName(options.alphabet)}};
  if (options.method == Method::kTrellis) {
    facts.emplace_back("Window", options.window == kWindowByRate
                                     ? "by rate"
                                     : fmt::format("{} samples", options.window));
    if (!options.derived) facts.emplace_back("Derived samples", "none");
    facts.emplace_back("Scales tried", fmt::format("{}", options.scale_tries));
    facts.emplace_back("Corrections",
                       fmt::format("inputs {:g}, residual {:g}", options.correction.inputs,
                                   options.correction.residual));
  } else {
    facts.emplace_back("Modulator order", fmt::format("{}", options.published.order));
    facts.emplace_back("Block", fmt::format("{} columns", options.published.block));
  }
  facts.emplace_back("Calibration", CalibrationText(options));
  facts.emplace_back("Damping", fmt::format("{:g}", options.damping));
  facts.emplace_back("Tuning", options.tuning_epochs == 0
                                   ? std::string("none")
                                   : fmt::format("{} passes", options.tuning_epochs));
  facts.emplace_back("Seed", fmt::format("{}", options.seed));
  return facts;
}

}  // namespace

ReportContent MakeReportContent(const RatePlan& plan, const ConvertOptions& options,
                                const ConvertReport& report) {
  std::map<std::string, double> predicted;
  for (size_t i = 0; i < plan.predicted_losses.size() && i < plan.rates.size(); ++i) {
    predicted[plan.rates[i].name] = plan.predicted_losses[i];
  }
  ReportContent content;
  bool complete = !report.linears.empty();
  for (const LinearReport& linear : report.linears) {
    const auto found = predicted.find(linear.name);
    complete = complete && found != predicted.end() && linear.loss.has_value() &&
               std::isfinite(*linear.loss);
    ReportLinear& entry = content.linears.emplace_back();
    entry.name = linear.name;
    entry.rows = linear.rows;
    entry.columns = linear.columns;
    entry.osr = linear.osr;
    entry.bits_per_weight = linear.bits_per_weight;
    entry.relative_error = linear.relative_error;
    if (found != predicted.end()) entry.predicted = found->second;
    entry.measured = linear.loss;
  }
  if (!complete) {
    for (ReportLinear& entry : content.linears) entry.predicted = entry.measured = std::nullopt;
  }
  content.file_bytes = report.file_bytes;
  content.bits_per_weight = report.bits_per_weight;
  content.mean_osr = report.mean_osr;
  content.facts = Facts(options);
  for (const LinearReport& table : report.tables) {
    content.facts.emplace_back(
        table.name, fmt::format("bitstream, OSR {:.4g}, {:.3f} bits per weight", table.osr,
                                table.bits_per_weight));
  }
  return content;
}

}  // namespace sdq::converter
