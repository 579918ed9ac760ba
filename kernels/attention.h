// Attention of query heads over the cached positions of their KV head.
#ifndef SDQ_KERNELS_ATTENTION_H_
#define SDQ_KERNELS_ATTENTION_H_

#include <cstddef>
#include <span>

#include "kernels/kv_cache.h"

namespace sdq::kernels {

// The cache of one KV head (kv_cache.h): readable up to the end of the last block that holds a
// position.
struct KvRows {
  const void* keys = nullptr;
  const void* values = nullptr;
  KvType type = KvType::kF16;
  const float* key_scales = nullptr;  // kQ8: one per position
  const float* value_scales = nullptr;
  // Whether Attend fetches ahead, since keys and values are in no cache, but for what FetchKv has
  // fetched.
  bool fetch = false;
};

// Fetches the beginning of `length` positions' keys and values, some pages of each, into the second
// cache.
void FetchKv(const KvRows& rows, size_t length, size_t dim);

// One query head over the first `length` cached positions:
//   out = softmax(q . K / scale-free: the caller has scaled q) V.
struct AttentionQuery {
  const float* q = nullptr;  // dim floats
  size_t length = 0;
  float* scores = nullptr;  // scratch: as many floats as the longest query together with this one
                            // has positions, in whole blocks (KvPositions)
  float* out = nullptr;     // dim floats
};

// Queries of one KV head, each as if alone, bit for bit; groups of four are fastest, with
// AVX-512 of eight, of like length.
void Attend(std::span<const AttentionQuery> queries, const KvRows& rows, size_t dim);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_ATTENTION_H_
