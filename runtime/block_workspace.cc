#include <algorithm>

#include "kernels/parallel.h"
#include "runtime/block_buffers.h"

namespace sdq {
namespace {

using Maps = std::vector<std::unique_ptr<kernels::ActivationMap>>;

// Dimensions of the buffers, before there is memory for them.
void Describe(const ModelConfig& config, size_t batch, size_t max_context, const Maps& maps,
              BlockWorkspace::Buffers* b) {
  b->batch = batch;
  b->hidden = static_cast<size_t>(config.hidden_size);
  b->query = static_cast<size_t>(config.heads * config.head_dim);
  b->kv = static_cast<size_t>(config.kv_heads * config.head_dim);
  b->ffn = static_cast<size_t>(config.ffn_size);
  b->score_stride = kernels::KvPositions(max_context);
  for (const auto& map : maps)
    b->scratch_stride = std::max(b->scratch_stride, map->scratch_bytes());
}

size_t LargestTable(const Maps& maps) {
  size_t bytes = 0;
  for (const auto& map : maps) bytes = std::max(bytes, map->table_bytes());
  return bytes;
}

size_t CarveTokens(const ModelConfig& config, size_t table_bytes, uint8_t* base,
                   BlockWorkspace::Buffers* b) {
  Carver carver(base);
  b->normed = carver.Floats(b->batch, b->hidden);
  b->projected = carver.Floats(b->batch, b->hidden);
  b->q = carver.Floats(b->batch, b->query);
  b->k = carver.Floats(b->batch, b->kv);
  b->v = carver.Floats(b->batch, b->kv);
  b->attended = carver.Floats(b->batch, b->query);
  b->up = carver.Floats(b->batch, b->ffn);
  if (config.architecture == Architecture::kLlama) b->gate = carver.Floats(b->batch, b->ffn);
  b->tables = carver.Bytes(SaturatingMul(b->batch, table_bytes));
  return carver.used();
}

size_t CarveThreads(size_t threads, uint8_t* base, BlockWorkspace::Buffers* b) {
  Carver carver(base);
  b->scores = carver.Floats(SaturatingMul(threads, kAttentionTile), b->score_stride);
  b->scratch = carver.Bytes(SaturatingMul(threads, b->scratch_stride));
  return carver.used();
}

}  // namespace

void BlockWorkspace::Buffers::FitThreads() {
  const size_t wanted = kernels::Threads();
  if (wanted <= threads) return;
  threads = 0;  // nothing usable until the allocation has succeeded
  thread_memory = AlignedBuffer(CarveThreads(wanted, nullptr, this));
  CarveThreads(wanted, thread_memory.data(), this);
  threads = wanted;
  input = PreparedInput(tables, scratch);
}

BlockWorkspace::BlockWorkspace(const ModelConfig& config, size_t batch, size_t max_context,
                               const Maps& maps)
    : buffers_(std::make_unique<Buffers>()) {
  Describe(config, batch, max_context, maps, buffers_.get());
  const size_t table_bytes = LargestTable(maps);
  Buffers& b = *buffers_;
  b.token_memory = AlignedBuffer(CarveTokens(config, table_bytes, nullptr, &b));
  CarveTokens(config, table_bytes, b.token_memory.data(), &b);
  b.FitThreads();
}

BlockWorkspace::~BlockWorkspace() = default;

size_t BlockWorkspace::PlanBytes(const ModelConfig& config, size_t batch, size_t max_context,
                                 const Maps& maps) {
  Buffers b;
  Describe(config, batch, max_context, maps, &b);
  return SaturatingAdd(CarveTokens(config, LargestTable(maps), nullptr, &b),
                       CarveThreads(kernels::Threads(), nullptr, &b));
}

size_t BlockWorkspace::bytes() const {
  return buffers_->token_memory.bytes() + buffers_->thread_memory.bytes();
}

size_t BlockWorkspace::batch() const { return buffers_->batch; }

BlockWorkspace::Buffers& BlockWorkspace::buffers() { return *buffers_; }

}  // namespace sdq
