// The transformer block and the KV cache, as functions of config, weights and buffers.
//
// The session runs whole models with it; the converter runs single float layers over calibration
// text with the same code, and reads every linear's input through LinearTap.
#ifndef SDQ_RUNTIME_TRANSFORMER_H_
#define SDQ_RUNTIME_TRANSFORMER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/kv_cache.h"
#include "kernels/rotation.h"
#include "runtime/config.h"
#include "runtime/model.h"

namespace sdq {

// Keys and values of one layer, non-owning: one KV head after the other, as kernels/kv_cache.h lays
// them out. Attention reads a head as one stream, which hardware prefetchers follow.
struct KvLayer {
  void* keys = nullptr;
  void* values = nullptr;
  kernels::KvType type = kernels::KvType::kF16;
  size_t positions = 0;  // room, a multiple of kernels::kKeyBlock
  // Only kQ8: [kv_heads][positions] scales of the positions' heads, and the rotation of a head
  // (head_dim columns) that spreads outliers before rounding. Queries and keys turn together, which
  // leaves their products; outputs of attention are turned back.
  float* key_scales = nullptr;
  float* value_scales = nullptr;
  const kernels::Rotation* rotation = nullptr;
};

// Called before a linear runs, with its input rows: x[t * stride + c], t < tokens.
// `linear` is one of the LayerWeights' members. Empty function: no tap. Returning false leaves the
// linear out: its output, and what follows from it, is then without meaning. Where all linears of
// an input are left out, the sub-block ends there, before it adds to the residual stream.
using LinearTap =
    std::function<bool(const Linear& linear, const float* x, size_t tokens, size_t stride)>;

// Cosines and sines of the rotary embedding: row p holds head_dim/2 cosines, then sines.
// Handles plain, linear and LLaMA-3 scaling. Empty for OPT.
std::vector<float> RotaryTable(const ModelConfig& config, size_t positions);

// Every float buffer that a block needs for `batch` tokens, carved from one allocation, and scratch
// of each thread, carved from a second one. Largest: batch * ffn_size. bytes() is what sdq-run
// reports. Made for the number of threads of its construction; RunBlock makes room for more if
// SetThreads() raised it since (std::bad_alloc, as from the constructor, if there is no memory).
class BlockWorkspace {
 public:
  // `maps`: the activation maps of the model's linears (may be empty: all dense). `int8`: with room
  // for int8 products, which PreparedInput::set_int8 turns on.
  BlockWorkspace(const ModelConfig& config, size_t batch, size_t max_context,
                 const std::vector<std::unique_ptr<kernels::ActivationMap>>& maps,
                 bool int8 = false);
  ~BlockWorkspace();
  // What bytes() of such a workspace would be, without allocating it; SIZE_MAX if it overflows.
  static size_t PlanBytes(const ModelConfig& config, size_t batch, size_t max_context,
                          const std::vector<std::unique_ptr<kernels::ActivationMap>>& maps,
                          bool int8 = false);
  BlockWorkspace(const BlockWorkspace&) = delete;
  BlockWorkspace& operator=(const BlockWorkspace&) = delete;
  size_t bytes() const;
  size_t batch() const;
  struct Buffers;
  Buffers& buffers();

 private:
  std::unique_ptr<Buffers> buffers_;
};

// The block, or one of its sub-blocks with its norm and its addition to the residual stream.
enum class BlockPart { kWhole, kAttention, kFeedForward };

// hidden[tokens][hidden_size], positions first_position .. first_position + tokens - 1 of one
// sequence whose earlier keys and values are in `kv`; updated in place. tokens <= batch.
void RunBlock(const ModelConfig& config, const LayerWeights& layer, const KvLayer& kv,
              std::span<const float> rotary_table, size_t first_position, size_t tokens,
              float* hidden, BlockWorkspace& workspace, const LinearTap& tap,
              BlockPart part = BlockPart::kWhole);

// The same for one token of each of several sequences: row t of hidden is position positions[t] of
// the sequence whose earlier keys and values are in caches[t]. As many positions as caches, at most
// a batch. Every row is what RunBlock would make of it alone, bit for bit.
void RunBlockStep(const ModelConfig& config, const LayerWeights& layer,
                  std::span<const KvLayer> caches, std::span<const float> rotary_table,
                  std::span<const size_t> positions, float* hidden, BlockWorkspace& workspace);

}  // namespace sdq

#endif  // SDQ_RUNTIME_TRANSFORMER_H_
