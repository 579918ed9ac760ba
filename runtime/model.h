// A model opened from an .sdq file: config, tokenizer spec and weights as views into the file.
#ifndef SDQ_RUNTIME_MODEL_H_
#define SDQ_RUNTIME_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "format/mapped_file.h"
#include "format/reader.h"
#include "runtime/config.h"
#include "runtime/linear.h"

namespace sdq {

struct Norm {
  const float* weight = nullptr;
  const float* bias = nullptr;  // LayerNorm only, may be null
};

struct LayerWeights {
  Norm attn_norm, ffn_norm;
  Linear q, k, v, o;
  Linear gate;  // LLaMA only (rows = 0 otherwise)
  Linear up, down;
};

struct ModelWeights {
  Linear embed_tokens;
  Linear embed_positions;          // OPT, dense
  Linear project_in, project_out;  // OPT with projections (rows = 0 otherwise)
  std::vector<LayerWeights> layers;
  Norm final_norm;                 // weight null if the model has none
  Linear head;                     // == embed_tokens when tied
};

// Owns the mapping; address-stable (views point into it), hence held by unique_ptr.
class Model {
 public:
  static Result<std::unique_ptr<Model>> Open(
      const std::string& path, format::MappedFile::Mode mode = format::MappedFile::Mode::kAuto);
  ~Model();

  const ModelConfig& config() const;
  const ModelWeights& weights() const;
  const format::SdqFile& file() const;
  // All maps in use (the workspace sizes its tables by them).
  const std::vector<std::unique_ptr<kernels::ActivationMap>>& maps() const;

 private:
  Model();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sdq

#endif  // SDQ_RUNTIME_MODEL_H_
