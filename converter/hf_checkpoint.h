// A Hugging Face folder as a Checkpoint: config.json, generation_config.json, safetensors files and
// the tokenizer's files.
#ifndef SDQ_CONVERTER_HF_CHECKPOINT_H_
#define SDQ_CONVERTER_HF_CHECKPOINT_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/hf_config.h"
#include "converter/safetensors.h"

namespace sdq::converter {

// Thread-safe for reading once open. The files must not be truncated while it lives (they are
// mapped).
class HfCheckpoint : public Checkpoint {
 public:
  // What Checkpoint::Open does. Beyond ExpectedTensors: biases of linears must be there exactly as
  // the config says; a head beside tied embeddings must equal them (and is ignored); any tensor
  // that the model does not use is refused, but for the rotary tables of old checkpoints.
  static Result<std::unique_ptr<Checkpoint>> OpenFolder(const std::string& folder);

  const ModelConfig& config() const override { return config_.model; }
  Result<TokenizerSpec> LoadTokenizer() const override;
  bool Has(const std::string& canonical_name) const override;
  Status Read(const std::string& canonical_name, std::vector<float>* out) const override;
  std::string StoredType(const std::string& canonical_name) const override;
  void StoreExtras(format::Metadata* metadata) const override;

 private:
  HfCheckpoint(std::string folder, HfConfig config, SafetensorsFolder files)
      : folder_(std::move(folder)), config_(std::move(config)), files_(std::move(files)) {}

  Status FindPrefix();
  Status BindAll();
  Status Bind(const TensorShape& shape);
  Status CheckTiedHead() const;
  Status CheckUnused() const;
  Status Unexpected(const std::string& name) const;

  std::string folder_;
  HfConfig config_;
  SafetensorsFolder files_;
  std::string_view prefix_;  // of the body's tensors
  // By canonical name. Null: a norm without parameters, read as ones.
  std::map<std::string, const SafetensorsEntry*, std::less<>> tensors_;
};

// "generation.*" as config.json's neighbour gives them: only what is there.
void StoreGenerationDefaults(const GenerationDefaults& defaults, format::Metadata* metadata);

// A small text file, whole. kNotFound if there is none; at most 16 MB.
Result<std::string> ReadTextFile(const std::string& path);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_HF_CHECKPOINT_H_
