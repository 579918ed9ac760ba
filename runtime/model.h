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
  Norm final_norm;                   // weight null if the model has none
  Linear head;                       // == embed_tokens when tied
  std::vector<const Linear*> order;  // of the layers and the head, as a token meets them
};

// Owns the mapping; address-stable (views point into it), hence held by unique_ptr. Immutable after
// Open: threads may share it.
class Model {
 public:
  // Binds every tensor of ExpectedTensors(config) after an exact check of its shape; norm vectors
  // must be plain f32. A tensor of another name is an error if it looks like a part of the model
  // ("head", "embed.*", "layers.*", "final_norm.*"), and is ignored otherwise. The weights are not
  // read. Messages begin with the path.
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
