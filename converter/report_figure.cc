// The figure: title, totals, rates, losses.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "converter/report_parts.h"
#include "converter/report_style.h"

namespace sdq::converter {
namespace {

using Anchor = SvgCanvas::Anchor;

constexpr double kWidth = 1040;
constexpr double kMargin = 28;
constexpr double kInner = kWidth - 2 * kMargin;
constexpr double kTitleHeight = 76;
constexpr double kTileHeight = 84;
constexpr double kPartGap = 26;
constexpr double kChartsHeight = 400;
constexpr double kScatterWidth = 400;

struct Tile {
  std::string name, value, note;
};

// How far below the target something came, in percent: "0.03% below 2.00 MiB".
std::string Below(double value, double target, const std::string& text) {
  return fmt::format("{:.2f}% below {}", std::max(0.0, 100 * (1 - value / target)), text);
}

Tile FileTile(const ReportContent& content) {
  Tile tile = {"File", ByteText(content.file_bytes), fmt::format("{} bytes", content.file_bytes)};
  if (content.target_bytes) {
    tile.note = Below(double(content.file_bytes), double(*content.target_bytes),
                      ByteText(*content.target_bytes));
  } else if (content.half_precision_bytes > 0) {
    tile.note = fmt::format("{:.1f}% of 16 bits", 100 * double(content.file_bytes) /
                                                      double(content.half_precision_bytes));
  }
  return tile;
}

std::vector<Tile> Tiles(const ReportContent& content) {
  double weights = 0, predicted = 0, measured = 0, least = INFINITY, most = 0;
  bool losses = !content.linears.empty();
  for (const ReportLinear& linear : content.linears) {
    weights += double(linear.rows) * double(linear.columns);
    predicted += linear.predicted.value_or(0);
    measured += linear.measured.value_or(0);
    least = std::min(least, linear.osr);
    most = std::max(most, linear.osr);
    losses = losses && linear.predicted && linear.measured;
  }
  std::vector<Tile> tiles = {FileTile(content)};
  tiles.push_back({"Bits per weight", fmt::format("{:.4f}", content.bits_per_weight),
                   content.target_bits ? Below(content.bits_per_weight, *content.target_bits,
                                               fmt::format("{:g}", *content.target_bits))
                                       : fmt::format("{:.1f} million weights", weights / 1e6)});
  tiles.push_back({"Mean OSR", fmt::format("{:.4f}", content.mean_osr),
                   content.linears.empty()
                       ? ""
                       : fmt::format("from {} to {}", RateText(least), RateText(most))});
  if (losses) {
    tiles.push_back({"Predicted loss", LossText(predicted), "nats per token"});
    tiles.push_back({"Measured loss", LossText(measured), "of the encoder's errors"});
  }
  if (content.divergence) {
    tiles.push_back({"KL of the file", LossText(*content.divergence),
                     fmt::format("nats, {} tokens", content.divergence_tokens)});
  }
  return tiles;
}

void DrawTiles(double y, const std::vector<Tile>& tiles, SvgCanvas* canvas) {
  constexpr double kTileGap = 10;
  const double count = double(tiles.size());
  const double width = std::min(250.0, (kInner - kTileGap * (count - 1)) / count);
  double x = kMargin;
  for (const Tile& tile : tiles) {
    canvas->Rect(x + 0.5, y + 0.5, width - 1, kTileHeight - 1, 8, "tile");
    canvas->Text(x + 13, y + 23, Anchor::kStart, "small", tile.name);
    canvas->Text(x + 13, y + 51, Anchor::kStart, "value", tile.value);
    canvas->Text(x + 13, y + 71, Anchor::kStart, "small", tile.note);
    x += width + kTileGap;
  }
}

bool HasLosses(const ReportContent& content) {
  return !content.linears.empty() && content.linears[0].predicted && content.linears[0].measured;
}

}  // namespace

std::optional<LayerPart> PartOf(std::string_view name) {
  constexpr std::string_view kPrefix = "layers.";
  LayerPart part;
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const char* end = name.data() + name.size();
  const auto [behind, error] = std::from_chars(name.data() + kPrefix.size(), end, part.layer);
  if (error != std::errc() || behind == end || *behind != '.') return std::nullopt;
  part.kind = std::string_view(behind + 1, size_t(end - behind - 1));
  return part;
}

ReportTable TableOf(const std::vector<ReportLinear>& linears) {
  ReportTable table;
  for (size_t i = 0; i < linears.size(); ++i) {
    const auto part = PartOf(linears[i].name);
    if (!part) continue;
    auto kind = std::find(table.kinds.begin(), table.kinds.end(), part->kind);
    if (kind == table.kinds.end()) kind = table.kinds.emplace(kind, part->kind);
    table.cells[{size_t(kind - table.kinds.begin()), part->layer}] = i;
    table.layers.push_back(part->layer);
  }
  std::sort(table.layers.begin(), table.layers.end());
  table.layers.erase(std::unique(table.layers.begin(), table.layers.end()), table.layers.end());
  return table;
}

void DrawHeading(const Frame& frame, std::string_view title, std::string_view note,
                 SvgCanvas* canvas) {
  canvas->Text(frame.x, frame.y + 15, Anchor::kStart, "heading", title);
  canvas->Text(frame.x, frame.y + 33, Anchor::kStart, "small", note);
}

std::string LossText(double nats) {
  return nats >= 0.001 ? fmt::format("{:.4f}", nats) : fmt::format("{:.2g}", nats);
}

std::string RateText(double osr) { return fmt::format("{:.4g}", osr); }

std::string ByteText(uint64_t bytes) {
  if (bytes >= uint64_t{1} << 30) return fmt::format("{:.2f} GiB", double(bytes) * 0x1p-30);
  return fmt::format("{:.2f} MiB", double(bytes) * 0x1p-20);
}

std::string LinearTip(const ReportLinear& linear) {
  std::string tip =
      fmt::format("{}: {} x {}, OSR {}, {:.3f} bits per weight, relative error {:.4f}", linear.name,
                  linear.rows, linear.columns, RateText(linear.osr), linear.bits_per_weight,
                  linear.relative_error);
  if (linear.predicted && linear.measured) {
    tip += fmt::format(", loss predicted {}, measured {}", LossText(*linear.predicted),
                       LossText(*linear.measured));
  }
  return tip;
}

std::string ReportSvg(const ReportContent& content) {
  const ReportTable table = TableOf(content.linears);
  SvgCanvas canvas;
  canvas.Text(kMargin, 40, Anchor::kStart, "title", Shortened(content.title, 72));
  canvas.Text(kMargin, 62, Anchor::kStart, "subtitle", Shortened(content.subtitle, 150));
  double y = kTitleHeight;
  DrawTiles(y, Tiles(content), &canvas);
  y += kTileHeight + kPartGap;
  const double rates = RatesHeight(table);
  DrawRates({kMargin, y, kInner, rates}, content, table, &canvas);
  y += rates + kPartGap;
  if (HasLosses(content)) {
    DrawLayerLosses({kMargin, y, kInner - kScatterWidth - kPartGap, kChartsHeight}, content, table,
                    &canvas);
    DrawLinearLosses({kMargin + kInner - kScatterWidth, y, kScatterWidth, kChartsHeight}, content,
                     table, &canvas);
    y += kChartsHeight;
  } else {
    DrawErrors({kMargin, y, kInner, rates}, content, table, &canvas);
    y += rates - 24;
  }
  y += kMargin;
  const std::string title = XmlText(content.title);
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" "
             "width=\"{0:g}\" "
             "height=\"{1:g}\" role=\"img\" aria-label=\"{2}\">\n<title>{2}</title>\n",
             kWidth, y, title) +
         "<style>\n" + kFigureStyle + "</style>\n" +
         fmt::format("<rect class=\"back\" width=\"{:g}\" height=\"{:g}\"/>\n", kWidth, y) +
         canvas.elements() + "</svg>\n";
}

}  // namespace sdq::converter
