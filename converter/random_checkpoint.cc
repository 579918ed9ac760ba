#include "converter/random_checkpoint.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <new>
#include <utility>

#include "converter/hf_checkpoint.h"
#include "converter/hf_config.h"
#include "converter/random_bits.h"
#include "converter/tokenizer_import.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

namespace fs = std::filesystem;

constexpr size_t kGrain = 1 << 16;  // elements per thread, at least

// The sum of a word's eight bytes, minus its mean: variance 8 (256^2 - 1) / 12 = 209^2.
int CentredByteSum(uint64_t word) {
  constexpr uint64_t kEvenBytes = 0x00ff00ff00ff00ffu;
  const uint64_t pairs = (word & kEvenBytes) + ((word >> 8) & kEvenBytes);
  const uint64_t sum = (pairs * 0x0001000100010001u) >> 48;
  return int(sum) - 1020;
}

class RandomCheckpoint : public Checkpoint {
 public:
  // folder: of the tokenizer; empty: there is none.
  RandomCheckpoint(HfConfig config, std::string folder, uint64_t seed, uint64_t config_bytes)
      : config_(std::move(config)),
        folder_(std::move(folder)),
        seed_(seed),
        config_bytes_(config_bytes) {
    for (const TensorShape& shape : ExpectedTensors(config_.model)) {
      if (shape.optional && !config_.norm_affine) continue;
      elements_[shape.name] = uint64_t(shape.rows) * uint64_t(shape.columns);
      if (!shape.is_linear) continue;
      const bool is_attention = shape.name.find(".attn.") != std::string::npos;
      if (is_attention ? config_.attention_bias : config_.ffn_bias) {
        elements_[shape.name + ".bias"] = uint64_t(shape.rows);
      }
    }
  }

  const ModelConfig& config() const override { return config_.model; }
  Result<TokenizerSpec> LoadTokenizer() const override {
    if (folder_.empty()) return Status::NotFound("a random model has no tokenizer");
    return ImportTokenizer(folder_, config_.model.vocab_size);
  }
  bool Has(const std::string& name) const override { return elements_.contains(name); }
  std::string StoredType(const std::string&) const override { return "f16"; }

  Status Read(const std::string& name, std::vector<float>* out) const override {
    const auto found = elements_.find(name);
    if (found == elements_.end()) {
      return Status::NotFound(fmt::format("a random model of this config has no '{}'", name));
    }
    try {
      out->resize(size_t(found->second));
    } catch (const std::bad_alloc&) {
      return Status::ResourceExhausted(
          fmt::format("no memory for tensor '{}' ({} elements)", name, found->second));
    }
    if (name.ends_with("norm.weight")) {
      out->assign(out->size(), 1.0f);
      return Status::Ok();
    }
    kernels::ParallelFor(out->size(), kGrain, [&](size_t begin, size_t end, size_t) {
      SplitMix64 random(HashName(name) ^ seed_, begin);
      for (size_t i = begin; i < end; ++i) {
        (*out)[i] = float(CentredByteSum(random.Next())) * 0x1p-13f;
      }
    });
    return Status::Ok();
  }

  void StoreExtras(format::Metadata* metadata) const override {
    StoreGenerationDefaults(config_.generation, metadata);
    metadata->Set("source.name", fmt::format("random-{}", seed_));
    metadata->Set("source.model_type", config_.model_type);
    metadata->Set("source.dtype", std::string("f16"));
    metadata->Set("source.bytes", int64_t(config_bytes_));
  }

 private:
  HfConfig config_;
  std::string folder_;
  uint64_t seed_;
  uint64_t config_bytes_;
  std::map<std::string, uint64_t> elements_;  // by canonical name
};

}  // namespace

Result<std::unique_ptr<Checkpoint>> OpenRandomCheckpoint(const std::string& config_path,
                                                         uint64_t seed) {
  std::error_code error;
  const bool is_folder = fs::is_directory(config_path, error);
  const std::string path = is_folder ? config_path + "/config.json" : config_path;
  SDQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  SDQ_ASSIGN_OR_RETURN(HfConfig config, ParseHfConfig(text, path));
  return std::unique_ptr<Checkpoint>(std::make_unique<RandomCheckpoint>(
      std::move(config), is_folder ? config_path : std::string(), seed, text.size()));
}

}  // namespace sdq::converter
