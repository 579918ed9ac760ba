#include "runtime/attention.h"

#include <algorithm>
#include <array>

#include "kernels/parallel.h"
#include "runtime/block_buffers.h"

namespace sdq {
namespace {

size_t ElementBytes(kernels::KvType type) {
  return type == kernels::KvType::kF16 ? sizeof(uint16_t) : sizeof(float);
}

uint8_t* At(void* cache, kernels::KvType type, size_t element) {
  return static_cast<uint8_t*>(cache) + element * ElementBytes(type);
}

}  // namespace

void StoreKeysAndValues(const float* keys, const float* values, size_t kv_width,
                        size_t first_position, size_t tokens, const KvLayer& kv) {
  const size_t first = first_position * kv_width;
  kernels::StoreKv(keys, tokens * kv_width, kv.type, At(kv.keys, kv.type, first));
  kernels::StoreKv(values, tokens * kv_width, kv.type, At(kv.values, kv.type, first));
}

void Attend(const ModelConfig& config, const KvLayer& kv, size_t first_position, size_t tokens,
            const float* q, BlockWorkspace::Buffers& buffers, float* out) {
  const size_t dim = static_cast<size_t>(config.head_dim);
  const size_t heads = static_cast<size_t>(config.heads);
  const size_t group = heads / static_cast<size_t>(config.kv_heads);
  const size_t kv_width = buffers.kv;
  const size_t kv_heads = static_cast<size_t>(config.kv_heads);
  // The queries of a KV head, tokens ascending, in tiles that read keys and values together.
  // Heads in the outer place: a thread's consecutive tiles read the same keys and values, and every
  // thread gets its share of late (long) and early (short) tokens.
  const size_t queries = tokens * group, tiles = (queries + kAttentionTile - 1) / kAttentionTile;
  const auto attend = [&](size_t begin, size_t end, size_t thread) {
    float* scores = buffers.scores + thread * kAttentionTile * buffers.score_stride;
    for (size_t i = begin; i < end; ++i) {
      const size_t kv_head = i / tiles, first = i % tiles * kAttentionTile;
      const size_t count = std::min(kAttentionTile, queries - first);
      std::array<kernels::AttentionQuery, kAttentionTile> tile;
      for (size_t j = 0; j < count; ++j) {
        const size_t token = (first + j) / group, head = kv_head * group + (first + j) % group;
        const size_t at = token * buffers.query + head * dim;
        tile[j] = {q + at, first_position + token + 1, scores + j * buffers.score_stride, out + at};
      }
      const size_t column = kv_head * dim;
      kernels::Attend({tile.data(), count}, At(kv.keys, kv.type, column),
                      At(kv.values, kv.type, column), kv.type, kv_width, dim);
    }
  };
  // Multiply-adds that are worth a hand-off.
  constexpr size_t kWorthwhile = size_t{1} << 16;
  const size_t items = kv_heads * tiles;
  const size_t pieces = 2 * heads * tokens * dim * (first_position + tokens) / kWorthwhile;
  kernels::ParallelFor(items, items / std::clamp<size_t>(pieces, 1, items), attend);
}

void AttendStep(const ModelConfig& config, std::span<const KvLayer> caches,
                std::span<const size_t> positions, const float* q, BlockWorkspace::Buffers& buffers,
                float* out) {
  const size_t dim = static_cast<size_t>(config.head_dim);
  const size_t heads = static_cast<size_t>(config.heads);
  const size_t group = heads / static_cast<size_t>(config.kv_heads);
  kernels::ParallelFor(heads * caches.size(), 1, [&](size_t begin, size_t end, size_t thread) {
    float* scores = buffers.scores + thread * kAttentionTile * buffers.score_stride;
    for (size_t i = begin; i < end; ++i) {
      const size_t token = i / heads, head = i % heads;
      const KvLayer& kv = caches[token];
      const size_t at = token * buffers.query + head * dim;
      const size_t column = head / group * dim;
      kernels::AttendHead(q + at, At(kv.keys, kv.type, column), At(kv.values, kv.type, column),
                          kv.type, buffers.kv, positions[token] + 1, dim, scores, out + at);
    }
  });
}

}  // namespace sdq
