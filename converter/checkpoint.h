// Where weights come from: a trained model behind canonical tensor names.
//
// Implementations: Hugging Face folders (hf_checkpoint.h), GGUF files (gguf_checkpoint.h). Tensors
// are read one at a time and widened to f32, so that memory is bounded by the largest tensor, not
// the model.
#ifndef SDQ_CONVERTER_CHECKPOINT_H_
#define SDQ_CONVERTER_CHECKPOINT_H_

#include <memory>
#include <string>
#include <vector>

#include "format/metadata.h"
#include "format/status.h"
#include "runtime/config.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // Opens whatever `path` is (a Hugging Face folder or a GGUF file), checks that every tensor of
  // ExpectedTensors(config) is there with the right shape, and that nothing contradicts the config
  // (tied and untied heads, layer counts). Does not read weights.
  static Result<std::unique_ptr<Checkpoint>> Open(const std::string& path);

  virtual const ModelConfig& config() const = 0;
  // kNotFound if the checkpoint has no tokenizer files (golden test models have none).
  virtual Result<TokenizerSpec> LoadTokenizer() const = 0;
  virtual bool Has(const std::string& canonical_name) const = 0;
  // The whole tensor in f32, row-major [rows][columns], finite values only.
  // Bias of a linear: canonical name + ".bias".
  virtual Status Read(const std::string& canonical_name, std::vector<float>* out) const = 0;
  // "f32", "f16", "bf16" as stored (mixed: of the named tensor), or a quantized type's name.
  virtual std::string StoredType(const std::string& canonical_name) const = 0;
  // generation_config.json and the like as metadata "generation.*" (temperature, top_k, top_p),
  // provenance as "source.*" (path base name, model_type, dtype, sha or size of weight files).
  virtual void StoreExtras(format::Metadata* metadata) const = 0;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_CHECKPOINT_H_
