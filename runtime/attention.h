// Causal attention over one layer's KV cache.
#ifndef SDQ_RUNTIME_ATTENTION_H_
#define SDQ_RUNTIME_ATTENTION_H_

#include <cstddef>
#include <span>

#include "runtime/transformer.h"

namespace sdq {

// Tokens first_position, ... of one sequence. Reads and uses up their buffers.q, k and v. LLaMA:
// turns queries and keys by their positions' rows of the rotary table [positions][head_dim]. Puts
// keys and values into the cache. For every token t and query head h of KV head g = h * kv_heads /
// heads:
//   buffers.attended[t][h] = softmax(q . K_g / sqrt(head_dim)) V_g over positions 0 .. first + t.
// In parallel over (head, token); every pair is computed by one thread in an order that depends on
// the position only.
void Attend(const ModelConfig& config, const KvLayer& kv, std::span<const float> rotary_table,
            size_t first_position, size_t tokens, BlockWorkspace::Buffers& buffers);

// The same for one token of each of several sequences: token t is at positions[t] of caches[t].
void AttendStep(const ModelConfig& config, std::span<const KvLayer> caches,
                std::span<const float> rotary_table, std::span<const size_t> positions,
                BlockWorkspace::Buffers& buffers);

}  // namespace sdq

#endif  // SDQ_RUNTIME_ATTENTION_H_
