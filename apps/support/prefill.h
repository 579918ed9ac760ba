// --prefill: which arithmetic prompts are computed with.
#ifndef SDQ_APPS_SUPPORT_PREFILL_H_
#define SDQ_APPS_SUPPORT_PREFILL_H_

#include <CLI/CLI.hpp>
#include <string>

#include "runtime/session.h"

namespace sdq::apps {

// Adds --prefill.
void AddPrefillOption(CLI::App& app, Prefill* prefill);

// As --prefill names it.
std::string PrefillName(Prefill prefill);

// Why Prefill::kInt8 changes nothing for this model and the target in use; empty if it does.
std::string WhyExact(const Model& model);

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_PREFILL_H_
