#include "converter/regex_syntax.h"

#include <fmt/format.h>

#include <algorithm>

namespace sdq::converter {
namespace {

// PCRE2's own \s and \w are other sets: it counts U+180E as a space and no marks as word
// characters.
constexpr std::string_view kSpaceSet =
    "\\x{09}-\\x{0D} \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}"
    "\\x{3000}";
constexpr std::string_view kWordSet = "\\p{L}\\p{M}\\p{N}\\p{Pc}";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> Run() {
    while (at_ < in_.size()) SDQ_RETURN_IF_ERROR(in_class_ ? InClass() : Outside());
    return std::move(out_);
  }

 private:
  Status Unsupported(const char* what) const {
    return Status::Unsupported(fmt::format("pattern '{}': {} at byte {}", in_, what, at_));
  }

  bool Ahead(std::string_view text) const { return in_.substr(at_, text.size()) == text; }

  void Copy(size_t bytes) {
    out_.append(in_.substr(at_, bytes));
    at_ += std::min(bytes, in_.size() - at_);
  }

  Status Outside() {
    switch (in_[at_]) {
      case '\\':
        return Escape();
      case '[':
        return OpenClass();
      case '(':
        return Group();
      case '}':
        if (Ahead("}+")) return Unsupported("an interval followed by '+'");
        break;
      default:
        break;
    }
    Copy(1);
    return Status::Ok();
  }

  Status OpenClass() {
    in_class_ = true;
    Copy(Ahead("[^") ? 2 : 1);
    if (at_ < in_.size() && in_[at_] == ']') return Unsupported("']' first in a class");
    return Status::Ok();
  }

  Status InClass() {
    if (Ahead("&&")) return Unsupported("an intersection of classes");
    switch (in_[at_]) {
      case '\\':
        return Escape();
      case '[': {
        const size_t end = in_.find(":]", at_);
        if (!Ahead("[:") || end == std::string_view::npos) return Unsupported("a nested class");
        Copy(end + 2 - at_);
        return Status::Ok();
      }
      case ']':
        in_class_ = false;
        break;
      default:
        break;
    }
    Copy(1);
    return Status::Ok();
  }

  // In this syntax (?m) makes the dot match newlines, which PCRE2 calls (?s).
  Status Group() {
    if (Ahead("(*")) return Unsupported("a verb");
    if (Ahead("(?")) {
      const size_t end = in_.find_first_not_of("imsx-", at_ + 2);
      const bool flags =
          end != std::string_view::npos && end > at_ + 2 && (in_[end] == ')' || in_[end] == ':');
      const std::string_view given = flags ? in_.substr(at_, end - at_) : std::string_view();
      if (given.find_first_of("msx") != std::string_view::npos) {
        return Unsupported("an inline flag other than i");
      }
    }
    Copy(1);
    return Status::Ok();
  }

  void Put(std::string_view set, bool negated) {
    if (!in_class_) out_ += negated ? "[^" : "[";
    out_.append(set);
    if (!in_class_) out_ += ']';
    at_ += 2;
  }

  Status Escape() {
    if (at_ + 1 >= in_.size()) return Unsupported("a backslash at the end");
    const char c = in_[at_ + 1];
    switch (c) {
      case 's':
        Put(kSpaceSet, false);
        return Status::Ok();
      case 'w':
        Put(kWordSet, false);
        return Status::Ok();
      case 'S':
      case 'W':
        if (in_class_) break;  // a negated set has no list form
        Put(c == 'S' ? kSpaceSet : kWordSet, true);
        return Status::Ok();
      case 'v':
        out_ += "\\x{0B}";
        at_ += 2;
        return Status::Ok();
      case 'Q':
      case 'E':
        out_ += c;
        at_ += 2;
        return Status::Ok();
      case 'u':
        return UnicodeEscape();
      case 'h':
      case 'H':
      case 'N':
      case 'O':
      case 'y':
      case 'Y':
      case 'K':
        return Unsupported("an escape that means something else elsewhere");
      case 'p':
      case 'P':
      case 'x':
        if (in_.substr(at_ + 2, 1) == "{") {
          const size_t end = in_.find('}', at_);
          if (end == std::string_view::npos) return Unsupported("an unclosed brace");
          Copy(end + 1 - at_);
          return Status::Ok();
        }
        break;
      default:
        break;
    }
    Copy(2);
    return Status::Ok();
  }

  Status UnicodeEscape() {
    const std::string_view digits = in_.substr(at_ + 2, 4);
    if (digits.size() != 4 ||
        digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) {
      return Unsupported("\\u without four hexadecimal digits");
    }
    out_ += fmt::format("\\x{{{}}}", digits);
    at_ += 6;
    return Status::Ok();
  }

  std::string_view in_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

Result<std::string> PcreFromOniguruma(std::string_view pattern) {
  return Translator(pattern).Run();
}

std::string PcreLiteral(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.[]|()?*+{}-#").find(c) != std::string_view::npos) out += '\\';
    if (c == '\0') {
      out += "\\x{00}";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace sdq::converter
