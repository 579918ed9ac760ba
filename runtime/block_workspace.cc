#include <algorithm>

#include "kernels/int8_product.h"
#include "kernels/parallel.h"
#include "runtime/block_buffers.h"

namespace sdq {
namespace {

using Maps = std::vector<std::unique_ptr<kernels::ActivationMap>>;

// Dimensions of the buffers, before there is memory for them.
void Describe(const ModelConfig& config, size_t batch, size_t max_context, const Maps& maps,
              bool int8, BlockWorkspace::Buffers* b) {
  b->batch = batch;
  b->hidden = static_cast<size_t>(config.hidden_size);
  b->query = static_cast<size_t>(config.heads * config.head_dim);
  b->kv = static_cast<size_t>(config.kv_heads * config.head_dim);
  b->ffn = static_cast<size_t>(config.ffn_size);
  b->score_stride = kernels::KvPositions(max_context);
  for (const auto& map : maps) {
    b->scratch_stride = std::max(b->scratch_stride, map->scratch_bytes());
    size_t table_tokens = batch;
    if (int8 && kernels::Int8ProductsAvailable() && kernels::Int8Usable(*map)) {
      table_tokens = std::min(batch, kernels::kInt8LeastTokens);
      b->scratch_stride = std::max(b->scratch_stride, kernels::Int8ScratchBytes(*map, batch));
      b->int8_bytes = std::max(b->int8_bytes, kernels::Int8PreparedBytes(*map, batch));
    }
    b->table_bytes = std::max(b->table_bytes, SaturatingMul(table_tokens, map->table_bytes()));
  }
}

size_t CarveTokens(const ModelConfig& config, uint8_t* base, BlockWorkspace::Buffers* b) {
  Carver carver(base);
  b->normed = carver.Floats(b->batch, b->hidden);
  b->projected = carver.Floats(b->batch, b->hidden);
  b->q = carver.Floats(b->batch, b->query);
  b->k = carver.Floats(b->batch, b->kv);
  b->v = carver.Floats(b->batch, b->kv);
  b->attended = carver.Floats(b->batch, b->query);
  b->up = carver.Floats(b->batch, b->ffn);
  if (config.architecture == Architecture::kLlama) b->gate = carver.Floats(b->batch, b->ffn);
  b->tables = carver.Bytes(b->table_bytes);
  b->int8 = b->int8_bytes == 0 ? nullptr : carver.Bytes(b->int8_bytes);
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
  input = PreparedInput({tables, table_bytes, scratch, int8});
}

BlockWorkspace::BlockWorkspace(const ModelConfig& config, size_t batch, size_t max_context,
                               const Maps& maps, bool int8)
    : buffers_(std::make_unique<Buffers>()) {
  Describe(config, batch, max_context, maps, int8, buffers_.get());
  Buffers& b = *buffers_;
  b.token_memory = AlignedBuffer(CarveTokens(config, nullptr, &b));
  CarveTokens(config, b.token_memory.data(), &b);
  b.FitThreads();
}

BlockWorkspace::~BlockWorkspace() = default;

size_t BlockWorkspace::PlanBytes(const ModelConfig& config, size_t batch, size_t max_context,
                                 const Maps& maps, bool int8) {
  Buffers b;
  Describe(config, batch, max_context, maps, int8, &b);
  return SaturatingAdd(CarveTokens(config, nullptr, &b),
                       CarveThreads(kernels::Threads(), nullptr, &b));
}

size_t BlockWorkspace::bytes() const {
  return buffers_->token_memory.bytes() + buffers_->thread_memory.bytes();
}

size_t BlockWorkspace::batch() const { return buffers_->batch; }

BlockWorkspace::Buffers& BlockWorkspace::buffers() { return *buffers_; }

}  // namespace sdq
