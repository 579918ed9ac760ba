#include "converter/hf_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "converter/hf_tensor_names.h"
#include "converter/tokenizer_import.h"

namespace sdq::converter {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxTextBytes = 16'000'000;
constexpr char kHeadName[] = "lm_head.weight";

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

Status CheckIsFolder(const std::string& path) {
  constexpr char kWanted[] =
      "give the folder of a Hugging Face checkpoint (config.json, model.safetensors, tokenizer), "
      "or a GGUF file";
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    return Status::NotFound(fmt::format("{}: no such folder; {}", path, kWanted));
  }
  if (!fs::is_directory(status)) {
    return Status::InvalidArgument(fmt::format("{}: not a folder; {}", path, kWanted));
  }
  if (!Exists(path + "/config.json")) {
    return Status::NotFound(fmt::format("{}: has no config.json; {}", path, kWanted));
  }
  return Status::Ok();
}

Result<HfConfig> ReadConfigs(const std::string& folder) {
  const std::string path = folder + "/config.json";
  SDQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  SDQ_ASSIGN_OR_RETURN(HfConfig config, ParseHfConfig(text, path));
  const std::string generation = folder + "/generation_config.json";
  if (Exists(generation)) {
    SDQ_ASSIGN_OR_RETURN(const std::string more, ReadTextFile(generation));
    SDQ_RETURN_IF_ERROR(MergeGenerationConfig(more, generation, &config));
  }
  return config;
}

bool IsNormPart(std::string_view canonical) {
  return canonical.ends_with(".weight") || canonical.ends_with(".bias");
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Status CheckShape(const SafetensorsEntry& entry, const TensorShape& expected) {
  std::vector<int64_t> shape = {expected.columns};
  if (!IsNormPart(expected.name)) shape.insert(shape.begin(), expected.rows);
  if (entry.shape != shape) {
    return Status::Corrupt(fmt::format("tensor '{}' has shape {}, the config expects {}",
                                       entry.name, ShapeText(entry.shape), ShapeText(shape)));
  }
  if (!IsReadableDtype(entry.dtype)) {
    return Status::Unsupported(fmt::format(
        "tensor '{}' is stored as {} (supported: F32, F16, BF16)", entry.name, entry.dtype));
  }
  return Status::Ok();
}

// Same values? Reads both in pieces.
Result<bool> SameValues(const SafetensorsEntry& a, const SafetensorsEntry& b) {
  if (a.elements != b.elements) return false;
  if (a.dtype == b.dtype) return std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
  constexpr uint64_t kPiece = 1 << 16;
  std::vector<float> x(kPiece);
  std::vector<float> y(kPiece);
  for (uint64_t first = 0; first < a.elements; first += kPiece) {
    const auto count = size_t(std::min(kPiece, a.elements - first));
    SDQ_RETURN_IF_ERROR(ReadFloatRange(a, first, std::span(x).first(count)));
    SDQ_RETURN_IF_ERROR(ReadFloatRange(b, first, std::span(y).first(count)));
    if (!std::equal(x.begin(), x.begin() + std::ptrdiff_t(count), y.begin())) return false;
  }
  return true;
}

std::string TypeName(std::string_view dtype) {
  if (dtype == "F32") return "f32";
  return dtype == "F16" ? "f16" : "bf16";
}

// Last component, also of "folder/" and ".".
std::string BaseName(const std::string& folder) {
  std::error_code error;
  fs::path path = fs::absolute(folder, error).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

}  // namespace

Result<std::string> ReadTextFile(const std::string& path) {
  SDQ_ASSIGN_OR_RETURN(const format::MappedFile file, format::MappedFile::Open(path));
  const std::span<const uint8_t> bytes = file.bytes();
  if (bytes.size() > kMaxTextBytes) {
    return Status::Corrupt(
        fmt::format("{}: {} bytes, at most {} are allowed", path, bytes.size(), kMaxTextBytes));
  }
  return std::string(bytes.begin(), bytes.end());
}

void StoreGenerationDefaults(const GenerationDefaults& defaults, format::Metadata* metadata) {
  if (defaults.temperature) metadata->Set("generation.temperature", *defaults.temperature);
  if (defaults.top_k) metadata->Set("generation.top_k", *defaults.top_k);
  if (defaults.top_p) metadata->Set("generation.top_p", *defaults.top_p);
}

Result<std::unique_ptr<Checkpoint>> HfCheckpoint::OpenFolder(const std::string& folder) {
  SDQ_RETURN_IF_ERROR(CheckIsFolder(folder));
  SDQ_ASSIGN_OR_RETURN(HfConfig config, ReadConfigs(folder));
  SDQ_ASSIGN_OR_RETURN(SafetensorsFolder files, SafetensorsFolder::Open(folder));
  std::unique_ptr<HfCheckpoint> checkpoint(
      new HfCheckpoint(folder, std::move(config), std::move(files)));
  SDQ_RETURN_IF_ERROR(checkpoint->FindPrefix().Annotate(folder));
  SDQ_RETURN_IF_ERROR(checkpoint->BindAll().Annotate(folder));
  SDQ_RETURN_IF_ERROR(checkpoint->CheckTiedHead().Annotate(folder));
  SDQ_RETURN_IF_ERROR(checkpoint->CheckUnused().Annotate(folder));
  return std::unique_ptr<Checkpoint>(std::move(checkpoint));
}

Status HfCheckpoint::FindPrefix() {
  const Architecture architecture = config_.model.architecture;
  std::string tried;
  std::string found;
  for (const std::string_view prefix : HfBodyPrefixes(architecture)) {
    const std::string name = HfTensorName(architecture, prefix, "embed.tokens");
    tried += (tried.empty() ? "'" : ", '") + name + "'";
    if (files_.Find(name) == nullptr) continue;
    if (!found.empty()) {
      return Status::Corrupt(
          fmt::format("two token embeddings: '{}' and '{}'; expected one", found, name));
    }
    found = name;
    prefix_ = prefix;
  }
  if (!found.empty()) return Status::Ok();
  return Status::NotFound(fmt::format("the token embedding is missing (looked for {})", tried));
}

Status HfCheckpoint::Bind(const TensorShape& shape) {
  const std::string name = HfTensorName(config_.model.architecture, prefix_, shape.name);
  const SafetensorsEntry* entry = files_.Find(name);
  if (entry == nullptr) {
    const char* hint = name == kHeadName ? " (config.json says that it is not tied to the token "
                                           "embedding: tie_word_embeddings is false)"
                                         : "";
    return Status::NotFound(fmt::format("tensor '{}' is missing{}", name, hint));
  }
  SDQ_RETURN_IF_ERROR(CheckShape(*entry, shape));
  tensors_[shape.name] = entry;
  return Status::Ok();
}

Status HfCheckpoint::BindAll() {
  for (const TensorShape& shape : ExpectedTensors(config_.model)) {
    if (IsNormPart(shape.name) && !config_.norm_affine) {
      if (!shape.optional) tensors_[shape.name] = nullptr;
      continue;
    }
    SDQ_RETURN_IF_ERROR(Bind(shape));
    if (!shape.is_linear) continue;
    const bool is_attention = shape.name.find(".attn.") != std::string::npos;
    if (is_attention ? config_.attention_bias : config_.ffn_bias) {
      SDQ_RETURN_IF_ERROR(Bind({shape.name + ".bias", 1, shape.rows, false, false}));
    }
  }
  return Status::Ok();
}

Status HfCheckpoint::CheckTiedHead() const {
  const SafetensorsEntry* head = files_.Find(kHeadName);
  if (!config_.model.tied_embeddings || head == nullptr) return Status::Ok();
  SDQ_RETURN_IF_ERROR(
      CheckShape(*head, {"head", config_.model.vocab_size, config_.model.embed_size}));
  SDQ_ASSIGN_OR_RETURN(const bool same, SameValues(*head, *tensors_.at("embed.tokens")));
  if (same) return Status::Ok();
  return Status::Corrupt(
      fmt::format("config.json ties the head to the token embedding, but there is a '{}' that "
                  "differs from it; if the model has a head of its own, set tie_word_embeddings to "
                  "false in config.json, else remove that tensor",
                  kHeadName));
}

Status HfCheckpoint::CheckUnused() const {
  std::set<std::string_view> used;
  for (const auto& [name, entry] : tensors_) {
    if (entry != nullptr) used.insert(entry->name);
  }
  for (const auto& [name, entry] : files_.entries()) {
    if (used.contains(name) || name == kHeadName || name.ends_with(".rotary_emb.inv_freq"))
      continue;
    return Unexpected(name);
  }
  return Status::Ok();
}

Status HfCheckpoint::Unexpected(const std::string& name) const {
  const auto layer = HfLayerNumber(prefix_, name);
  if (layer && *layer >= config_.model.layers) {
    return Status::Corrupt(
        fmt::format("tensor '{}' is of layer {}, but config.json says {} layers (the first is 0)",
                    name, *layer, config_.model.layers));
  }
  return Status::Unsupported(
      fmt::format("tensor '{}' has no place in a model of type '{}' with this config.json", name,
                  config_.model_type));
}

Result<TokenizerSpec> HfCheckpoint::LoadTokenizer() const {
  return ImportTokenizer(folder_, config_.model.vocab_size);
}

bool HfCheckpoint::Has(const std::string& canonical_name) const {
  return tensors_.contains(canonical_name);
}

Status HfCheckpoint::Read(const std::string& canonical_name, std::vector<float>* out) const {
  const auto found = tensors_.find(canonical_name);
  if (found == tensors_.end()) {
    return Status::NotFound(fmt::format("{}: no tensor '{}'", folder_, canonical_name));
  }
  if (found->second == nullptr) {
    out->assign(size_t(config_.model.hidden_size), 1.0f);
    return Status::Ok();
  }
  const Status read = ReadFloats(*found->second, out).Annotate(folder_);
  files_.Forget(*found->second);
  return read;
}

std::string HfCheckpoint::StoredType(const std::string& canonical_name) const {
  const auto found = tensors_.find(canonical_name);
  if (found == tensors_.end() || found->second == nullptr) return "f32";
  return TypeName(found->second->dtype);
}

void HfCheckpoint::StoreExtras(format::Metadata* metadata) const {
  StoreGenerationDefaults(config_.generation, metadata);
  std::set<std::string> types;
  for (const auto& [name, entry] : tensors_) {
    if (entry != nullptr) types.insert(TypeName(entry->dtype));
  }
  metadata->Set("source.name", BaseName(folder_));
  metadata->Set("source.model_type", config_.model_type);
  metadata->Set("source.dtype", fmt::format("{}", fmt::join(types, "+")));
  metadata->Set("source.bytes", int64_t(files_.file_bytes()));
}

}  // namespace sdq::converter
