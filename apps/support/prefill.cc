#include "apps/support/prefill.h"

#include <algorithm>
#include <map>

#include "kernels/int8_product.h"

namespace sdq::apps {
namespace {

const std::map<std::string, Prefill>& Prefills() {
  static const std::map<std::string, Prefill> prefills = {{"exact", Prefill::kExact},
                                                          {"int8", Prefill::kInt8}};
  return prefills;
}

}  // namespace

void AddPrefillOption(CLI::App& app, Prefill* prefill) {
  const auto set = [prefill](const std::string& name) { *prefill = Prefills().at(name); };
  app.add_option_function<std::string>(
         "--prefill", set,
         "prompts: exact (default), as single tokens are computed, or int8, faster and rounded "
         "differently")
      ->check(CLI::IsMember(Prefills()));
}

std::string PrefillName(Prefill prefill) { return prefill == Prefill::kInt8 ? "int8" : "exact"; }

std::string WhyExact(const Model& model) {
  if (!kernels::Int8ProductsAvailable()) return "no int8 kernels for this target";
  const auto usable = [](const auto& map) { return kernels::Int8Usable(*map); };
  if (std::any_of(model.maps().begin(), model.maps().end(), usable)) return "";
  return "no bitstreams that int8 kernels can read";
}

}  // namespace sdq::apps
