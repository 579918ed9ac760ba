#include "apps/support/table.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fmt/format.h"

namespace sdq::apps {
namespace {

std::string Text(const Table::Cell& cell, int decimals) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* count = std::get_if<int64_t>(&cell)) return fmt::format("{}", *count);
  if (const auto* number = std::get_if<double>(&cell))
    return fmt::format("{:.{}f}", *number, decimals);
  return "";
}

std::string Quoted(const std::string& text) {
  std::string out(1, '"');
  for (const char c : text) out.append(c == '"' ? 2 : 1, c);
  out.push_back('"');
  return out;
}

// A bar would end the cell.
std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

}  // namespace

std::string Table::Format(TableFormat format) const {
  switch (format) {
    case TableFormat::kMarkdown:
      return ToMarkdown();
    case TableFormat::kCsv:
      return ToCsv();
    case TableFormat::kJson:
      return ToJson();
  }
  return "";
}

std::string Table::ToMarkdown() const {
  std::string lines[2];
  std::vector<size_t> widths(columns_.size());
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (columns_[c].heading.empty()) continue;
    widths[c] = columns_[c].heading.size();
    for (const auto& row : rows_) {
      widths[c] = std::max(widths[c], Escaped(Text(row[c], columns_[c].decimals)).size());
    }
    const bool right = columns_[c].numeric;
    lines[0] += right ? fmt::format("| {:>{}} ", columns_[c].heading, widths[c])
                      : fmt::format("| {:<{}} ", columns_[c].heading, widths[c]);
    lines[1] += fmt::format("|{}{}", std::string(widths[c] + 1, '-'), right ? ":" : "-");
  }
  std::string text = lines[0] + "|\n" + lines[1] + "|\n";
  for (const auto& row : rows_) {
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (columns_[c].heading.empty()) continue;
      const std::string cell = Escaped(Text(row[c], columns_[c].decimals));
      text += columns_[c].numeric ? fmt::format("| {:>{}} ", cell, widths[c])
                                  : fmt::format("| {:<{}} ", cell, widths[c]);
    }
    text += "|\n";
  }
  return text;
}

std::string Table::ToCsv() const {
  std::string text;
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (c > 0) text += ',';
    text += Quoted(columns_[c].name);
  }
  text += '\n';
  for (const auto& row : rows_) {
    for (size_t c = 0; c < columns_.size(); ++c) {
      const std::string cell = Text(row[c], columns_[c].decimals);
      const bool quote = std::holds_alternative<std::string>(row[c]);
      if (c > 0) text += ',';
      text += quote ? Quoted(cell) : cell;
    }
    text += '\n';
  }
  return text;
}

std::string Table::ToJson() const {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const auto& row : rows_) {
    nlohmann::ordered_json object;
    for (size_t c = 0; c < columns_.size(); ++c) {
      std::visit(
          [&](const auto& value) {
            if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>) {
              object[columns_[c].name] = nullptr;
            } else {
              object[columns_[c].name] = value;
            }
          },
          row[c]);
    }
    array.push_back(std::move(object));
  }
  return array.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sdq::apps
