// One ActivationMap per distinct MapSpec of a model, so that linears with equal maps (q, k and v;
// gate and up) share one prepared activation.
#ifndef SDQ_RUNTIME_ACTIVATION_MAP_CACHE_H_
#define SDQ_RUNTIME_ACTIVATION_MAP_CACHE_H_

#include <cstddef>
#include <memory>
#include <unordered_map>
#include <vector>

#include "format/tensor.h"
#include "kernels/activation.h"

namespace sdq {

// A file's description of a stream in the kernels' terms.
kernels::MapSpec MapSpecOf(const format::StreamView& view);

class ActivationMapCache {
 public:
  // The map of this spec, made if need be; lives as long as the cache.
  const kernels::ActivationMap* Get(const kernels::MapSpec& spec);
  const std::vector<std::unique_ptr<kernels::ActivationMap>>& maps() const { return maps_; }

 private:
  std::vector<std::unique_ptr<kernels::ActivationMap>> maps_;
  std::unordered_multimap<size_t, const kernels::ActivationMap*> by_hash_;
};

}  // namespace sdq

#endif  // SDQ_RUNTIME_ACTIVATION_MAP_CACHE_H_
