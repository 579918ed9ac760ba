// The parts of a report's figure. Every part draws into a frame and uses no more than it.
#ifndef SDQ_CONVERTER_REPORT_PARTS_H_
#define SDQ_CONVERTER_REPORT_PARTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "converter/report.h"
#include "converter/svg.h"

namespace sdq::converter {

// "layers.3.attn.q" is layer 3 and "attn.q"; other names are no linear of a layer.
struct LayerPart {
  uint32_t layer = 0;
  std::string_view kind;
};
std::optional<LayerPart> PartOf(std::string_view name);

// Linears as a table of kinds and layers.
struct ReportTable {
  std::vector<std::string> kinds;  // in order of appearance
  std::vector<uint32_t> layers;    // rising
  // Index into the linears, by kind (index into kinds) and layer.
  std::map<std::pair<size_t, uint32_t>, size_t> cells;
};
ReportTable TableOf(const std::vector<ReportLinear>& linears);

struct Frame {
  double x = 0, y = 0, width = 0, height = 0;
};

// Heading of a part, at the top of its frame; what follows starts kHeadingHeight below.
inline constexpr double kHeadingHeight = 48;
void DrawHeading(const Frame& frame, std::string_view title, std::string_view note,
                 SvgCanvas* canvas);

// Rates of all linears, a row per kind and a column per layer, in bands of layers that fit.
double RatesHeight(const ReportTable& table);
void DrawRates(const Frame& frame, const ReportContent& content, const ReportTable& table,
               SvgCanvas* canvas);

// The same table of the encoder's relative errors, for conversions without measured losses.
void DrawErrors(const Frame& frame, const ReportContent& content, const ReportTable& table,
                SvgCanvas* canvas);

// Predicted and measured loss of every layer, side by side.
void DrawLayerLosses(const Frame& frame, const ReportContent& content, const ReportTable& table,
                     SvgCanvas* canvas);

// A mark per linear: measured over predicted loss, both logarithmic.
void DrawLinearLosses(const Frame& frame, const ReportContent& content, const ReportTable& table,
                      SvgCanvas* canvas);

// "layers.0.attn.q: 256 x 256, OSR 2.25, 2.313 bits per weight, ..."
std::string LinearTip(const ReportLinear& linear);
std::string LossText(double nats);     // "0.0123", "4.1e-05"
std::string RateText(double osr);      // "2", "1.75", "2.333"
std::string ByteText(uint64_t bytes);  // "2.10 MiB"

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_REPORT_PARTS_H_
