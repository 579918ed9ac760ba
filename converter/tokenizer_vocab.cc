#include "converter/tokenizer_vocab.h"

#include <fmt/format.h>

#include "converter/byte_level.h"
#include "converter/regex_syntax.h"
#include "converter/tokenizer_import.h"

namespace sdq::converter {
namespace {

using Type = TokenizerSpec::TokenType;

// Unused ids that a vocabulary may have beyond twice its size: bounds what a small file allocates.
constexpr int64_t kMaxHoles = 65536;
constexpr int64_t kMaxTokens = int64_t(1) << 22;

}  // namespace

std::string ByteLevelPattern() {
  constexpr std::string_view kGpt2 =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
  return *PcreFromOniguruma(kGpt2);
}

VocabBuilder::VocabBuilder(TokenizerSpec* spec, std::string name)
    : spec_(spec), name_(std::move(name)) {
  for (size_t i = 0; i < spec->tokens.size(); ++i) ids_.emplace(spec->tokens[i], int64_t(i));
  for (const TokenizerSpec::AddedToken& added : spec->added) added_.insert(int64_t(added.id));
}

Status VocabBuilder::Grow(int64_t id) {
  const auto used = int64_t(ids_.size());
  if (id < 0 || id >= kMaxTokens || id > 2 * used + kMaxHoles) {
    return Status::Corrupt(fmt::format("{}: token id {} with {} tokens", name_, id, used));
  }
  if (size_t(id) >= spec_->tokens.size()) {
    spec_->tokens.resize(size_t(id) + 1);
    spec_->types.resize(size_t(id) + 1, uint32_t(Type::kUnused));
    if (!spec_->scores.empty()) spec_->scores.resize(size_t(id) + 1, 0.0f);
  }
  return Status::Ok();
}

Status VocabBuilder::AddVocabulary(const nlohmann::json& vocab) {
  if (!vocab.is_object()) return Status::Corrupt(name_ + ": vocab: expected an object");
  ids_.reserve(ids_.size() + vocab.size());
  for (const auto& [token, value] : vocab.items()) {
    int64_t id = 0;
    if (!JsonToInt(value, &id)) {
      return Status::Corrupt(fmt::format("{}: the id of token '{}' is no integer", name_, token));
    }
    ids_.emplace(token, id);
  }
  for (const auto& [token, id] : ids_) {
    SDQ_RETURN_IF_ERROR(Grow(id));
    if (spec_->types[size_t(id)] != uint32_t(Type::kUnused)) {
      return Status::Corrupt(fmt::format("{}: two tokens with id {}", name_, id));
    }
    if (token.empty()) continue;  // can never be produced
    spec_->tokens[size_t(id)] = token;
    spec_->types[size_t(id)] = uint32_t(Type::kNormal);
  }
  return Status::Ok();
}

Status VocabBuilder::AddAdded(int64_t id, const TokenizerSpec::AddedToken& added, bool special) {
  SDQ_RETURN_IF_ERROR(Grow(id));
  const std::string& content = added.pattern;
  std::string& present = spec_->tokens[size_t(id)];
  const int64_t known = Find(content);
  if ((known >= 0 && known != id) || (!present.empty() && present != content)) {
    return Status::Corrupt(fmt::format("{}: added token '{}' has id {}, but {}", name_, content, id,
                                       known >= 0 && known != id
                                           ? fmt::format("it is token {}", known)
                                           : fmt::format("that is '{}'", present)));
  }
  if (!added_.insert(id).second) return Status::Ok();
  present = content;
  ids_.emplace(content, id);
  uint32_t& type = spec_->types[size_t(id)];
  if (type != uint32_t(Type::kUnknown)) {
    type = uint32_t(special ? Type::kControl : Type::kUserDefined);
  }
  spec_->added.push_back(added);
  spec_->added.back().id = uint32_t(id);
  return Status::Ok();
}

Status VocabBuilder::AddMerge(std::string_view left, std::string_view right) {
  const int64_t a = Find(left);
  const int64_t b = Find(right);
  std::string merged(left);
  merged += right;
  const int64_t result = Find(merged);
  if (a < 0 || b < 0 || result < 0) {
    return Status::Corrupt(fmt::format("{}: merge '{} {}' names '{}', which is no token", name_,
                                       left, right,
                                       a < 0   ? std::string(left)
                                       : b < 0 ? std::string(right)
                                               : merged));
  }
  const auto type = Type(spec_->types[size_t(result)]);
  if (type != Type::kNormal && type != Type::kUserDefined) return Status::Ok();
  spec_->merges.push_back(uint32_t(a));
  spec_->merges.push_back(uint32_t(b));
  return Status::Ok();
}

int64_t VocabBuilder::Find(std::string_view content) const {
  const auto found = ids_.find(std::string(content));
  return found == ids_.end() ? -1 : found->second;
}

void VocabBuilder::ToBytes() {
  std::string bytes;
  for (size_t i = 0; i < spec_->tokens.size(); ++i) {
    if (spec_->types[i] != uint32_t(Type::kNormal)) continue;
    if (BytesOfVisible(spec_->tokens[i], &bytes)) {
      spec_->tokens[i] = bytes;
    } else {
      spec_->types[i] = uint32_t(Type::kUnused);  // no bytes can give it
    }
  }
}

Result<TokenizerSpec::AddedToken> ReadAddedToken(const JsonFields& fields) {
  TokenizerSpec::AddedToken added;
  SDQ_ASSIGN_OR_RETURN(added.pattern, fields.String("content"));
  SDQ_ASSIGN_OR_RETURN(added.lstrip, fields.BoolOr("lstrip", false));
  SDQ_ASSIGN_OR_RETURN(added.rstrip, fields.BoolOr("rstrip", false));
  SDQ_ASSIGN_OR_RETURN(added.single_word, fields.BoolOr("single_word", false));
  SDQ_ASSIGN_OR_RETURN(added.normalized, fields.BoolOr("normalized", false));
  return added;
}

// vocab.json + merges.txt.
Result<TokenizerSpec> ImportVocabAndMerges(std::string_view vocab_json, std::string_view merges_txt,
                                           const std::string& name) {
  TokenizerSpec spec;
  spec.kind = TokenizerSpec::Kind::kByteLevelBpe;
  const std::string vocab_name = name + "vocab.json";
  SDQ_ASSIGN_OR_RETURN(const auto vocab, ParseJson(vocab_json, vocab_name, kTokenizerJsonLimits));
  VocabBuilder builder(&spec, vocab_name);
  SDQ_RETURN_IF_ERROR(builder.AddVocabulary(vocab));
  for (size_t line_number = 1; !merges_txt.empty(); ++line_number) {
    const size_t end = std::min(merges_txt.find('\n'), merges_txt.size());
    std::string_view line = merges_txt.substr(0, end);
    merges_txt.remove_prefix(std::min(end + 1, merges_txt.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      return Status::Corrupt(
          fmt::format("{}merges.txt:{}: expected two tokens", name, line_number));
    }
    Status status = builder.AddMerge(line.substr(0, space), line.substr(space + 1));
    if (!status.ok()) {
      return std::move(status).Annotate(fmt::format("{}merges.txt:{}", name, line_number));
    }
  }
  builder.ToBytes();
  spec.pre_tokenizer.push_back(
      {TokenizerSpec::PreTokenizerStep::Kind::kRegexIsolated, ByteLevelPattern(), false, false});
  return spec;
}

}  // namespace sdq::converter
