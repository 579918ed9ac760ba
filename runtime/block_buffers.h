// What a BlockWorkspace holds. Internal to the runtime: the block and the session use it.
#ifndef SDQ_RUNTIME_BLOCK_BUFFERS_H_
#define SDQ_RUNTIME_BLOCK_BUFFERS_H_

#include <cstddef>
#include <cstdint>

#include "runtime/aligned_buffer.h"
#include "runtime/transformer.h"

namespace sdq {

// Queries of a KV head that attend together.
inline constexpr size_t kAttentionTile = 8;

struct BlockWorkspace::Buffers {
  size_t batch = 0;
  // Row strides of the arrays below, in floats.
  size_t hidden = 0, query = 0, kv = 0, ffn = 0;
  float* normed = nullptr;     // [batch][hidden]
  float* projected = nullptr;  // [batch][hidden]: output of o and down
  float* q = nullptr;          // [batch][query]
  float* k = nullptr;          // [batch][kv]
  float* v = nullptr;          // [batch][kv]
  float* attended = nullptr;   // [batch][query]
  float* gate = nullptr;       // [batch][ffn], LLaMA only
  float* up = nullptr;         // [batch][ffn]
  uint8_t* tables = nullptr;   // tables of the largest map, of a batch or of what int8 leaves
  size_t table_bytes = 0;
  uint8_t* int8 = nullptr;  // a batch's 8-bit values, or null
  size_t int8_bytes = 0;
  PreparedInput input;
  // Per thread: attention scores of kAttentionTile times max_context floats, and the maps' scratch.
  size_t threads = 0;
  size_t score_stride = 0;    // floats
  size_t scratch_stride = 0;  // bytes
  float* scores = nullptr;
  uint8_t* scratch = nullptr;

  AlignedBuffer token_memory;
  AlignedBuffer thread_memory;

  // Makes room for the current number of threads. It was made for Threads() at construction, so
  // that only a later, larger SetThreads() allocates here. Throws std::bad_alloc.
  void FitThreads();
};

}  // namespace sdq

#endif  // SDQ_RUNTIME_BLOCK_BUFFERS_H_
