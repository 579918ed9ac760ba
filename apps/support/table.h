// Results as a table, printed for people (Markdown), spreadsheets (CSV) or programs (JSON).
#ifndef SDQ_APPS_SUPPORT_TABLE_H_
#define SDQ_APPS_SUPPORT_TABLE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace sdq::apps {

enum class TableFormat { kMarkdown, kCsv, kJson };

class Table {
 public:
  // Empty, text, count, measurement.
  using Cell = std::variant<std::monostate, std::string, int64_t, double>;

  struct Column {
    std::string name;      // JSON key and CSV heading
    std::string heading;   // Markdown heading; empty: not shown there
    bool numeric = false;  // aligned right
    int decimals = 2;      // of measurements, but in JSON
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell per column.
  void Add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.empty(); }
  // Ends with a newline. CSV: RFC 4180 with a heading line, text quoted. JSON: an array of objects,
  // empty cells are null.
  std::string Format(TableFormat format) const;

 private:
  std::string ToMarkdown() const;
  std::string ToCsv() const;
  std::string ToJson() const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_TABLE_H_
