// A checkpoint's model in memory, evaluated for many sequences at once, one token each per step.
#ifndef SDQ_CONVERTER_BATCH_DECODER_H_
#define SDQ_CONVERTER_BATCH_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/float_layer.h"
#include "format/status.h"
#include "runtime/aligned_buffer.h"
#include "runtime/transformer.h"

namespace sdq::converter {

// Matrices are held in f16 (f32 where a value exceeds f16's range), so that memory is two bytes per
// weight; keys and values in f16. Results do not depend on the number of threads.
class BatchDecoder {
 public:
  // `context`: positions per sequence, at most config.max_positions. kResourceExhausted if memory
  // does not suffice. `precision`: of all products.
  static Result<std::unique_ptr<BatchDecoder>> Create(
      const Checkpoint& checkpoint, size_t sequences, size_t context,
      kernels::Precision precision = kernels::Precision::kSingle);
  // Bytes of keys and values per sequence.
  static size_t CacheBytes(const ModelConfig& config, size_t context);

  // Puts tokens[i] at positions[i] < context of sequence i, whose earlier positions were put there
  // before (position 0 starts anew). Ids are below the vocabulary's size; both spans have one entry
  // per sequence.
  void Step(std::span<const TokenId> tokens, std::span<const size_t> positions);
  // What follows, after Step: vocab_size floats, which the caller may overwrite.
  std::span<float> logits(size_t sequence);

 private:
  BatchDecoder() = default;
  Status Load(const Checkpoint& checkpoint);
  Status LoadTable(const Checkpoint& checkpoint, const char* name, Linear* linear);
  void Shrink(std::vector<float>* values, Linear* linear);
  void AllocateCaches(size_t context);
  void Embed(std::span<const TokenId> tokens, std::span<const size_t> positions);
  void Head();

  ModelConfig config_;
  size_t sequences_ = 0;
  kernels::Precision precision_ = kernels::Precision::kSingle;
  std::vector<std::unique_ptr<FloatLayer>> layers_;
  std::vector<std::vector<uint16_t>> halves_;  // matrices of all layers and tables
  std::vector<std::vector<float>> keep_;       // those that f16 cannot hold
  Linear embedding_, project_in_, project_out_, head_;
  std::vector<float> positions_table_, norm_weight_, norm_bias_;
  std::vector<float> rotary_;
  std::vector<AlignedBuffer> cache_memory_;   // per layer
  std::vector<std::vector<KvLayer>> caches_;  // per layer, per sequence
  std::unique_ptr<BlockWorkspace> workspace_;
  std::vector<float> embedded_, hidden_, logits_;  // [sequence][width]
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_BATCH_DECODER_H_
