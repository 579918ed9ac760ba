// The page: the figure, all numbers, how it was made.
#include <fmt/format.h>

#include "converter/report_parts.h"
#include "converter/report_style.h"

namespace sdq::converter {
namespace {

std::string Cells(const char* element, const std::vector<std::string>& cells) {
  std::string row = "<tr>";
  for (const std::string& cell : cells) {
    row += fmt::format("<{0}>{1}</{0}>", element, XmlText(cell));
  }
  return row + "</tr>\n";
}

std::string Row(const ReportLinear& linear, bool losses) {
  std::vector<std::string> cells = {
      linear.name, fmt::format("{} \xc3\x97 {}", linear.rows, linear.columns), RateText(linear.osr),
      fmt::format("{:.3f}", linear.bits_per_weight), fmt::format("{:.5f}", linear.relative_error)};
  if (losses) {
    const double predicted = *linear.predicted, measured = *linear.measured;
    cells.push_back(LossText(predicted));
    cells.push_back(LossText(measured));
    cells.push_back(predicted > 0 ? fmt::format("{:.2f}", measured / predicted) : "");
  }
  return Cells("td", cells);
}

std::string Totals(const ReportContent& content, bool losses) {
  double weights = 0, predicted = 0, measured = 0;
  for (const ReportLinear& linear : content.linears) {
    weights += double(linear.rows) * double(linear.columns);
    predicted += linear.predicted.value_or(0);
    measured += linear.measured.value_or(0);
  }
  std::vector<std::string> cells = {"all", fmt::format("{:.0f}", weights),
                                    fmt::format("{:.4f}", content.mean_osr),
                                    fmt::format("{:.4f}", content.bits_per_weight), ""};
  if (losses) {
    cells.push_back(LossText(predicted));
    cells.push_back(LossText(measured));
    cells.push_back(predicted > 0 ? fmt::format("{:.2f}", measured / predicted) : "");
  }
  return Cells("td", cells);
}

std::string Table(const ReportContent& content) {
  bool losses = !content.linears.empty();
  for (const ReportLinear& linear : content.linears) {
    losses = losses && linear.predicted && linear.measured;
  }
  std::vector<std::string> names = {"linear", "weights", "OSR", "bits per weight",
                                    "relative error"};
  if (losses) {
    names.insert(names.end(), {"predicted loss", "measured loss", "measured / predicted"});
  }
  std::string html = "<h2>All linears</h2>\n";
  if (losses) {
    html +=
        "<p>Losses in nats per token. Predicted: what an encoder is expected to leave at this "
        "rate, "
        "weighted by how much the model\xe2\x80\x99s predictions depend on every row (Fisher "
        "information). Measured: what the encoder left, weighted alike. The KL divergence of the "
        "file is that of its predictions from the float model\xe2\x80\x99s, all errors "
        "together.</p>\n";
  }
  html += "<div class=\"scroll\"><table>\n<thead>" + Cells("th", names) + "</thead>\n<tbody>\n";
  for (const ReportLinear& linear : content.linears) html += Row(linear, losses);
  return html + "</tbody>\n<tfoot>" + Totals(content, losses) + "</tfoot>\n</table></div>\n";
}

std::string Provenance(const ReportContent& content) {
  std::string html =
      "<h2>How it was made</h2>\n<pre>" + XmlText(content.command) + "</pre>\n<dl>\n";
  const auto add = [&](const std::string& name, const std::string& value) {
    html += fmt::format("<dt>{}</dt><dd>{}</dd>\n", XmlText(name), XmlText(value));
  };
  add("File", fmt::format("{} bytes", content.file_bytes));
  if (content.target_bytes) add("Target", fmt::format("{} bytes", *content.target_bytes));
  if (content.target_bits) add("Target", fmt::format("{:g} bits per weight", *content.target_bits));
  if (content.half_precision_bytes > 0) {
    add("At 16 bits", fmt::format("{} bytes", content.half_precision_bytes));
  }
  if (content.divergence) {
    add("KL divergence of the file", fmt::format("{:.5f} nats per token, {} tokens of the text",
                                                 *content.divergence, content.divergence_tokens));
  }
  for (const auto& [name, value] : content.facts) add(name, value);
  return html + "</dl>\n";
}

}  // namespace

std::string ReportHtml(const ReportContent& content) {
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
         "<meta http-equiv=\"Content-Security-Policy\" "
         "content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>" +
         XmlText(content.title) + "</title>\n<style>\n" + kPageStyle +
         "</style>\n</head>\n<body>\n" + ReportSvg(content) + Table(content) + Provenance(content) +
         "</body>\n</html>\n";
}

}  // namespace sdq::converter
