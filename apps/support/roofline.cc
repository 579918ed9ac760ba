#include "apps/support/roofline.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <vector>

#include "apps/support/machine.h"
#include "apps/support/model_bytes.h"
#include "kernels/parallel.h"
#include "kernels/stream_product.h"
#include "runtime/aligned_buffer.h"

namespace sdq::apps {
namespace {

constexpr double kSeconds = 0.02;  // per measurement
constexpr size_t kCachedBytesPerThread = size_t{512} << 10;
constexpr size_t kTileRows = kernels::kTileRows;

// A few activations for matrices of up to `columns` columns.
std::vector<float> Activations(size_t tokens, size_t columns) {
  std::vector<float> x(tokens * columns);
  uint32_t state = 1;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = float(state >> 8) * 0x1p-23f - 1.0f;
  }
  return x;
}

struct MapCost {
  double prepare = 0;             // seconds per token
  double seconds_per_sample = 0;  // of a row, per token
};

// Measures one map of the model with the first rows of a linear that uses it.
class Measurer {
 public:
  explicit Measurer(size_t batch) : batch_(batch) {}

  const MapCost& Of(const Linear& linear) {
    const auto found = costs_.find(linear.map);
    if (found != costs_.end()) return found->second;
    return costs_.emplace(linear.map, Measure(linear)).first->second;
  }

  double Dense(const Linear& linear, size_t tokens) const {
    kernels::DenseMatrix part = linear.dense;
    const size_t element = part.type == kernels::ElementType::kQ8    ? 1
                           : part.type == kernels::ElementType::kF32 ? 4
                                                                     : 2;
    part.rows = std::min(part.rows, Rows(element * part.columns));
    const std::vector<float> x = Activations(tokens, part.columns);
    std::vector<float> y(tokens * part.rows);
    const double seconds = SecondsPerCall(
        [&] { kernels::DenseProduct(part, x.data(), tokens, part.columns, y.data(), part.rows); },
        kSeconds);
    return seconds * double(linear.rows) / double(part.rows);
  }

 private:
  // Rows of `row_bytes` bytes that fit the threads' caches: whole groups of tiles.
  static size_t Rows(size_t row_bytes) {
    const size_t group = 8 * kTileRows * kernels::Threads();
    return std::max(group, kCachedBytesPerThread * kernels::Threads() / row_bytes / group * group);
  }

  MapCost Measure(const Linear& linear) const {
    const kernels::ActivationMap& map = *linear.map;
    const size_t columns = linear.columns;
    const std::vector<float> x = Activations(batch_, columns);
    const kernels::TableForm form = kernels::FasterTableForm(batch_);
    const AlignedBuffer tables(batch_ * map.table_bytes());
    const AlignedBuffer scratch(kernels::Threads() * map.scratch_bytes());
    MapCost cost;
    cost.prepare =
        SecondsPerCall(
            [&] {
              map.PrepareTables(x.data(), batch_, columns, form, tables.data(), scratch.data());
            },
            kSeconds) /
        double(batch_);
    kernels::StreamMatrix part = linear.stream;
    part.rows = std::min(linear.rows, Rows(map.layout().tile_bytes() / kTileRows));
    std::vector<float> y(batch_ * part.rows);
    const double seconds = SecondsPerCall(
        [&] {
          kernels::StreamProduct(part, map, form, tables.data(), batch_, y.data(), part.rows);
        },
        kSeconds);
    cost.seconds_per_sample =
        seconds / double(batch_) / double(part.rows) / double(map.layout().row_samples);
    return cost;
  }

  size_t batch_;
  std::map<const kernels::ActivationMap*, MapCost> costs_;
};

double HandOffSeconds() {
  if (kernels::Threads() == 1) return 0;
  return SecondsPerCall(
      [] { kernels::ParallelFor(kernels::Threads(), 1, [](size_t, size_t, size_t) {}); }, kSeconds);
}

// Linears that share an input, in the order of evaluation.
std::vector<std::vector<const Linear*>> Inputs(const LayerWeights& layer) {
  std::vector<std::vector<const Linear*>> inputs = {
      {&layer.q, &layer.k, &layer.v}, {&layer.o}, {&layer.gate, &layer.up}, {&layer.down}};
  for (auto& group : inputs) std::erase_if(group, [](const Linear* l) { return l->rows == 0; });
  return inputs;
}

}  // namespace

double Roofline::Bound() const {
  return std::max(memory, streams + dense) + activations + hand_offs;
}

std::string Roofline::BoundBy() const {
  const std::array<std::pair<double, const char*>, 5> terms = {{{memory, "memory"},
                                                                {streams, "stream kernels"},
                                                                {dense, "dense kernels"},
                                                                {activations, "activations"},
                                                                {hand_offs, "thread hand-offs"}}};
  return std::max_element(terms.begin(), terms.end())->second;
}

Roofline MeasureRoofline(const Model& model, size_t batch, size_t prompt, double bytes_per_second) {
  Roofline roofline;
  roofline.memory = double(WeightBytesPerToken(model)) / bytes_per_second / double(batch);
  Measurer measurer(batch);
  size_t regions = 1;  // the head
  double samples = 0;
  for (const LayerWeights& layer : model.weights().layers) {
    for (const auto& group : Inputs(layer)) {
      std::set<const kernels::ActivationMap*> maps;  // one region each
      for (const Linear* linear : group) {
        if (!linear->is_stream()) {
          ++regions;
          roofline.dense += measurer.Dense(*linear, batch) / double(batch);
          continue;
        }
        const MapCost& cost = measurer.Of(*linear);
        const double count = double(linear->rows) * double(linear->map->layout().row_samples);
        roofline.streams += count * cost.seconds_per_sample;
        samples += count;
        if (maps.insert(linear->map).second) roofline.activations += cost.prepare;
      }
      regions += maps.size();
    }
    ++regions;  // attention
  }
  const ModelWeights& weights = model.weights();
  const double share = 1.0 / double(prompt);
  if (!weights.head.is_stream()) roofline.dense += measurer.Dense(weights.head, 1) * share;
  for (const Linear* projection : {&weights.project_in, &weights.project_out}) {
    if (projection->rows == 0 || projection->is_stream()) continue;
    roofline.dense += measurer.Dense(*projection, batch) / double(batch);
  }
  roofline.hand_offs = HandOffSeconds() * double(regions) / double(batch);
  if (roofline.streams > 0) roofline.samples_per_second = samples / roofline.streams;
  return roofline;
}

}  // namespace sdq::apps
