// Reports: well-formed whatever the names are, complete, and exact in small.
#include "converter/report.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "converter/report_file.h"
#include "converter/svg.h"
#include "format/utf8.h"
#include "tests/support/files.h"

namespace sdq::converter {
namespace {

// A strict reader of the XML that we write: elements, attributes in double quotes, five entities.
class XmlReader {
 public:
  // Empty if `text` is one well-formed element, after an optional <!DOCTYPE html>.
  static std::string Problem(const std::string& text) {
    XmlReader reader(text);
    reader.Skip("<!DOCTYPE html>\n");
    reader.Element();
    reader.Skip("\n");
    if (reader.problem_.empty() && reader.at_ != text.size()) reader.Fail("text behind the end");
    if (!format::IsUtf8(text)) reader.Fail("not UTF-8");
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 && c != '\n' && c != '\t') reader.Fail("a control character");
    }
    return reader.problem_;
  }

 private:
  explicit XmlReader(const std::string& text) : text_(text) {}

  void Fail(const std::string& why) {
    if (!problem_.empty()) return;
    problem_ = why + " at " + std::to_string(at_) + ": " + text_.substr(at_, 60);
    at_ = text_.size();
  }
  bool Skip(const std::string& expected) {
    if (text_.compare(at_, expected.size(), expected) != 0) return false;
    at_ += expected.size();
    return true;
  }
  void Expect(const std::string& expected) {
    if (!Skip(expected)) Fail("expected " + expected);
  }
  std::string Name() {
    const size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(text_[at_]) != 0 || text_[at_] == '-')) ++at_;
    if (at_ == begin) Fail("expected a name");
    return problem_.empty() ? text_.substr(begin, at_ - begin) : "";
  }
  void Characters(char end) {
    while (at_ < text_.size() && text_[at_] != end) {
      if (text_[at_] == '<') return Fail("markup in a value");
      if (text_[at_] == '&' && !Skip("&amp;") && !Skip("&lt;") && !Skip("&gt;") &&
          !Skip("&quot;") && !Skip("&#39;")) {
        return Fail("unknown entity");
      }
      if (text_[at_] != end && text_[at_] != '&') ++at_;
    }
  }
  void Element() {
    Expect("<");
    const std::string name = Name();
    while (problem_.empty() && Skip(" ")) {
      Name();
      Expect("=\"");
      Characters('"');
      Expect("\"");
    }
    if (Skip("/>")) return;
    Expect(">");
    while (problem_.empty()) {
      Characters('<');
      if (Skip("</")) break;
      if (at_ >= text_.size()) return Fail("no end of " + name);
      Element();
    }
    Expect(name + ">");
  }

  const std::string& text_;
  size_t at_ = 0;
  std::string problem_;
};

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

ReportContent Content(size_t layers, bool losses) {
  ReportContent content;
  content.title = "a model";
  content.subtitle = "for tests";
  const char* kinds[] = {"attn.q", "attn.k", "attn.v", "attn.o", "ffn.gate", "ffn.up", "ffn.down"};
  for (size_t l = 0; l < layers; ++l) {
    for (const char* kind : kinds) {
      ReportLinear& linear = content.linears.emplace_back();
      linear.name = "layers." + std::to_string(l) + "." + kind;
      linear.rows = 64;
      linear.columns = 32;
      linear.osr = 1 + double(content.linears.size() % 13) / 4;
      linear.bits_per_weight = linear.osr + 0.25;
      linear.relative_error = std::pow(4, -linear.osr);
      if (!losses) continue;
      linear.predicted = 0.001 * double(1 + content.linears.size() % 5);
      linear.measured = *linear.predicted * 1.25;
    }
  }
  content.file_bytes = 2097152;
  content.half_precision_bytes = 8388608;
  content.bits_per_weight = 2.25;
  content.mean_osr = 2;
  content.facts = {{"Method", "trellis"}};
  content.command = "sdq-convert model -o model.sdq";
  return content;
}

TEST_CASE("report: well-formed, with every linear in the figure and in the table") {
  const size_t layers = GENERATE(1u, 2u, 24u, 25u, 80u);
  const bool losses = GENERATE(true, false);
  const ReportContent content = Content(layers, losses);
  const std::string svg = ReportSvg(content);
  const std::string html = ReportHtml(content);
  CHECK(XmlReader::Problem(svg) == "");
  CHECK(XmlReader::Problem(html) == "");
  for (const ReportLinear& linear : content.linears) {
    // A cell, and a mark or a second cell.
    CHECK(Count(svg, "<title>" + linear.name + ": 64 x 32, OSR ") == 2);
    CHECK(Count(html, "<td>" + linear.name + "</td>") == 1);
  }
  CHECK(Count(svg, "class=\"cell ") == content.linears.size() * (losses ? 1 : 2));
  CHECK((Count(svg, "Loss by layer") == 1) == losses);
  CHECK((Count(svg, "Error that the encoder left") == 1) == !losses);
  CHECK((Count(html, "<th>predicted loss</th>") == 1) == losses);
  CHECK(Count(html, svg) == 1);
}

TEST_CASE("report: names that are markup, no text at all, or endless") {
  const std::string hostile = GENERATE(
      std::string("</title></svg><script>alert(1)</script>"), std::string("\" onload=\"alert(1)"),
      std::string("' & < > ]]> <!-- --> &amp; &#0;"), std::string("\xff\xfe\x00\x01\x1b", 5),
      std::string("\xef\xbf\xbf \xed\xa0\x80 \xc3"), std::string(5000, '<'));
  ReportContent content = Content(2, true);
  content.title = content.subtitle = content.command = hostile;
  content.facts = {{hostile, hostile}};
  content.linears[3].name = "layers.1." + hostile;
  content.linears[4].name = hostile;
  content.linears[5].name = "layers.99999999999999999999.attn.q";
  content.linears[6].name = "layers.4294967295.attn.q";
  const std::string svg = ReportSvg(content);
  const std::string html = ReportHtml(content);
  CHECK(XmlReader::Problem(svg) == "");
  CHECK(XmlReader::Problem(html) == "");
  CHECK(Count(svg + html, "<script") == 0);
  CHECK(Count(svg + html, "<text onload") == 0);
  CHECK(Count(svg + html, " onload=\"") == 0);
  CHECK(Count(html, XmlText(hostile)) >= 4);
}

TEST_CASE("report: nothing that runs or comes from elsewhere") {
  const std::string html = ReportHtml(Content(3, true));
  for (const char* part : {"<script", "href", "src=", "url(", "@import", "<link", "javascript:"}) {
    INFO(part);
    CHECK(Count(html, part) == 0);
  }
  CHECK(Count(html, "http") == 2);  // the name space, http-equiv
  CHECK(Count(html, "@media (prefers-color-scheme:dark)") == 2);
}

TEST_CASE("report: nothing quantized, no losses, all equal") {
  for (const ReportContent& content : {ReportContent(), Content(0, false)}) {
    CHECK(XmlReader::Problem(ReportSvg(content)) == "");
    CHECK(XmlReader::Problem(ReportHtml(content)) == "");
  }
  ReportContent equal = Content(1, true);
  for (ReportLinear& linear : equal.linears) {
    linear.osr = 2;
    linear.relative_error = 0;
    linear.predicted = linear.measured = 0;
  }
  CHECK(XmlReader::Problem(ReportSvg(equal)) == "");
  CHECK(Count(ReportSvg(equal), "nan") == 0);
  CHECK(Count(ReportSvg(equal), "inf") == 0);
  CHECK(XmlReader::Problem(ReportHtml(equal)) == "");
}

TEST_CASE("report: the numbers of a small example") {
  ReportContent content;
  content.title = "tiny";
  content.linears = {{"layers.0.attn.q", 8, 16, 1.5, 1.75, 0.125, 0.02, 0.03},
                     {"layers.0.ffn.up", 24, 16, 2.5, 2.75, 0.03125, 0.01, 0.005}};
  content.file_bytes = 1048000;
  content.target_bytes = 1048576;
  content.half_precision_bytes = 4194304;
  content.bits_per_weight = 2.5;
  content.mean_osr = 2.25;
  content.divergence = 0.04321;
  content.divergence_tokens = 4096;
  content.facts = {{"Seed", "7"}};
  content.command = "sdq-convert tiny -o 'a b.sdq'";
  const std::string html = ReportHtml(content);
  const auto has = [&](const std::string& part) {
    INFO(part);
    CHECK(Count(html, part) == 1);
  };
  has("<tr><td>layers.0.attn.q</td><td>8 \xc3\x97 16</td><td>1.5</td><td>1.750</td>"
      "<td>0.12500</td><td>0.0200</td><td>0.0300</td><td>1.50</td></tr>");
  has("<tr><td>layers.0.ffn.up</td><td>24 \xc3\x97 16</td><td>2.5</td><td>2.750</td>"
      "<td>0.03125</td><td>0.0100</td><td>0.0050</td><td>0.50</td></tr>");
  has("<tr><td>all</td><td>512</td><td>2.2500</td><td>2.5000</td><td></td><td>0.0300</td>"
      "<td>0.0350</td><td>1.17</td></tr>");
  has(">0.05% below 1.00 MiB</text>");
  has(">from 1.5 to 2.5</text>");
  has(">0.0432</text>");
  has("<dd>0.04321 nats per token, 4096 tokens of the text</dd>");
  has("<dt>Seed</dt><dd>7</dd>");
  has("<pre>sdq-convert tiny -o &#39;a b.sdq&#39;</pre>");
  // The least rate has the first shade, the greatest the last; bits are their labels' second line.
  has("<rect class=\"s0\" x=\"104\" y=\"254\" width=\"146\" height=\"34\" rx=\"3\"><title>layers.0."
      "attn.q: 8 x 16, OSR 1.5, 1.750 bits per weight, relative error 0.1250, loss predicted "
      "0.0200, measured 0.0300</title></rect>");
  has("<text class=\"cell t0\" x=\"177\" y=\"269\" text-anchor=\"middle\">1.5</text>");
  has("<text class=\"note t0\" x=\"177\" y=\"281\" text-anchor=\"middle\">1.75 b</text>");
  has("<text class=\"cell t12\" x=\"177\" y=\"305\" text-anchor=\"middle\">2.5</text>");
  // Weighted by their weights: (128 * 1.5 + 384 * 2.5) / 512.
  CHECK(Count(html, "class=\"mean\"") == 3);
  CHECK(Count(html, ">2.25</text>") == 1);
}

TEST_CASE("report: content of a conversion; losses only where all linears have them") {
  RatePlan plan;
  plan.rates = {{"layers.0.attn.q", {2, 1}}, {"layers.0.attn.k", {3, 1}}};
  plan.predicted_losses = {0.5, 0.25};
  ConvertReport report;
  report.linears = {{"layers.0.attn.k", 8, 16, 3, 3.1, 0.02, 0.3},
                    {"layers.0.attn.q", 16, 16, 2, 2.1, 0.08, 0.4}};
  report.mean_osr = 2.5;
  report.bits_per_weight = 2.6;
  report.file_bytes = 1000;
  ConvertOptions options;
  options.calibration.assign(100, 1);
  options.calibration_name = "text";
  const ReportContent content = MakeReportContent(plan, options, report);
  REQUIRE(content.linears.size() == 2);
  CHECK(content.linears[0].name == "layers.0.attn.k");
  CHECK(content.linears[0].predicted == 0.25);
  CHECK(content.linears[0].measured == 0.3);
  CHECK(content.linears[1].predicted == 0.5);
  CHECK(content.linears[1].rows == 16);
  CHECK(content.file_bytes == 1000);
  CHECK(content.mean_osr == 2.5);
  CHECK(Count(ReportHtml(content), "<dd>text, 100 tokens</dd>") == 1);
  report.linears[1].loss = std::nullopt;
  const ReportContent without = MakeReportContent(plan, options, report);
  CHECK_FALSE(without.linears[0].predicted.has_value());
  CHECK_FALSE(without.linears[0].measured.has_value());
}

TEST_CASE("report: files appear whole, by their ending, and refuse early") {
  const test::TemporaryFolder folder;
  const ReportContent content = Content(2, true);
  for (const char* name : {"report.svg", "report.html"}) {
    auto file = ReportFile::Create(folder / name);
    REQUIRE(file.ok());
    CHECK_FALSE(std::filesystem::exists(folder / name));
    REQUIRE((*file)->Write(content).ok());
    const auto bytes = test::ReadBytes(folder / name);
    const std::string text(bytes.begin(), bytes.end());
    CHECK(text == (text.starts_with("<svg") ? ReportSvg(content) : ReportHtml(content)));
  }
  { CHECK(ReportFile::Create(folder / "unused.svg").ok()); }
  CHECK_FALSE(std::filesystem::exists(folder / "unused.svg"));
  CHECK(ReportFile::Create(folder / "report.pdf").status().code() == StatusCode::kInvalidArgument);
  const auto missing = ReportFile::Create(folder / "missing/report.svg");
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.status().message().starts_with("report: "));
}

TEST_CASE("svg: text, coordinates, ticks") {
  CHECK(XmlText("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#39;");
  CHECK(XmlText("\xc3\xa9\t\x07\xff") == "\xc3\xa9\t\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(Shortened("\xc3\xa9\xc3\xa9\xc3\xa9", 3) == "\xc3\xa9\xc3\xa9\xc3\xa9");
  CHECK(Shortened("\xc3\xa9\xc3\xa9\xc3\xa9", 2) == "\xc3\xa9\xc3\xa9\xe2\x80\xa6");
  SvgCanvas canvas;
  canvas.Rect(1, 2.5, 3.333, 4, 0, "a");
  canvas.Text(-0.001, 7, SvgCanvas::Anchor::kEnd, "b", "<");
  canvas.Circle(1, 2, 3, "c", "tip & more");
  CHECK(canvas.elements() ==
        "<rect class=\"a\" x=\"1\" y=\"2.5\" width=\"3.33\" height=\"4\" rx=\"0\"/>\n"
        "<text class=\"b\" x=\"0\" y=\"7\" text-anchor=\"end\">&lt;</text>\n"
        "<circle class=\"c\" cx=\"1\" cy=\"2\" r=\"3\"><title>tip &amp; more</title></circle>\n");
  CHECK(RoundTicks(10, 5) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(RoundTicks(11, 5) == std::vector<double>{0, 5, 10, 15});
  const auto close = [](const std::vector<double>& ticks, const std::vector<double>& expected) {
    REQUIRE(ticks.size() == expected.size());
    for (size_t i = 0; i < ticks.size(); ++i) CHECK(ticks[i] == Approx(expected[i]));
  };
  close(LogTicks(0.0013, 0.0113), {0.001, 0.002, 0.005, 0.01, 0.02});
  close(LogTicks(0.003, 0.003), {0.002, 0.005});
  close(LogTicks(1, 1), {1, 2});
  close(LogTicks(0.0002, 0.5), {0.0001, 0.001, 0.01, 0.1, 1});
  close(LogTicks(0.06, 0.06 * 39), {0.05, 0.1, 0.2, 0.5, 1, 2, 5});
}

}  // namespace
}  // namespace sdq::converter
