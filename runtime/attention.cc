#include "runtime/attention.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/fetch.h"
#include "kernels/parallel.h"
#include "kernels/vector_math.h"
#include "runtime/block_buffers.h"

namespace sdq {
namespace {

// Multiply-adds that are worth a hand-off, and as many as take as long as putting one element of a
// key into the cache, whose elements lie in lines of their own.
constexpr size_t kWorthwhile = size_t{1} << 16;
constexpr size_t kKeyElementCost = 256;

// One layer's attention over one batch.
class BatchAttention {
 public:
  BatchAttention(const ModelConfig& config, std::span<const float> rotary_table,
                 BlockWorkspace::Buffers& buffers)
      : dim_(static_cast<size_t>(config.head_dim)),
        kv_heads_(static_cast<size_t>(config.kv_heads)),
        group_(static_cast<size_t>(config.heads) / kv_heads_),
        query_scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)))),
        rotary_table_(config.architecture == Architecture::kLlama ? rotary_table.data() : nullptr),
        buffers_(buffers) {}

  size_t kv_heads() const { return kv_heads_; }
  // Queries of a token that share a KV head.
  size_t group() const { return group_; }

  // Key and value of a token's KV head, at `position`.
  void Store(const KvLayer& kv, size_t kv_head, size_t token, size_t position) const {
    float* key = buffers_.k + token * buffers_.kv + kv_head * dim_;
    float* value = buffers_.v + token * buffers_.kv + kv_head * dim_;
    Turn(key, position);
    Rotate(kv, key);
    Rotate(kv, value);
    const float key_scale =
        kernels::StoreKey(key, dim_, kv.type, position, At(kv.keys, kv, kv_head));
    const float value_scale =
        kernels::StoreValue(value, dim_, kv.type, position, At(kv.values, kv, kv_head));
    if (kv.type != kernels::KvType::kQ8) return;
    const size_t scale = kv_head * kv.positions + position;
    kv.key_scales[scale] = key_scale;
    kv.value_scales[scale] = value_scale;
  }

  // A tile of a KV head's queries, tokens ascending, which read keys and values together: the tile
  // begins with query `first` of those of `token`, which is at `position`, and the tokens behind
  // it.
  void AttendTile(const KvLayer& kv, size_t kv_head, size_t token, size_t position, size_t first,
                  size_t count, size_t thread) const {
    float* scores = buffers_.scores + thread * kAttentionTile * buffers_.score_stride;
    std::array<kernels::AttentionQuery, kAttentionTile> tile;
    for (size_t j = 0; j < count; ++j) {
      const size_t t = (first + j) / group_, head = kv_head * group_ + (first + j) % group_;
      const size_t at = (token + t) * buffers_.query + head * dim_;
      float* q = buffers_.q + at;
      Turn(q, position + t);
      for (size_t i = 0; i < dim_; ++i) q[i] *= query_scale_;
      Rotate(kv, q);
      tile[j] = {q, position + t + 1, scores + j * buffers_.score_stride, buffers_.attended + at};
    }
    kernels::Attend({tile.data(), count}, RowsOf(kv, kv_head, first == 0), dim_);
    if (kv.rotation == nullptr) return;
    for (size_t j = 0; j < count; ++j) kv.rotation->Inverse(tile[j].out);
  }

  // What AttendTile begins with: of `length` cached positions.
  void FetchCache(const KvLayer& kv, size_t kv_head, size_t length) const {
    kernels::FetchKv(RowsOf(kv, kv_head, true), length, dim_);
  }

  // What Store and AttendTile begin with: also the token's query, key and value, which other
  // threads may have written.
  void Fetch(const KvLayer& kv, size_t kv_head, size_t token, size_t length) const {
    const size_t bytes = dim_ * sizeof(float);
    const float* q = buffers_.q + token * buffers_.query + kv_head * group_ * dim_;
    kernels::FetchLines<1>(buffers_.k + token * buffers_.kv + kv_head * dim_, bytes, 0);
    kernels::FetchLines<1>(buffers_.v + token * buffers_.kv + kv_head * dim_, bytes, 0);
    kernels::FetchLines<1>(q, group_ * bytes, 0);
    FetchCache(kv, kv_head, length);
  }

  // Of the queries of `tokens` tokens over `length` positions.
  size_t MultiplyAdds(size_t tokens, size_t length) const {
    return 2 * kv_heads_ * group_ * dim_ * tokens * length;
  }
  size_t StoreCost(size_t tokens) const { return kKeyElementCost * kv_heads_ * dim_ * tokens; }

 private:
  // Where a head begins.
  uint8_t* At(void* cache, const KvLayer& kv, size_t kv_head) const {
    const size_t element = kv_head * kv.positions * dim_;
    return static_cast<uint8_t*>(cache) + element * kernels::KvElementBytes(kv.type);
  }

  // The cached positions of a KV head. Its first queries bring them into the caches for the others.
  kernels::KvRows RowsOf(const KvLayer& kv, size_t kv_head, bool first) const {
    kernels::KvRows rows{At(kv.keys, kv, kv_head), At(kv.values, kv, kv_head), kv.type};
    if (kv.type == kernels::KvType::kQ8) {
      rows.key_scales = kv.key_scales + kv_head * kv.positions;
      rows.value_scales = kv.value_scales + kv_head * kv.positions;
    }
    rows.fetch = first;
    return rows;
  }

  // By the position's angles.
  void Turn(float* head, size_t position) const {
    if (rotary_table_ != nullptr) kernels::Rotary(head, 1, dim_, rotary_table_ + position * dim_);
  }

  static void Rotate(const KvLayer& kv, float* head) {
    if (kv.rotation != nullptr) kv.rotation->Apply(head);
  }

  size_t dim_, kv_heads_, group_;
  float query_scale_;
  const float* rotary_table_;  // null: no rotary embedding
  BlockWorkspace::Buffers& buffers_;
};

size_t Tiles(size_t queries) { return (queries + kAttentionTile - 1) / kAttentionTile; }

// The items that are worth a hand-off, of `items` that cost `work` multiply-adds.
size_t ItemsAtOnce(size_t items, size_t work) {
  return items / std::clamp<size_t>(work / kWorthwhile, 1, items);
}

}  // namespace

void Attend(const ModelConfig& config, const KvLayer& kv, std::span<const float> rotary_table,
            size_t first_position, size_t tokens, BlockWorkspace::Buffers& buffers) {
  if (tokens == 1) return AttendStep(config, {&kv, 1}, rotary_table, {&first_position, 1}, buffers);
  const BatchAttention attention(config, rotary_table, buffers);
  // By heads: neighbouring positions share cache lines of keys.
  kernels::ParallelFor(attention.kv_heads(), 1, [&](size_t begin, size_t end, size_t) {
    for (size_t head = begin; head < end; ++head) {
      for (size_t t = 0; t < tokens; ++t) attention.Store(kv, head, t, first_position + t);
    }
  });
  // Heads in the outer place: a thread's consecutive tiles read the same keys and values, and every
  // thread gets its share of late (long) and early (short) tokens.
  const size_t queries = tokens * attention.group(), tiles = Tiles(queries);
  const size_t items = attention.kv_heads() * tiles;
  const size_t work = attention.MultiplyAdds(tokens, first_position + tokens);
  kernels::ParallelFor(items, ItemsAtOnce(items, work),
                       [&](size_t begin, size_t end, size_t thread) {
                         for (size_t i = begin; i < end; ++i) {
                           const size_t first = i % tiles * kAttentionTile;
                           if (first == 0) attention.FetchCache(kv, i / tiles, first_position);
                           attention.AttendTile(kv, i / tiles, 0, first_position, first,
                                                std::min(kAttentionTile, queries - first), thread);
                         }
                       });
}

void AttendStep(const ModelConfig& config, std::span<const KvLayer> caches,
                std::span<const float> rotary_table, std::span<const size_t> positions,
                BlockWorkspace::Buffers& buffers) {
  const BatchAttention attention(config, rotary_table, buffers);
  const size_t kv_heads = attention.kv_heads(), group = attention.group(), tiles = Tiles(group);
  const size_t heads = caches.size() * kv_heads;
  const size_t longest = *std::max_element(positions.begin(), positions.end()) + 1;
  const size_t store_cost = attention.StoreCost(caches.size());
  const size_t work = attention.MultiplyAdds(caches.size(), longest);
  const auto store = [&](size_t i) {
    const size_t t = i / kv_heads;
    attention.Store(caches[t], i % kv_heads, t, positions[t]);
  };
  const auto fetch = [&](size_t i) {
    const size_t t = i / kv_heads;
    attention.Fetch(caches[t], i % kv_heads, t, positions[t] + 1);
  };
  const auto attend = [&](size_t i, size_t tile, size_t thread) {
    const size_t t = i / kv_heads, first = tile * kAttentionTile;
    attention.AttendTile(caches[t], i % kv_heads, t, positions[t], first,
                         std::min(kAttentionTile, group - first), thread);
  };
  if (heads < kernels::Threads() && tiles > 1) {  // a head's tiles on several threads
    kernels::ParallelFor(heads, ItemsAtOnce(heads, store_cost),
                         [&](size_t begin, size_t end, size_t) {
                           for (size_t i = begin; i < end; ++i) store(i);
                         });
    kernels::ParallelFor(heads * tiles, ItemsAtOnce(heads * tiles, work),
                         [&](size_t begin, size_t end, size_t thread) {
                           for (size_t i = begin; i < end; ++i) {
                             if (i % tiles == 0) fetch(i / tiles);
                             attend(i / tiles, i % tiles, thread);
                           }
                         });
    return;
  }
  kernels::ParallelFor(heads, ItemsAtOnce(heads, store_cost + work),
                       [&](size_t begin, size_t end, size_t thread) {
                         // Stores wait for their lines together, and for none of them.
                         fetch(begin);
                         for (size_t i = begin; i < end; ++i) store(i);
                         for (size_t i = begin; i < end; ++i) {
                           if (i + 1 < end) fetch(i + 1);
                           for (size_t tile = 0; tile < tiles; ++tile) attend(i, tile, thread);
                         }
                       });
}

}  // namespace sdq
