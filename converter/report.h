// What a conversion did, for people: which linear got which rate, what that was predicted to cost
// and what it cost, as a figure (SVG) or as a page around it (HTML).
//
// Neither needs scripts, fonts or anything else from elsewhere; both follow the viewer's light or
// dark mode. The same content gives the same bytes.
#ifndef SDQ_CONVERTER_REPORT_H_
#define SDQ_CONVERTER_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "converter/pipeline.h"
#include "converter/rate_plan.h"

namespace sdq::converter {

struct ReportLinear {
  std::string name;  // canonical: "layers.3.attn.q"
  uint32_t rows = 0;
  uint32_t columns = 0;
  double osr = 0;
  double bits_per_weight = 0;
  double relative_error = 0;  // of the encoder, tr(E H E^T) / tr(W H W^T)
  // Nats per token (sensitivity.h); all linears have both or none.
  std::optional<double> predicted;  // what an encoder is expected to leave at this rate
  std::optional<double> measured;   // what it left, by the same measure
};

// Strings may be any bytes.
struct ReportContent {
  std::string title;
  std::string subtitle;
  std::vector<ReportLinear> linears;
  uint64_t file_bytes = 0;
  uint64_t half_precision_bytes = 0;     // of all parameters at 16 bits; 0: not known
  std::optional<uint64_t> target_bytes;  // what was asked for
  std::optional<double> target_bits;
  double bits_per_weight = 0;
  double mean_osr = 0;
  // KL divergence of the finished file from the float model, nats per token (divergence.h).
  std::optional<double> divergence;
  size_t divergence_tokens = 0;
  std::vector<std::pair<std::string, std::string>> facts;  // provenance: name, value
  std::string command;                                     // as typed
};

// Linears, totals and facts of a conversion; title, target, divergence and command are left to the
// caller.
ReportContent MakeReportContent(const RatePlan& plan, const ConvertOptions& options,
                                const ConvertReport& report);

// A whole XML document.
std::string ReportSvg(const ReportContent& content);
// A whole page: the figure, all numbers, how it was made.
std::string ReportHtml(const ReportContent& content);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_REPORT_H_
