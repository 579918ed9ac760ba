#include "converter/svg.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <utility>

#include "format/utf8.h"

namespace sdq::converter {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

constexpr double kFineRatio = 40;  // a logarithmic axis up to this has ticks at 1, 2 and 5

// Length of the character that begins `text`; 0 if it is not UTF-8. `text` is not empty.
size_t CharacterLength(std::string_view text) {
  for (size_t length = 1; length <= 4 && length <= text.size(); ++length) {
    if (format::IsUtf8(text.substr(0, length))) return length;
  }
  return 0;
}

// Control characters, and U+FFFE and U+FFFF.
bool IsXmlCharacter(std::string_view character) {
  if (character.size() == 1) {
    const auto code = static_cast<unsigned char>(character[0]);
    return code >= 0x20 || code == '\t' || code == '\n' || code == '\r';
  }
  return character != "\xef\xbf\xbe" && character != "\xef\xbf\xbf";
}

std::string_view Escaped(std::string_view character) {
  if (character == "&") return "&amp;";
  if (character == "<") return "&lt;";
  if (character == ">") return "&gt;";
  if (character == "\"") return "&quot;";
  if (character == "'") return "&#39;";
  return character;
}

// At most two digits behind the point, none that say nothing.
std::string Number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

const char* AnchorName(SvgCanvas::Anchor anchor) {
  switch (anchor) {
    case SvgCanvas::Anchor::kStart:
      return "start";
    case SvgCanvas::Anchor::kMiddle:
      return "middle";
    case SvgCanvas::Anchor::kEnd:
      break;
  }
  return "end";
}

}  // namespace

std::string XmlText(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    const std::string_view character = text.substr(0, length == 0 ? 1 : length);
    result += length != 0 && IsXmlCharacter(character) ? Escaped(character) : kReplacement;
    text.remove_prefix(character.size());
  }
  return result;
}

std::string Shortened(std::string_view text, size_t characters) {
  std::string result;
  for (size_t i = 0; !text.empty(); ++i) {
    if (i == characters) return result + "\xe2\x80\xa6";
    const size_t length = CharacterLength(text);
    result += text.substr(0, length == 0 ? 1 : length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

void SvgCanvas::Close(std::string_view name, std::string_view tip) {
  if (tip.empty()) {
    elements_ += "/>\n";
  } else {
    fmt::format_to(std::back_inserter(elements_), "><title>{}</title></{}>\n", XmlText(tip), name);
  }
}

void SvgCanvas::Rect(double x, double y, double width, double height, double radius,
                     std::string_view style, std::string_view tip) {
  fmt::format_to(std::back_inserter(elements_),
                 R"(<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="{}")", style,
                 Number(x), Number(y), Number(width), Number(height), Number(radius));
  Close("rect", tip);
}

void SvgCanvas::Line(double x1, double y1, double x2, double y2, std::string_view style) {
  fmt::format_to(std::back_inserter(elements_),
                 R"(<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}")", style, Number(x1),
                 Number(y1), Number(x2), Number(y2));
  Close("line", {});
}

void SvgCanvas::Polygon(const std::vector<std::pair<double, double>>& points,
                        std::string_view style, std::string_view tip) {
  std::string list;
  for (const auto& [x, y] : points) {
    list += fmt::format("{}{},{}", list.empty() ? "" : " ", Number(x), Number(y));
  }
  fmt::format_to(std::back_inserter(elements_), R"(<polygon class="{}" points="{}")", style, list);
  Close("polygon", tip);
}

void SvgCanvas::Circle(double x, double y, double radius, std::string_view style,
                       std::string_view tip) {
  fmt::format_to(std::back_inserter(elements_), R"(<circle class="{}" cx="{}" cy="{}" r="{}")",
                 style, Number(x), Number(y), Number(radius));
  Close("circle", tip);
}

void SvgCanvas::Text(double x, double y, Anchor anchor, std::string_view style,
                     std::string_view text) {
  fmt::format_to(std::back_inserter(elements_),
                 "<text class=\"{}\" x=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text>\n", style,
                 Number(x), Number(y), AnchorName(anchor), XmlText(text));
}

void SvgCanvas::TextUpwards(double x, double y, std::string_view style, std::string_view text) {
  fmt::format_to(std::back_inserter(elements_),
                 "<text class=\"{}\" text-anchor=\"middle\" "
                 "transform=\"translate({} {}) rotate(-90)\">{}</text>\n",
                 style, Number(x), Number(y), XmlText(text));
}

std::vector<double> RoundTicks(double most, size_t count) {
  const double rough = most / double(count);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * power >= rough * (1 - 1e-9)) step = factor * power;
  }
  std::vector<double> ticks = {0};
  while (ticks.back() < most * (1 - 1e-9)) ticks.push_back(double(ticks.size()) * step);
  return ticks;
}

std::vector<double> LogTicks(double least, double most) {
  const int first = int(std::floor(std::log10(least) + 1e-9));
  const int last = int(std::ceil(std::log10(most) - 1e-9));
  std::vector<double> ticks;
  if (most / least > kFineRatio) {
    for (int e = first; e <= last; ++e) ticks.push_back(std::pow(10.0, e));
    return ticks;
  }
  for (int e = first; e <= last; ++e) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = factor * std::pow(10.0, e);
      // Of those outside, the nearest two are the ends of the axis.
      if (tick <= least) ticks.clear();
      ticks.push_back(tick);
      if (tick >= most && ticks.size() > 1) return ticks;
    }
  }
  return ticks;
}

}  // namespace sdq::converter
