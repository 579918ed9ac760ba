// Random sigma-delta matrices and activations for the stream kernels' tests.
#ifndef SDQ_TESTS_KERNELS_STREAM_FIXTURE_H_
#define SDQ_TESTS_KERNELS_STREAM_FIXTURE_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/activation.h"
#include "kernels/aligned_buffer.h"
#include "kernels/dispatch.h"
#include "kernels/float16.h"
#include "kernels/parallel.h"
#include "kernels/stream_product.h"

namespace sdq::test {

// One thread, best target; both as they were at the end of the scope.
class KernelState {
 public:
  KernelState() : target_(kernels::TargetName()), threads_(kernels::Threads()) {
    kernels::SetThreads(1);
  }
  ~KernelState() {
    kernels::ForceTarget(target_);
    kernels::SetThreads(threads_);
  }
  KernelState(const KernelState&) = delete;
  KernelState& operator=(const KernelState&) = delete;

 private:
  std::string target_;
  size_t threads_;
};

inline std::vector<float> RandomFloats(std::mt19937_64& random, size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

inline kernels::MapSpec PolyphaseSpec(std::mt19937_64& random, size_t columns, uint32_t p,
                                      uint32_t q, uint32_t window, uint32_t lead) {
  kernels::MapSpec spec;
  spec.columns = columns;
  spec.decimator = kernels::Decimator::kPolyphase;
  spec.osr_num = p;
  spec.osr_den = q;
  spec.window = window;
  spec.lead = lead;
  spec.taps = RandomFloats(random, size_t{q} * window);
  return spec;
}

// Owns everything that a StreamMatrix points to.
struct RandomMatrix {
  RandomMatrix(std::mt19937_64& random, const kernels::StreamLayout& layout,
               kernels::Packing packing, size_t rows, bool per_block, bool with_means,
               bool with_bias) {
    const size_t tiles = (rows + 15) / 16;
    bits.resize(tiles * layout.tile_bytes() + 64);
    for (uint8_t& byte : bits) {
      byte = static_cast<uint8_t>(packing == kernels::Packing::kTernaryPacked
                                      ? random() % 27 + 28 * (random() % 9)
                                      : random());
    }
    const size_t count = rows * (per_block ? layout.blocks : 1);
    std::uniform_real_distribution<float> uniform(0.5f, 2.0f);
    for (size_t i = 0; i < count; ++i) {
      scales.push_back(kernels::F16FromF32(uniform(random)));
      means.push_back(kernels::F16FromF32(uniform(random) - 1.2f));
    }
    bias = RandomFloats(random, rows);
    view.bits = bits.data();
    view.rows = rows;
    view.scales_f16 = scales.data();
    view.scale_base = 0.75f;
    view.per_block = per_block;
    view.means_f16 = with_means ? means.data() : nullptr;
    view.mean_base = 0.3f;
    view.bias = with_bias ? bias.data() : nullptr;
  }
  std::vector<uint8_t> bits;
  std::vector<uint16_t> scales, means;
  std::vector<float> bias;
  kernels::StreamMatrix view;
};

enum class Method { kTables, kTiles, kPopcount };
inline constexpr Method kMethods[] = {Method::kTables, Method::kTiles, Method::kPopcount};
inline kernels::TableForm FormOf(Method method) {
  return method == Method::kTiles ? kernels::TableForm::kTiles : kernels::TableForm::kLookUp;
}

struct ProductResult {
  std::vector<uint8_t> prepared;
  std::vector<float> y;  // [tokens][rows]
};

inline ProductResult RunProduct(const kernels::StreamMatrix& w, const kernels::ActivationMap& map,
                                const std::vector<float>& x, size_t tokens, Method method) {
  const bool tables = method != Method::kPopcount;
  const size_t token_bytes = tables ? map.table_bytes() : kernels::PlaneBytes(map);
  const size_t columns = map.spec().columns;
  kernels::AlignedFloats prepared(tokens * token_bytes / sizeof(float));
  kernels::AlignedFloats scratch(kernels::Threads() * map.scratch_bytes() / sizeof(float));
  uint8_t* bytes = reinterpret_cast<uint8_t*>(prepared.data());
  uint8_t* scratch_bytes = reinterpret_cast<uint8_t*>(scratch.data());
  std::fill(bytes, bytes + tokens * token_bytes, uint8_t{0});
  ProductResult result;
  result.y.assign(tokens * w.rows, -1e30f);
  if (tables) {
    map.PrepareTables(x.data(), tokens, columns, FormOf(method), bytes, scratch_bytes);
    kernels::StreamProduct(w, map, FormOf(method), bytes, tokens, result.y.data(), w.rows);
  } else {
    kernels::PreparePlanes(map, x.data(), tokens, columns, bytes, scratch_bytes);
    kernels::StreamProductPopcount(w, map, bytes, tokens, result.y.data(), w.rows);
  }
  result.prepared.assign(bytes, bytes + tokens * token_bytes);
  return result;
}

}  // namespace sdq::test

#endif  // SDQ_TESTS_KERNELS_STREAM_FIXTURE_H_
