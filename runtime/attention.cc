#include "runtime/attention.h"

#include <algorithm>
#include <array>

#include "kernels/parallel.h"
#include "runtime/block_buffers.h"

namespace sdq {
namespace {

// Where a head's position begins.
uint8_t* At(void* cache, const KvLayer& kv, size_t kv_head, size_t position, size_t dim) {
  const size_t element = (kv_head * kv.positions + position) * dim;
  return static_cast<uint8_t*>(cache) + element * kernels::KvElementBytes(kv.type);
}

// The cached positions of a KV head.
kernels::KvRows RowsOf(const KvLayer& kv, size_t kv_head, size_t dim) {
  kernels::KvRows rows{At(kv.keys, kv, kv_head, 0, dim), At(kv.values, kv, kv_head, 0, dim),
                       kv.type, dim};
  if (kv.type == kernels::KvType::kQ8) {
    rows.key_scales = kv.key_scales + kv_head * kv.positions;
    rows.value_scales = kv.value_scales + kv_head * kv.positions;
  }
  return rows;
}

void Rotate(const KvLayer& kv, float* head) {
  if (kv.rotation != nullptr) kv.rotation->Apply(head);
}
void RotateBack(const KvLayer& kv, float* head) {
  if (kv.rotation != nullptr) kv.rotation->Inverse(head);
}

}  // namespace

void StoreKeysAndValues(const ModelConfig& config, float* keys, float* values,
                        size_t first_position, size_t tokens, const KvLayer& kv) {
  const size_t dim = static_cast<size_t>(config.head_dim);
  const size_t kv_heads = static_cast<size_t>(config.kv_heads);
  const size_t kv_width = kv_heads * dim;
  const auto store = [&](float* x, void* cache, float* scales, size_t token, size_t head) {
    float* from = x + token * kv_width + head * dim;
    const size_t position = first_position + token;
    uint8_t* to = At(cache, kv, head, position, dim);
    if (kv.type != kernels::KvType::kQ8) return kernels::StoreKv(from, dim, kv.type, to);
    Rotate(kv, from);
    scales[head * kv.positions + position] =
        kernels::StoreKvQ8(from, dim, reinterpret_cast<int8_t*>(to));
  };
  kernels::ParallelFor(tokens, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      for (size_t head = 0; head < kv_heads; ++head) {
        store(keys, kv.keys, kv.key_scales, t, head);
        store(values, kv.values, kv.value_scales, t, head);
      }
    }
  });
}

void Attend(const ModelConfig& config, const KvLayer& kv, size_t first_position, size_t tokens,
            float* q, BlockWorkspace::Buffers& buffers, float* out) {
  const size_t dim = static_cast<size_t>(config.head_dim);
  const size_t heads = static_cast<size_t>(config.heads);
  const size_t group = heads / static_cast<size_t>(config.kv_heads);
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
        Rotate(kv, q + at);
        tile[j] = {q + at, first_position + token + 1, scores + j * buffers.score_stride, out + at};
      }
      kernels::Attend({tile.data(), count}, RowsOf(kv, kv_head, dim), dim);
      for (size_t j = 0; j < count; ++j) RotateBack(kv, tile[j].out);
    }
  };
  // Multiply-adds that are worth a hand-off.
  constexpr size_t kWorthwhile = size_t{1} << 16;
  const size_t items = kv_heads * tiles;
  const size_t pieces = 2 * heads * tokens * dim * (first_position + tokens) / kWorthwhile;
  kernels::ParallelFor(items, items / std::clamp<size_t>(pieces, 1, items), attend);
}

void AttendStep(const ModelConfig& config, std::span<const KvLayer> caches,
                std::span<const size_t> positions, float* q, BlockWorkspace::Buffers& buffers,
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
      Rotate(kv, q + at);
      const kernels::AttentionQuery query{q + at, positions[token] + 1, scores, out + at};
      kernels::Attend({&query, 1}, RowsOf(kv, head / group, dim), dim);
      RotateBack(kv, out + at);
    }
  });
}

}  // namespace sdq
