// Tables of colours: a row per kind of linear, a column per layer.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "converter/report_parts.h"

namespace sdq::converter {
namespace {

using Anchor = SvgCanvas::Anchor;

constexpr size_t kShades = 13;         // classes s0 to s12 of the style sheet
constexpr size_t kLayersPerBand = 24;  // cells stay wide enough for their numbers
constexpr double kRowHeight = 36;
constexpr double kGap = 2;
constexpr double kNameWidth = 76;
constexpr double kMeanWidth = 52;
constexpr double kBandHead = 20;  // numbers of layers
constexpr double kBandFoot = 30;  // means of layers
constexpr double kWidestCell = 148;

size_t Bands(const ReportTable& table) {
  return (table.layers.size() + kLayersPerBand - 1) / kLayersPerBand;
}

// What a cell shows.
struct Quantity {
  std::function<double(const ReportLinear&)> shade;       // its colour, before scaling
  std::function<std::string(const ReportLinear&)> label;  // large
  std::function<std::string(const ReportLinear&)> note;   // small, below
  std::function<std::string(double)> key;                 // a shade's value for people
  double least_span = 0;  // of colours: what hardly differs should look alike
  bool means = false;     // of rows and columns
};

struct Scale {
  double least = std::numeric_limits<double>::infinity();
  double most = -std::numeric_limits<double>::infinity();
  size_t Shade(double value) const {
    const double share = most > least ? (value - least) / (most - least) : 0.5;
    return size_t(std::clamp(std::lround(share * double(kShades - 1)), 0L, long(kShades - 1)));
  }
};

// Mean OSR over the weights of a row or column of the table.
struct Mean {
  double weights = 0, samples = 0;
  void Add(const ReportLinear& linear) {
    const double n = double(linear.rows) * double(linear.columns);
    weights += n;
    samples += n * linear.osr;
  }
  std::string Text() const { return weights > 0 ? fmt::format("{:.2f}", samples / weights) : ""; }
};

class Grid {
 public:
  Grid(const Frame& frame, const ReportContent& content, const ReportTable& table,
       const Quantity& quantity, SvgCanvas* canvas)
      : frame_(frame), content_(content), table_(table), quantity_(quantity), canvas_(*canvas) {
    for (const auto& [position, index] : table.cells) {
      const double value = quantity.shade(content.linears[index]);
      scale_.least = std::min(scale_.least, value);
      scale_.most = std::max(scale_.most, value);
    }
    scale_.most = std::max(scale_.most, scale_.least + quantity.least_span);
    const size_t columns = std::min(table.layers.size(), kLayersPerBand);
    cell_ = std::min(kWidestCell, (frame.width - kNameWidth - kMeanWidth) / double(columns));
  }

  void Draw() {
    double y = frame_.y + kHeadingHeight;
    for (size_t band = 0; band < Bands(table_); ++band) {
      const size_t first = band * kLayersPerBand;
      const size_t count = std::min(kLayersPerBand, table_.layers.size() - first);
      DrawBand(y, first, count, band + 1 == Bands(table_));
      y += kBandHead + kRowHeight * double(table_.kinds.size()) + kBandFoot;
    }
  }

  // Colours from the least to the greatest value, at the right end of the heading.
  void DrawKey() {
    const std::string least = quantity_.key(scale_.least), most = quantity_.key(scale_.most);
    constexpr double kStep = 11;
    const double right = frame_.x + kNameWidth + cell_ * double(Columns());
    const double text = 7 * double(most.size()) + 6;
    double x = std::max(right, frame_.x + 520) - text - kStep * double(kShades);
    const double y = frame_.y + 12;
    canvas_.Text(x - 6, y + 10, Anchor::kEnd, "small", least);
    for (size_t shade = 0; shade < kShades; ++shade, x += kStep) {
      canvas_.Rect(x, y, kStep, 12, 0, fmt::format("s{}", shade));
    }
    canvas_.Text(x + 6, y + 10, Anchor::kStart, "small", most);
  }

 private:
  size_t Columns() const { return std::min(table_.layers.size(), kLayersPerBand); }

  void DrawBand(double y, size_t first, size_t count, bool last) {
    const double left = frame_.x + kNameWidth;
    canvas_.Text(left - 12, y + 12, Anchor::kEnd, "small", "layer");
    if (quantity_.means) {
      canvas_.Text(left + cell_ * double(count) + 12, y + 12, Anchor::kStart, "small",
                   last ? "mean" : "");
    }
    std::vector<Mean> layer_means(count);
    for (size_t c = 0; c < count; ++c) {
      canvas_.Text(left + cell_ * (double(c) + 0.5), y + 12, Anchor::kMiddle, "small",
                   fmt::format("{}", table_.layers[first + c]));
    }
    y += kBandHead;
    for (size_t k = 0; k < table_.kinds.size(); ++k, y += kRowHeight) {
      canvas_.Text(left - 12, y + kRowHeight / 2 + 3, Anchor::kEnd, "name",
                   Shortened(table_.kinds[k], 12));
      for (size_t c = 0; c < count; ++c) {
        const auto found = table_.cells.find({k, table_.layers[first + c]});
        if (found == table_.cells.end()) continue;
        DrawCell(left + cell_ * double(c), y, content_.linears[found->second]);
        layer_means[c].Add(content_.linears[found->second]);
      }
      if (quantity_.means && last) {
        canvas_.Text(left + cell_ * double(count) + 12, y + kRowHeight / 2 + 3, Anchor::kStart,
                     "mean", KindMean(k).Text());
      }
    }
    if (!quantity_.means) return;
    for (size_t c = 0; c < count; ++c) {
      canvas_.Text(left + cell_ * (double(c) + 0.5), y + 14, Anchor::kMiddle, "mean",
                   layer_means[c].Text());
    }
    canvas_.Text(left - 12, y + 14, Anchor::kEnd, "small", "mean");
  }

  Mean KindMean(size_t kind) const {
    Mean mean;
    for (const auto& [position, index] : table_.cells) {
      if (position.first == kind) mean.Add(content_.linears[index]);
    }
    return mean;
  }

  void DrawCell(double x, double y, const ReportLinear& linear) {
    const size_t shade = scale_.Shade(quantity_.shade(linear));
    canvas_.Rect(x, y, cell_ - kGap, kRowHeight - kGap, 3, fmt::format("s{}", shade),
                 LinearTip(linear));
    const double middle = x + (cell_ - kGap) / 2;
    canvas_.Text(middle, y + 15, Anchor::kMiddle, fmt::format("cell t{}", shade),
                 quantity_.label(linear));
    canvas_.Text(middle, y + 27, Anchor::kMiddle, fmt::format("note t{}", shade),
                 quantity_.note(linear));
  }

  const Frame& frame_;
  const ReportContent& content_;
  const ReportTable& table_;
  const Quantity& quantity_;
  SvgCanvas& canvas_;
  Scale scale_;
  double cell_ = 0;
};

}  // namespace

double RatesHeight(const ReportTable& table) {
  const double band = kBandHead + kRowHeight * double(table.kinds.size()) + kBandFoot;
  return kHeadingHeight + double(Bands(table)) * band;
}

void DrawRates(const Frame& frame, const ReportContent& content, const ReportTable& table,
               SvgCanvas* canvas) {
  if (table.cells.empty()) return;
  Quantity quantity;
  quantity.shade = [](const ReportLinear& linear) { return linear.osr; };
  quantity.label = [](const ReportLinear& linear) { return RateText(linear.osr); };
  quantity.note = [](const ReportLinear& linear) {
    return fmt::format("{:.2f} b", linear.bits_per_weight);
  };
  quantity.key = [](double osr) { return "OSR " + RateText(osr); };
  quantity.least_span = 1;
  quantity.means = true;
  DrawHeading(frame, "Over-sampling ratio of every linear",
              "samples per weight; below, stored bits per weight", canvas);
  Grid grid(frame, content, table, quantity, canvas);
  grid.DrawKey();
  grid.Draw();
}

void DrawErrors(const Frame& frame, const ReportContent& content, const ReportTable& table,
                SvgCanvas* canvas) {
  if (table.cells.empty()) return;
  Quantity quantity;
  quantity.shade = [](const ReportLinear& linear) {
    return std::log(std::max(linear.relative_error, 1e-12));
  };
  quantity.label = [](const ReportLinear& linear) {
    return fmt::format("{:.2g}%", 100 * linear.relative_error);
  };
  quantity.note = [](const ReportLinear& linear) {
    return fmt::format("{:.1f} dB", 10 * std::log10(std::max(linear.relative_error, 1e-12)));
  };
  quantity.key = [](double log_error) { return fmt::format("{:.2g}%", 100 * std::exp(log_error)); };
  quantity.least_span = std::log(4.0);
  DrawHeading(frame, "Error that the encoder left",
              "of the power of the linear's outputs, in percent and decibels", canvas);
  Grid grid(frame, content, table, quantity, canvas);
  grid.DrawKey();
  grid.Draw();
}

}  // namespace sdq::converter
