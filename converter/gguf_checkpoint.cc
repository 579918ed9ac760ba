#include "converter/gguf_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "converter/gguf_config.h"
#include "converter/gguf_tokenizer.h"

namespace sdq::converter {
namespace {

struct Part {
  std::string_view canonical;
  std::string_view gguf;
};
constexpr Part kLayerParts[] = {
    {"attn_norm", "attn_norm"}, {"attn.q", "attn_q"},      {"attn.k", "attn_k"},
    {"attn.v", "attn_v"},       {"attn.o", "attn_output"}, {"ffn_norm", "ffn_norm"},
    {"ffn.gate", "ffn_gate"},   {"ffn.up", "ffn_up"},      {"ffn.down", "ffn_down"},
};
constexpr Part kOuterParts[] = {
    {"embed.tokens", "token_embd"}, {"final_norm", "output_norm"}, {"head", "output"}};
constexpr std::string_view kLayers = "layers.";
constexpr std::string_view kBlocks = "blk.";
constexpr std::string_view kRopeTensor = "rope_freqs.weight";  // read by GgufConfig

std::string_view Translate(std::span<const Part> parts, std::string_view canonical) {
  for (const Part& part : parts) {
    if (part.canonical == canonical) return part.gguf;
  }
  return "";
}

bool StripSuffix(std::string_view suffix, std::string_view* text) {
  if (!text->ends_with(suffix)) return false;
  text->remove_suffix(suffix.size());
  return true;
}

// N of "blk.N.rest".
std::optional<int64_t> LayerNumber(std::string_view name) {
  if (!name.starts_with(kBlocks)) return std::nullopt;
  name.remove_prefix(kBlocks.size());
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  return number;
}

std::string LowerCase(std::string text) {
  for (char& c : text) c = char(std::tolower(uint8_t(c)));
  return text;
}

bool IsVector(std::string_view canonical) {
  return canonical.ends_with(".weight") || canonical.ends_with(".bias");
}

bool IsRotated(std::string_view canonical) {
  StripSuffix(".bias", &canonical);
  return canonical.ends_with(".attn.q") || canonical.ends_with(".attn.k");
}

}  // namespace

std::string GgufTensorName(std::string_view canonical) {
  const bool is_bias = StripSuffix(".bias", &canonical);
  if (!is_bias) StripSuffix(".weight", &canonical);
  std::string prefix;
  std::span<const Part> parts = kOuterParts;
  if (canonical.starts_with(kLayers)) {
    const size_t end = canonical.find('.', kLayers.size());
    if (end == std::string_view::npos) return "";
    prefix = fmt::format("{}{}.", kBlocks, canonical.substr(kLayers.size(), end - kLayers.size()));
    canonical.remove_prefix(end + 1);
    parts = kLayerParts;
  }
  const std::string_view name = Translate(parts, canonical);
  if (name.empty()) return "";
  return prefix + std::string(name) + (is_bias ? ".bias" : ".weight");
}

void RotaryPairsToHalves(size_t head_dim, size_t columns, std::vector<float>* values) {
  const size_t half = head_dim / 2;
  std::vector<float> head(head_dim * columns);
  for (auto at = values->begin(); at != values->end(); at += std::ptrdiff_t(head.size())) {
    for (size_t row = 0; row < head_dim; ++row) {
      const size_t source = row < half ? 2 * row : 2 * (row - half) + 1;
      std::copy_n(at + std::ptrdiff_t(source * columns), columns,
                  head.begin() + std::ptrdiff_t(row * columns));
    }
    std::copy(head.begin(), head.end(), at);
  }
}

Result<std::unique_ptr<Checkpoint>> GgufCheckpoint::OpenFile(const std::string& path) {
  SDQ_ASSIGN_OR_RETURN(format::MappedFile file, format::MappedFile::Open(path));
  SDQ_ASSIGN_OR_RETURN(GgufContents contents, ParseGguf(file.bytes(), path));
  SDQ_ASSIGN_OR_RETURN(ModelConfig config, GgufConfig(contents));
  std::unique_ptr<GgufCheckpoint> checkpoint(
      new GgufCheckpoint(path, std::move(file), std::move(contents), std::move(config)));
  SDQ_RETURN_IF_ERROR(checkpoint->BindAll().Annotate(path));
  SDQ_RETURN_IF_ERROR(checkpoint->CheckUnused().Annotate(path));
  return std::unique_ptr<Checkpoint>(std::move(checkpoint));
}

Status GgufCheckpoint::Bind(const TensorShape& shape) {
  const std::string name = GgufTensorName(shape.name);
  const auto found = contents_.tensors.find(name);
  if (found == contents_.tensors.end()) {
    if (shape.optional) return Status::Ok();
    return Status::NotFound(fmt::format("tensor '{}' is missing", name));
  }
  std::vector<uint64_t> expected = {uint64_t(shape.columns)};
  if (!IsVector(shape.name)) expected.push_back(uint64_t(shape.rows));
  if (found->second.dimensions != expected) {
    return Status::Corrupt(fmt::format("tensor '{}' has shape [{}], the metadata expects [{}]",
                                       name, fmt::join(found->second.dimensions, ", "),
                                       fmt::join(expected, ", ")));
  }
  tensors_[shape.name] = &found->second;
  return Status::Ok();
}

Status GgufCheckpoint::BindAll() {
  for (const TensorShape& shape : ExpectedTensors(config_)) {
    SDQ_RETURN_IF_ERROR(Bind(shape));
    if (!shape.is_linear) continue;
    SDQ_RETURN_IF_ERROR(Bind({shape.name + ".bias", 1, shape.rows, false, true}));
  }
  return Status::Ok();
}

Status GgufCheckpoint::CheckUnused() const {
  std::set<const GgufTensor*> used;
  for (const auto& [name, tensor] : tensors_) used.insert(tensor);
  for (const auto& [name, tensor] : contents_.tensors) {
    if (used.contains(&tensor) || name == kRopeTensor) continue;
    const auto layer = LayerNumber(name);
    if (layer && *layer >= config_.layers) {
      return Status::Corrupt(
          fmt::format("tensor '{}' is of layer {}, but the metadata says {} layers (the first is "
                      "0)",
                      name, *layer, config_.layers));
    }
    return Status::Unsupported(
        fmt::format("tensor '{}' has no place in a model of architecture 'llama'", name));
  }
  return Status::Ok();
}

Result<TokenizerSpec> GgufCheckpoint::LoadTokenizer() const {
  return GgufTokenizer(contents_.metadata, config_.vocab_size);
}

bool GgufCheckpoint::Has(const std::string& canonical_name) const {
  return tensors_.contains(canonical_name);
}

Status GgufCheckpoint::Read(const std::string& canonical_name, std::vector<float>* out) const {
  const auto found = tensors_.find(canonical_name);
  if (found == tensors_.end()) {
    return Status::NotFound(fmt::format("{}: no tensor '{}'", path_, canonical_name));
  }
  const GgufTensor& tensor = *found->second;
  const Status read = ReadGgufTensor(tensor, out).Annotate(path_);
  file_.Forget(tensor.bytes);
  SDQ_RETURN_IF_ERROR(read);
  if (IsRotated(canonical_name)) {
    const size_t columns = IsVector(canonical_name) ? 1 : size_t(tensor.dimensions[0]);
    RotaryPairsToHalves(size_t(config_.head_dim), columns, out);
  }
  return Status::Ok();
}

std::string GgufCheckpoint::StoredType(const std::string& canonical_name) const {
  const auto found = tensors_.find(canonical_name);
  return found == tensors_.end() ? "f32" : LowerCase(found->second->type->name);
}

void GgufCheckpoint::StoreExtras(format::Metadata* metadata) const {
  std::set<std::string> types;
  for (const auto& [name, tensor] : tensors_) types.insert(LowerCase(tensor->type->name));
  metadata->Set("source.name", std::filesystem::path(path_).filename().string());
  metadata->Set("source.model_type", std::string("llama"));
  metadata->Set("source.dtype", fmt::format("{}", fmt::join(types, "+")));
  metadata->Set("source.bytes", int64_t(file_.bytes().size()));
}

}  // namespace sdq::converter
