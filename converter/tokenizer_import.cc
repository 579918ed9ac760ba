#include "converter/tokenizer_import.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace sdq::converter {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxFileBytes = uintmax_t(256) << 20;

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

Result<std::string> ReadFile(const std::string& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    return Status::IoError(path + ": not a regular file");
  }
  const uintmax_t size = fs::file_size(path, error);
  if (error) return Status::IoError(path + ": " + error.message());
  if (size > kMaxFileBytes) {
    return Status::OutOfRange(
        fmt::format("{}: {} bytes, at most {} for a tokenizer file", path, size, kMaxFileBytes));
  }
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return Status::IoError(fmt::format("{}: {}", path, std::strerror(errno)));
  std::string text(size_t(size), '\0');
  stream.read(text.data(), std::streamsize(size));
  if (uintmax_t(stream.gcount()) != size) return Status::IoError(path + ": cut short");
  return text;
}

Status ReadIfPresent(const std::string& path, std::string* text) {
  if (!Exists(path)) return Status::Ok();
  SDQ_ASSIGN_OR_RETURN(*text, ReadFile(path));
  return Status::Ok();
}

Result<TokenizerSpec> ImportMain(const std::string& folder, TokenizerSource* source) {
  const std::string json_path = folder + "/tokenizer.json";
  if (Exists(json_path)) {
    *source = TokenizerSource::kTokenizerJson;
    SDQ_ASSIGN_OR_RETURN(const std::string text, ReadFile(json_path));
    return ImportTokenizerJson(text, json_path);
  }
  const std::string model_path = folder + "/tokenizer.model";
  if (Exists(model_path)) {
    *source = TokenizerSource::kSentencePieceModel;
    SDQ_ASSIGN_OR_RETURN(const std::string text, ReadFile(model_path));
    return ImportSentencePieceModel({reinterpret_cast<const uint8_t*>(text.data()), text.size()},
                                    model_path);
  }
  const std::string vocab_path = folder + "/vocab.json";
  if (!Exists(vocab_path)) {
    return Status::NotFound(folder +
                            ": no tokenizer.json, tokenizer.model or vocab.json with merges.txt");
  }
  *source = TokenizerSource::kVocabAndMerges;
  if (!Exists(folder + "/merges.txt")) {
    return Status::NotFound(folder + ": vocab.json without merges.txt");
  }
  SDQ_ASSIGN_OR_RETURN(const std::string vocab, ReadFile(vocab_path));
  SDQ_ASSIGN_OR_RETURN(const std::string merges, ReadFile(folder + "/merges.txt"));
  return ImportVocabAndMerges(vocab, merges, folder + "/");
}

}  // namespace

Result<TokenizerSpec> ImportTokenizer(const std::string& folder, int64_t vocab_size) {
  if (vocab_size <= 0) {
    return Status::InvalidArgument(fmt::format("vocabulary of {} rows", vocab_size));
  }
  TokenizerSource source = TokenizerSource::kTokenizerJson;
  SDQ_ASSIGN_OR_RETURN(TokenizerSpec spec, ImportMain(folder, &source));
  TokenizerSideFiles files;
  SDQ_RETURN_IF_ERROR(ReadIfPresent(folder + "/tokenizer_config.json", &files.tokenizer_config));
  SDQ_RETURN_IF_ERROR(
      ReadIfPresent(folder + "/special_tokens_map.json", &files.special_tokens_map));
  SDQ_RETURN_IF_ERROR(ReadIfPresent(folder + "/added_tokens.json", &files.added_tokens));
  SDQ_RETURN_IF_ERROR(ReadIfPresent(folder + "/config.json", &files.config));
  SDQ_RETURN_IF_ERROR(ReadIfPresent(folder + "/chat_template.jinja", &files.chat_template));
  Status status = ApplySideFiles(files, source, &spec);
  if (!status.ok()) return std::move(status).Annotate(folder);
  if (int64_t(spec.tokens.size()) > vocab_size) {
    return Status::Corrupt(
        fmt::format("{}: the tokenizer has {} tokens, the model's vocabulary only {} rows", folder,
                    spec.tokens.size(), vocab_size));
  }
  // Patterns, merges and surface forms are checked where they are compiled.
  Result<Tokenizer> usable = Tokenizer::Create(spec);
  if (!usable.ok()) return std::move(usable).status().Annotate(folder);
  return spec;
}

}  // namespace sdq::converter
