#include "runtime/activation_map_cache.h"

#include <functional>

namespace sdq {
namespace {

kernels::Decimator DecimatorOf(format::DecimatorKind kind) {
  switch (kind) {
    case format::DecimatorKind::kPolyphase:
      return kernels::Decimator::kPolyphase;
    case format::DecimatorKind::kIdealLowPass:
      return kernels::Decimator::kIdealLowPass;
    case format::DecimatorKind::kIdentity:
      break;
  }
  return kernels::Decimator::kIdentity;
}

kernels::Packing PackingOf(format::Alphabet alphabet) {
  switch (alphabet) {
    case format::Alphabet::kTernaryPlanes:
      return kernels::Packing::kTernaryPlanes;
    case format::Alphabet::kTernaryPacked:
      return kernels::Packing::kTernaryPacked;
    case format::Alphabet::kBinary:
      break;
  }
  return kernels::Packing::kBinary;
}

// Of the fields in which the maps of a model usually differ; equality decides.
size_t HashOf(const kernels::MapSpec& spec) {
  const std::hash<size_t> hash;
  size_t h = hash(spec.columns);
  for (size_t field : {static_cast<size_t>(spec.sign_seed), static_cast<size_t>(spec.osr_num),
                       static_cast<size_t>(spec.osr_den)}) {
    h = h * 0x9E3779B97F4A7C15u + hash(field);
  }
  return h;
}

}  // namespace

kernels::MapSpec MapSpecOf(const format::StreamView& view) {
  kernels::MapSpec spec;
  spec.columns = view.columns;
  if (view.rotation.kind == format::RotationKind::kHadamard) {
    spec.rotation_block = view.rotation.block;
    spec.sign_seed = view.rotation.sign_seed;
  }
  spec.decimator = DecimatorOf(view.decimator.kind);
  spec.osr_num = view.decimator.osr_num;
  spec.osr_den = view.decimator.osr_den;
  spec.window = view.decimator.window;
  spec.lead = view.decimator.lead;
  spec.block = view.decimator.block;
  spec.derived = view.decimator.derived;
  spec.taps = view.decimator.taps;
  spec.packing = PackingOf(view.alphabet);
  spec.block_sums = !view.means_f16.empty();
  return spec;
}

const kernels::ActivationMap* ActivationMapCache::Get(const kernels::MapSpec& spec) {
  const size_t hash = HashOf(spec);
  const auto [begin, end] = by_hash_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    if (it->second->spec() == spec) return it->second;
  }
  maps_.push_back(std::make_unique<kernels::ActivationMap>(spec));
  by_hash_.emplace(hash, maps_.back().get());
  return maps_.back().get();
}

}  // namespace sdq
