// An allocation for people to read.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "converter/allocate.h"

namespace sdq::converter {
namespace {

// "layers.3.attn.q" of layer 3 is "attn.q"; any other name stays as it is.
std::string KindOf(const AllocationItem& item) {
  const std::string prefix = fmt::format("layers.{}.", item.layer);
  return item.name.starts_with(prefix) ? item.name.substr(prefix.size()) : item.name;
}

// Rates have few digits: 2, 1.75, 2.333.
std::string RateText(const Rate& rate) { return fmt::format("{:.4g}", rate.osr()); }

}  // namespace

std::string FormatAllocation(const std::vector<AllocationItem>& items,
                             const std::vector<NamedRate>& rates) {
  std::vector<std::string> kinds;  // in order of appearance
  std::map<uint32_t, std::map<std::string, std::string>> cells;
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string kind = KindOf(items[i]);
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
    cells[items[i].layer][kind] = RateText(rates[i].rate);
  }
  std::string table = fmt::format("{:>5}", "layer");
  for (const std::string& kind : kinds) table += fmt::format("  {:>8}", kind);
  table += '\n';
  for (auto& [layer, row] : cells) {
    table += fmt::format("{:>5}", layer);
    for (const std::string& kind : kinds) {
      table += fmt::format("  {:>{}}", row[kind], std::max<size_t>(8, kind.size()));
    }
    table += '\n';
  }
  return table + fmt::format("mean OSR {:.4f}\n", MeanOsr(items, rates));
}

}  // namespace sdq::converter
