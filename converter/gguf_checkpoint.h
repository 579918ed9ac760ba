// A GGUF file as a Checkpoint.
#ifndef SDQ_CONVERTER_GGUF_CHECKPOINT_H_
#define SDQ_CONVERTER_GGUF_CHECKPOINT_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/gguf_file.h"
#include "format/mapped_file.h"

namespace sdq::converter {

// Thread-safe for reading once open. The file must not be truncated while it lives (it is mapped).
// Rows of q and k are stored in the order of interleaved rotary pairs; Read gives them in that of
// rotated halves, which the runtime uses.
class GgufCheckpoint : public Checkpoint {
 public:
  // What Checkpoint::Open does. Biases of linears may be there or not; any tensor that the model
  // does not use is refused.
  static Result<std::unique_ptr<Checkpoint>> OpenFile(const std::string& path);

  const ModelConfig& config() const override { return config_; }
  Result<TokenizerSpec> LoadTokenizer() const override;
  bool Has(const std::string& canonical_name) const override;
  Status Read(const std::string& canonical_name, std::vector<float>* out) const override;
  // "f32", "f16", "bf16", or the name of a quantized type: "q4_k".
  std::string StoredType(const std::string& canonical_name) const override;
  void StoreExtras(format::Metadata* metadata) const override;

 private:
  GgufCheckpoint(std::string path, format::MappedFile file, GgufContents contents,
                 ModelConfig config)
      : path_(std::move(path)),
        file_(std::move(file)),
        contents_(std::move(contents)),
        config_(std::move(config)) {}

  Status BindAll();
  Status Bind(const TensorShape& shape);
  Status CheckUnused() const;

  std::string path_;
  format::MappedFile file_;
  GgufContents contents_;  // views into file_
  ModelConfig config_;
  std::map<std::string, const GgufTensor*, std::less<>> tensors_;  // by canonical name
};

// The file's name of a canonical tensor or of a linear's bias (canonical name + ".bias"):
// "layers.3.attn.q" -> "blk.3.attn_q.weight". "" if LLaMA has no such tensor.
std::string GgufTensorName(std::string_view canonical);

// Undoes the reordering of rotary pairs: within every head, row 2 j + h (pair j, its part h) goes
// to row h head_dim/2 + j. `values` is [heads * head_dim][columns]; head_dim is even.
void RotaryPairsToHalves(size_t head_dim, size_t columns, std::vector<float>* values);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_GGUF_CHECKPOINT_H_
