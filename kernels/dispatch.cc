#include "kernels/dispatch.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "hwy/highway.h"
#include "hwy/targets.h"
#include "kernels/tile_session.h"

namespace sdq::kernels {
namespace {

struct Target {
  std::string name;
  int64_t highway = 0;  // Highway's bit; 0 = its fallback
  Extension extension = Extension::kNone;
};

bool HasVbmi() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

bool HasGfni() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("gfni");
#else
  return false;
#endif
}

std::vector<Target> ListTargets() {
  std::vector<Target> targets;
  const int64_t fallbacks = HWY_SCALAR | HWY_EMU128;
  for (const int64_t bit : hwy::SupportedAndGeneratedTargets()) {
    if ((bit & fallbacks) != 0) continue;
    const std::string name = hwy::TargetName(bit);
    if (name == "AVX3" && HasVbmi()) {
      if (TileUnitGranted()) targets.push_back({"AVX3_AMX", bit, Extension::kAmx});
      targets.push_back({"AVX3_VBMI", bit, Extension::kVbmi});
    }
    if (name == "AVX2" && HasGfni()) targets.push_back({"AVX2_GFNI", bit, Extension::kGfni});
    targets.push_back({name, bit, Extension::kNone});
  }
  targets.push_back({"SCALAR", 0, Extension::kReference});
  return targets;
}

struct State {
  std::vector<Target> targets = ListTargets();
  std::atomic<size_t> active{0};

  State() {
    const char* forced = std::getenv("SDQ_TARGET");
    if (forced == nullptr || !Force(forced)) Force("");
  }

  bool Force(std::string_view name) {
    for (size_t i = 0; i < targets.size(); ++i) {
      if (!name.empty() && targets[i].name != name) continue;
      hwy::GetChosenTarget().Update(targets[i].highway);
      active.store(i, std::memory_order_relaxed);
      return true;
    }
    return false;
  }
  const Target& Active() const { return targets[active.load(std::memory_order_relaxed)]; }
};

State& GetState() {
  static State state;
  return state;
}

// Kernels that ask only Highway must find SDQ_TARGET obeyed too, whichever of them runs first.
[[maybe_unused]] const State& at_program_start = GetState();

}  // namespace

std::vector<std::string> AvailableTargets() {
  std::vector<std::string> names;
  for (const Target& target : GetState().targets) names.push_back(target.name);
  return names;
}

std::string TargetName() { return GetState().Active().name; }

bool ForceTarget(std::string_view name) { return GetState().Force(name); }

Extension ActiveExtension() { return GetState().Active().extension; }

}  // namespace sdq::kernels
