// Predicted against measured loss: by layer, and linear by linear.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "converter/report_parts.h"

namespace sdq::converter {
namespace {

using Anchor = SvgCanvas::Anchor;

constexpr double kAxisWidth = 58;   // numbers left of a plot
constexpr double kAxisHeight = 40;  // numbers and name below it
constexpr double kKeyHeight = 24;

// The plot inside a chart's frame.
Frame PlotOf(const Frame& frame) {
  const double top = kHeadingHeight + kKeyHeight;
  return {frame.x + kAxisWidth, frame.y + top, frame.width - kAxisWidth,
          frame.height - top - kAxisHeight};
}

bool IsAttention(std::string_view name) { return name.find("attn") != std::string_view::npos; }
const char* FamilyStyle(std::string_view name) { return IsAttention(name) ? "attn" : "ffn"; }

// Losses of one layer: attention, the rest.
struct LayerLoss {
  double attention = 0, rest = 0;
  double sum() const { return attention + rest; }
  void Add(bool to_attention, double loss) { (to_attention ? attention : rest) += loss; }
};

// A bar from the plot's bottom, attention below.
void DrawBar(const Frame& plot, double x, double width, double most, const LayerLoss& loss,
             const std::string& weight, const std::string& tip, SvgCanvas* canvas) {
  const double bottom = plot.y + plot.height;
  const double first = plot.height * loss.attention / most;
  const double second = plot.height * loss.rest / most;
  canvas->Rect(x, bottom - first - second, width, first + second, 0, "back");
  if (first > 0) canvas->Rect(x, bottom - first, width, first, 0, "attn " + weight, tip);
  const double gap = first > 0 && second > 3 ? 1 : 0;
  if (second > gap) {
    canvas->Rect(x, bottom - first - second, width, second - gap, 0, "ffn " + weight, tip);
  }
}

void DrawLayerKey(const Frame& frame, SvgCanvas* canvas) {
  const double y = frame.y + kHeadingHeight - 4;
  double x = frame.x + kAxisWidth;
  const auto entry = [&](const char* style, const char* text, double advance) {
    canvas->Rect(x, y, 11, 11, 2, style);
    canvas->Text(x + 16, y + 9.5, Anchor::kStart, "small", text);
    x += advance;
  };
  entry("attn solid", "attention", 86);
  entry("ffn solid", "feed-forward", 124);
  entry("plain faint", "left: predicted", 114);
  entry("plain solid", "right: measured", 100);
}

// How linears of a kind are marked.
void DrawMark(double x, double y, size_t kind, std::string_view name, const std::string& tip,
              SvgCanvas* canvas) {
  const std::string style = std::string(FamilyStyle(name)) + " mark";
  constexpr double r = 5;
  switch (kind % 4) {
    case 0:
      return canvas->Circle(x, y, r - 0.4, style, tip);
    case 1:
      return canvas->Rect(x - r + 0.8, y - r + 0.8, 2 * r - 1.6, 2 * r - 1.6, 1, style, tip);
    case 2:
      return canvas->Polygon({{x, y - r}, {x + r, y + r - 1}, {x - r, y + r - 1}}, style, tip);
    default:
      return canvas->Polygon({{x, y - r - 1}, {x + r + 1, y}, {x, y + r + 1}, {x - r - 1, y}},
                             style, tip);
  }
}

// A logarithmic axis from the first to the last of its ticks.
struct LogAxis {
  std::vector<double> ticks;
  double Share(double value) const {
    return std::log(value / ticks.front()) / std::log(ticks.back() / ticks.front());
  }
};

std::string TickText(double value) { return fmt::format("{:g}", value); }

// Least and greatest of all losses that are greater than zero; none if there are none.
std::optional<std::pair<double, double>> LossRange(const ReportContent& content) {
  double least = std::numeric_limits<double>::infinity();
  double most = 0;
  for (const ReportLinear& linear : content.linears) {
    for (const double loss : {linear.predicted.value_or(0), linear.measured.value_or(0)}) {
      if (!(loss > 0) || !std::isfinite(loss)) continue;
      least = std::min(least, loss);
      most = std::max(most, loss);
    }
  }
  if (!(most > 0)) return std::nullopt;
  return std::pair{least, most};
}

void DrawLinearAxes(const Frame& plot, const LogAxis& axis, SvgCanvas* canvas) {
  const double bottom = plot.y + plot.height;
  for (const double tick : axis.ticks) {
    const double x = plot.x + plot.width * axis.Share(tick);
    const double y = bottom - plot.height * axis.Share(tick);
    canvas->Line(plot.x, y, plot.x + plot.width, y, "grid");
    canvas->Line(x, plot.y, x, bottom, "grid");
    canvas->Text(plot.x - 8, y + 4, Anchor::kEnd, "small", TickText(tick));
    canvas->Text(x, bottom + 16, Anchor::kMiddle, "small", TickText(tick));
  }
  canvas->Line(plot.x, bottom, plot.x + plot.width, plot.y, "diagonal");
  canvas->Text(plot.x + plot.width / 2, bottom + 34, Anchor::kMiddle, "small",
               "predicted, nats per token");
  canvas->TextUpwards(plot.x - 46, plot.y + plot.height / 2, "small", "measured");
}

}  // namespace

void DrawLayerLosses(const Frame& frame, const ReportContent& content, const ReportTable& table,
                     SvgCanvas* canvas) {
  DrawHeading(frame, "Loss by layer", "nats per token, summed over the layer's linears", canvas);
  std::map<uint32_t, LayerLoss> predicted, measured;
  double most = 0;
  for (const auto& [position, index] : table.cells) {
    const ReportLinear& linear = content.linears[index];
    const bool attention = IsAttention(linear.name);
    predicted[position.second].Add(attention, linear.predicted.value_or(0));
    measured[position.second].Add(attention, linear.measured.value_or(0));
  }
  for (const uint32_t layer : table.layers) {
    most = std::max({most, predicted[layer].sum(), measured[layer].sum()});
  }
  if (!(most > 0) || !std::isfinite(most)) return;
  DrawLayerKey(frame, canvas);
  const Frame plot = PlotOf(frame);
  const double bottom = plot.y + plot.height;
  const std::vector<double> ticks = RoundTicks(most, 5);
  for (const double tick : ticks) {
    const double y = bottom - plot.height * tick / ticks.back();
    canvas->Line(plot.x, y, plot.x + plot.width, y, tick == 0 ? "axis" : "grid");
    canvas->Text(plot.x - 8, y + 4, Anchor::kEnd, "small", TickText(tick));
  }
  const double slot = plot.width / double(table.layers.size());
  const double bar = std::min(26.0, slot * 0.36);
  const size_t every = size_t(std::ceil(22 / slot));  // numbers of layers that have room
  for (size_t i = 0; i < table.layers.size(); ++i) {
    const uint32_t layer = table.layers[i];
    const double middle = plot.x + slot * (double(i) + 0.5);
    const std::string tip =
        fmt::format("layer {}: predicted {}, measured {} nats per token", layer,
                    LossText(predicted[layer].sum()), LossText(measured[layer].sum()));
    DrawBar(plot, middle - bar - 1, bar, ticks.back(), predicted[layer], "faint", tip, canvas);
    DrawBar(plot, middle + 1, bar, ticks.back(), measured[layer], "solid", tip, canvas);
    if (i % every == 0) {
      canvas->Text(middle, bottom + 16, Anchor::kMiddle, "small", fmt::format("{}", layer));
    }
  }
  canvas->Text(plot.x + plot.width / 2, bottom + 34, Anchor::kMiddle, "small", "layer");
}

void DrawLinearLosses(const Frame& frame, const ReportContent& content, const ReportTable& table,
                      SvgCanvas* canvas) {
  DrawHeading(frame, "Loss by linear", "on the line, the encoder left what was predicted", canvas);
  const auto range = LossRange(content);
  if (!range) return;
  double x = frame.x + kAxisWidth + 6;
  for (size_t k = 0; k < table.kinds.size(); ++k) {
    const std::string kind = Shortened(table.kinds[k].substr(table.kinds[k].find('.') + 1), 6);
    DrawMark(x, frame.y + kHeadingHeight + 1.5, k, table.kinds[k], {}, canvas);
    canvas->Text(x + 9, frame.y + kHeadingHeight + 5.5, Anchor::kStart, "small", kind);
    x += 24 + 6.6 * double(kind.size());
  }
  const Frame plot = PlotOf(frame);
  const LogAxis axis = {LogTicks(range->first, range->second)};
  DrawLinearAxes(plot, axis, canvas);
  for (const auto& [position, index] : table.cells) {
    const ReportLinear& linear = content.linears[index];
    if (!(linear.predicted.value_or(0) > 0) || !(linear.measured.value_or(0) > 0)) continue;
    DrawMark(plot.x + plot.width * axis.Share(*linear.predicted),
             plot.y + plot.height * (1 - axis.Share(*linear.measured)), position.first, linear.name,
             LinearTip(linear), canvas);
  }
}

}  // namespace sdq::converter
