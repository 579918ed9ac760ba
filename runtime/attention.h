// Causal attention over one layer's KV cache.
#ifndef SDQ_RUNTIME_ATTENTION_H_
#define SDQ_RUNTIME_ATTENTION_H_

#include <cstddef>
#include <span>

#include "runtime/transformer.h"

namespace sdq {

// Puts keys and values [tokens][kv_heads * head_dim] into the cache rows first_position, ... Both
// are rotated in place where the cache wants it. In parallel over heads.
void StoreKeysAndValues(const ModelConfig& config, float* keys, float* values,
                        size_t first_position, size_t tokens, const KvLayer& kv);

// For every token t and query head h: out = softmax(q . K) V over positions 0 .. first_position + t
// of KV head h * kv_heads / heads. q has been scaled by 1/sqrt(head_dim), and is rotated in place
// where the cache wants it. q and out: [tokens][heads * head_dim]. In parallel over (head, token);
// every pair is computed by one thread in an order that depends on the position only.
void Attend(const ModelConfig& config, const KvLayer& kv, size_t first_position, size_t tokens,
            float* q, BlockWorkspace::Buffers& buffers, float* out);

// The same for one token of each of several sequences: token t is at positions[t] of caches[t].
void AttendStep(const ModelConfig& config, std::span<const KvLayer> caches,
                std::span<const size_t> positions, float* q, BlockWorkspace::Buffers& buffers,
                float* out);

}  // namespace sdq

#endif  // SDQ_RUNTIME_ATTENTION_H_
