// Drawing into SVG: just what the converter's figures need.
#ifndef SDQ_CONVERTER_SVG_H_
#define SDQ_CONVERTER_SVG_H_

#include <string>
#include <string_view>
#include <vector>

namespace sdq::converter {

// Text as XML character data or as the value of an attribute: markup escaped; what is not UTF-8 or
// not a character of XML 1.0 becomes U+FFFD. Good for HTML too.
std::string XmlText(std::string_view text);

// The first `characters` of UTF-8 text, with an ellipsis if there were more.
std::string Shortened(std::string_view text, size_t characters);

// Elements in the order in which they are drawn. Coordinates in pixels, y downwards; `style` is one
// or more class names; a `tip`, if any, is what a viewer shows on hovering. Names and tips may be
// any bytes.
class SvgCanvas {
 public:
  enum class Anchor { kStart, kMiddle, kEnd };

  void Rect(double x, double y, double width, double height, double radius, std::string_view style,
            std::string_view tip = {});
  void Line(double x1, double y1, double x2, double y2, std::string_view style);
  // A path of straight lines through points (x, y); closed and filled if `style` says so.
  void Polygon(const std::vector<std::pair<double, double>>& points, std::string_view style,
               std::string_view tip = {});
  void Circle(double x, double y, double radius, std::string_view style, std::string_view tip = {});
  // y is the baseline.
  void Text(double x, double y, Anchor anchor, std::string_view style, std::string_view text);
  // The same, read from bottom to top.
  void TextUpwards(double x, double y, std::string_view style, std::string_view text);

  const std::string& elements() const { return elements_; }

 private:
  void Close(std::string_view name, std::string_view tip);
  std::string elements_;
};

// Round numbers (1, 2 or 5 times a power of ten apart) from 0 up to at least `most`, about `count`
// of them. `most` > 0 and finite.
std::vector<double> RoundTicks(double most, size_t count);

// Two or more powers of ten, or 1, 2 and 5 times them where the range is small; the first is at
// most `least`, the last at least `most`, but for rounding. Both > 0 and finite, least <= most.
std::vector<double> LogTicks(double least, double most);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_SVG_H_
