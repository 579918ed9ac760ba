#include "runtime/attention.h"

#include <algorithm>
#include <array>

#include "kernels/attention.h"
#include "kernels/parallel.h"
#include "runtime/block_buffers.h"

namespace sdq {
namespace {

// Where a head begins.
uint8_t* At(void* cache, const KvLayer& kv, size_t kv_head, size_t dim) {
  const size_t element = kv_head * kv.positions * dim;
  return static_cast<uint8_t*>(cache) + element * kernels::KvElementBytes(kv.type);
}

// The cached positions of a KV head. Its first queries bring them into the caches for the others.
kernels::KvRows RowsOf(const KvLayer& kv, size_t kv_head, size_t dim, bool first) {
  kernels::KvRows rows{At(kv.keys, kv, kv_head, dim), At(kv.values, kv, kv_head, dim), kv.type};
  if (kv.type == kernels::KvType::kQ8) {
    rows.key_scales = kv.key_scales + kv_head * kv.positions;
    rows.value_scales = kv.value_scales + kv_head * kv.positions;
  }
  rows.fetch = first;
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
  const auto store = [&](size_t head) {
    const size_t scales = head * kv.positions + first_position;
    for (size_t t = 0; t < tokens; ++t) {
      float* key = keys + t * kv_width + head * dim;
      float* value = values + t * kv_width + head * dim;
      Rotate(kv, key);
      Rotate(kv, value);
      const size_t position = first_position + t;
      const float key_scale =
          kernels::StoreKey(key, dim, kv.type, position, At(kv.keys, kv, head, dim));
      const float value_scale =
          kernels::StoreValue(value, dim, kv.type, position, At(kv.values, kv, head, dim));
      if (kv.type != kernels::KvType::kQ8) continue;
      kv.key_scales[scales + t] = key_scale;
      kv.value_scales[scales + t] = value_scale;
    }
  };
  // By heads: neighbouring positions share cache lines of keys.
  const size_t at_once = tokens == 1 ? kv_heads : 1;
  kernels::ParallelFor(kv_heads, at_once, [&](size_t begin, size_t end, size_t) {
    for (size_t head = begin; head < end; ++head) store(head);
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
      kernels::Attend({tile.data(), count}, RowsOf(kv, kv_head, dim, first == 0), dim);
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
      kernels::Attend({&query, 1}, RowsOf(kv, head / group, dim, head % group == 0), dim);
      RotateBack(kv, out + at);
    }
  });
}

}  // namespace sdq
