// TokenizerSpec: checks, and its form as metadata "tokenizer.*" (the table in tokenizer.h).
#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "format/utf8.h"
#include "runtime/tokenizer.h"
#include "runtime/tokenizer_bpe.h"

namespace sdq {
namespace {

using format::Metadata;

// Caps far above any known tokenizer; they bound the tables that Create builds.
constexpr size_t kMaxTokens = size_t(1) << 22;
constexpr size_t kMaxMerges = size_t(1) << 23;
constexpr size_t kMaxTokenBytes = size_t(1) << 16;
constexpr size_t kMaxAllTokenBytes = size_t(1) << 28;
constexpr size_t kMaxSteps = 16;
constexpr size_t kMaxPatternBytes = 8192;
constexpr size_t kMaxAddedBytes = 512;

constexpr uint32_t kInvert = 1;
constexpr uint32_t kIndividualDigits = 2;
constexpr uint32_t kLstrip = 1;
constexpr uint32_t kRstrip = 2;
constexpr uint32_t kSingleWord = 4;
constexpr uint32_t kNormalized = 8;

// The flags and numbers that are stored under their own names.
template <typename Spec, typename Visitor>
void VisitBools(Spec& spec, const Visitor& visit) {
  visit("tokenizer.add_dummy_prefix", spec.add_dummy_prefix);
  visit("tokenizer.prefix_in_pre_tokenizer", spec.prefix_in_pre_tokenizer);
  visit("tokenizer.prefix_first_only", spec.prefix_first_only);
  visit("tokenizer.strip_prefix_space", spec.strip_prefix_space);
  visit("tokenizer.remove_extra_whitespace", spec.remove_extra_whitespace);
  visit("tokenizer.ignore_merges", spec.ignore_merges);
  visit("tokenizer.fuse_unknown", spec.fuse_unknown);
  visit("tokenizer.add_bos", spec.add_bos);
  visit("tokenizer.add_eos", spec.add_eos);
}

template <typename Spec, typename Visitor>
void VisitInts(Spec& spec, const Visitor& visit) {
  visit("tokenizer.unknown_token", spec.unknown_token);
  visit("tokenizer.bos_token", spec.bos_token);
  visit("tokenizer.eos_token", spec.eos_token);
}

template <typename Spec, typename Visitor>
void VisitStrings(Spec& spec, const Visitor& visit) {
  visit("tokenizer.unknown_surface", spec.unknown_surface);
  visit("tokenizer.chat_template", spec.chat_template);
}

Status CheckTokens(const TokenizerSpec& spec) {
  const size_t count = spec.tokens.size();
  if (count == 0 || count > kMaxTokens) {
    return Status::OutOfRange(
        fmt::format("tokenizer: {} tokens, expected 1 to {}", count, kMaxTokens));
  }
  if (spec.types.size() != count) {
    return Status::Corrupt(
        fmt::format("tokenizer: {} token types for {} tokens", spec.types.size(), count));
  }
  size_t bytes = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t size = spec.tokens[i].size();
    bytes += size;
    if (size > kMaxTokenBytes || bytes > kMaxAllTokenBytes) {
      return Status::OutOfRange(fmt::format("tokenizer: token {} has {} bytes", i, size));
    }
    if (spec.types[i] < 1 || spec.types[i] > uint32_t(TokenizerSpec::TokenType::kByte)) {
      return Status::Corrupt(
          fmt::format("tokenizer: token {} has unknown type {}", i, spec.types[i]));
    }
    if (spec.types[i] == uint32_t(TokenizerSpec::TokenType::kByte) &&
        tokenizer::ByteOfSurface(spec.tokens[i]) < 0) {
      return Status::Corrupt(fmt::format("tokenizer: token {} is a byte, but not like <0x0A>", i));
    }
  }
  return Status::Ok();
}

Status CheckOrder(const TokenizerSpec& spec) {
  const size_t count = spec.tokens.size();
  const bool by_score = spec.kind == TokenizerSpec::Kind::kSentencePieceBpe && spec.merges.empty();
  if (by_score ? spec.scores.size() != count : !spec.scores.empty()) {
    return Status::Corrupt(
        fmt::format("tokenizer: {} scores, expected {}", spec.scores.size(), by_score ? count : 0));
  }
  for (size_t i = 0; i < spec.scores.size(); ++i) {
    if (!std::isfinite(spec.scores[i])) {
      return Status::Corrupt(fmt::format("tokenizer: the score of token {} is not finite", i));
    }
  }
  if (spec.merges.size() % 2 != 0 || spec.merges.size() / 2 > kMaxMerges) {
    return Status::Corrupt(
        fmt::format("tokenizer: {} merge ids, expected pairs", spec.merges.size()));
  }
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    if (spec.merges[i] >= count) {
      return Status::Corrupt(
          fmt::format("tokenizer: merge {} names token {} of {}", i / 2, spec.merges[i], count));
    }
  }
  return Status::Ok();
}

Status CheckSteps(const TokenizerSpec& spec) {
  using Step = TokenizerSpec::PreTokenizerStep;
  if (spec.pre_tokenizer.size() > kMaxSteps) {
    return Status::OutOfRange(fmt::format("tokenizer: {} pre-tokenizer steps, at most {}",
                                          spec.pre_tokenizer.size(), kMaxSteps));
  }
  for (size_t i = 0; i < spec.pre_tokenizer.size(); ++i) {
    const Step& step = spec.pre_tokenizer[i];
    if (step.kind < Step::Kind::kRegexIsolated || step.kind > Step::Kind::kRegexMergedWithNext) {
      return Status::Corrupt(fmt::format("tokenizer: pre-tokenizer step {} has unknown kind {}", i,
                                         int64_t(step.kind)));
    }
    if (step.pattern.size() > kMaxPatternBytes || !format::IsUtf8(step.pattern)) {
      return Status::Corrupt(fmt::format(
          "tokenizer: the pattern of pre-tokenizer step {} is too long or not UTF-8", i));
    }
  }
  return Status::Ok();
}

Status CheckAdded(const TokenizerSpec& spec) {
  if (spec.added.size() > spec.tokens.size()) {
    return Status::Corrupt(fmt::format("tokenizer: {} added tokens of {} tokens", spec.added.size(),
                                       spec.tokens.size()));
  }
  for (const TokenizerSpec::AddedToken& added : spec.added) {
    if (added.id >= spec.tokens.size()) {
      return Status::Corrupt(
          fmt::format("tokenizer: added token id {} of {} tokens", added.id, spec.tokens.size()));
    }
    if (added.pattern.empty() || added.pattern.size() > kMaxAddedBytes ||
        !format::IsUtf8(added.pattern)) {
      return Status::Corrupt(fmt::format(
          "tokenizer: the text of added token {} is empty, longer than {} bytes or not UTF-8",
          added.id, kMaxAddedBytes));
    }
  }
  return Status::Ok();
}

Status CheckSpecialIds(const TokenizerSpec& spec) {
  Status status;
  VisitInts(spec, [&](const char* key, int64_t id) {
    if (status.ok() && (id < -1 || id >= int64_t(spec.tokens.size()))) {
      status = Status::Corrupt(
          fmt::format("{} is {}, there are {} tokens", key, id, spec.tokens.size()));
    }
  });
  SDQ_RETURN_IF_ERROR(std::move(status));
  if ((spec.add_bos && spec.bos_token < 0) || (spec.add_eos && spec.eos_token < 0)) {
    return Status::Corrupt("tokenizer: add_bos or add_eos without such a token");
  }
  return Status::Ok();
}

void StoreSteps(const TokenizerSpec& spec, Metadata* metadata) {
  std::vector<int64_t> kinds;
  std::vector<std::string> patterns;
  std::vector<uint32_t> flags;
  for (const auto& step : spec.pre_tokenizer) {
    kinds.push_back(int64_t(step.kind));
    patterns.push_back(step.pattern);
    flags.push_back((step.invert ? kInvert : 0) | (step.individual_digits ? kIndividualDigits : 0));
  }
  if (kinds.empty()) return;
  metadata->Set("tokenizer.pre_tokenizer.kinds", std::move(kinds));
  metadata->Set("tokenizer.pre_tokenizer.patterns", std::move(patterns));
  metadata->Set("tokenizer.pre_tokenizer.flags", std::move(flags));
}

void StoreAdded(const TokenizerSpec& spec, Metadata* metadata) {
  std::vector<uint32_t> ids;
  std::vector<std::string> patterns;
  std::vector<uint32_t> flags;
  for (const auto& added : spec.added) {
    ids.push_back(added.id);
    patterns.push_back(added.pattern);
    flags.push_back((added.lstrip ? kLstrip : 0) | (added.rstrip ? kRstrip : 0) |
                    (added.single_word ? kSingleWord : 0) | (added.normalized ? kNormalized : 0));
  }
  if (ids.empty()) return;
  metadata->Set("tokenizer.added.ids", std::move(ids));
  metadata->Set("tokenizer.added.patterns", std::move(patterns));
  metadata->Set("tokenizer.added.flags", std::move(flags));
}

Status LoadSteps(const Metadata& metadata, TokenizerSpec* spec) {
  if (!metadata.Has("tokenizer.pre_tokenizer.kinds")) return Status::Ok();
  SDQ_ASSIGN_OR_RETURN(const auto* kinds, metadata.GetInts("tokenizer.pre_tokenizer.kinds"));
  SDQ_ASSIGN_OR_RETURN(const auto* patterns,
                       metadata.GetStrings("tokenizer.pre_tokenizer.patterns"));
  SDQ_ASSIGN_OR_RETURN(const auto* flags, metadata.GetUints("tokenizer.pre_tokenizer.flags"));
  if (patterns->size() != kinds->size() || flags->size() != kinds->size()) {
    return Status::Corrupt("tokenizer.pre_tokenizer.*: lists of different lengths");
  }
  for (size_t i = 0; i < kinds->size(); ++i) {
    if ((*flags)[i] > (kInvert | kIndividualDigits)) {
      return Status::Corrupt("tokenizer.pre_tokenizer.flags: unknown bit");
    }
    spec->pre_tokenizer.push_back({TokenizerSpec::PreTokenizerStep::Kind((*kinds)[i]),
                                   (*patterns)[i], ((*flags)[i] & kInvert) != 0,
                                   ((*flags)[i] & kIndividualDigits) != 0});
  }
  return Status::Ok();
}

Status LoadAdded(const Metadata& metadata, TokenizerSpec* spec) {
  if (!metadata.Has("tokenizer.added.ids")) return Status::Ok();
  SDQ_ASSIGN_OR_RETURN(const auto* ids, metadata.GetUints("tokenizer.added.ids"));
  SDQ_ASSIGN_OR_RETURN(const auto* patterns, metadata.GetStrings("tokenizer.added.patterns"));
  SDQ_ASSIGN_OR_RETURN(const auto* flags, metadata.GetUints("tokenizer.added.flags"));
  if (patterns->size() != ids->size() || flags->size() != ids->size()) {
    return Status::Corrupt("tokenizer.added.*: lists of different lengths");
  }
  for (size_t i = 0; i < ids->size(); ++i) {
    const uint32_t flag = (*flags)[i];
    if (flag > (kLstrip | kRstrip | kSingleWord | kNormalized)) {
      return Status::Corrupt("tokenizer.added.flags: unknown bit");
    }
    spec->added.push_back({(*ids)[i], (*patterns)[i], (flag & kLstrip) != 0, (flag & kRstrip) != 0,
                           (flag & kSingleWord) != 0, (flag & kNormalized) != 0});
  }
  return Status::Ok();
}

Status LoadScalars(const Metadata& metadata, TokenizerSpec* spec) {
  Status status;
  const auto take = [&status](auto result, auto& field) {
    if (!status.ok()) return;
    if (result.ok()) {
      field = *std::move(result);
    } else {
      status = std::move(result).status();
    }
  };
  VisitBools(*spec,
             [&](const char* key, bool& field) { take(metadata.GetBoolOr(key, field), field); });
  VisitInts(*spec,
            [&](const char* key, int64_t& field) { take(metadata.GetIntOr(key, field), field); });
  VisitStrings(*spec, [&](const char* key, std::string& field) {
    take(metadata.GetStringOr(key, field), field);
  });
  return status;
}

}  // namespace

Status TokenizerSpec::Validate() const {
  if (kind != Kind::kSentencePieceBpe && kind != Kind::kByteLevelBpe) {
    return Status::Corrupt(fmt::format("tokenizer: unknown kind {}", int64_t(kind)));
  }
  SDQ_RETURN_IF_ERROR(CheckTokens(*this));
  SDQ_RETURN_IF_ERROR(CheckOrder(*this));
  SDQ_RETURN_IF_ERROR(CheckSteps(*this));
  SDQ_RETURN_IF_ERROR(CheckAdded(*this));
  return CheckSpecialIds(*this);
}

void TokenizerSpec::Store(format::Metadata* metadata) const {
  metadata->Set("tokenizer.kind", int64_t(kind));
  metadata->Set("tokenizer.tokens", tokens);
  metadata->Set("tokenizer.types", types);
  if (!scores.empty()) metadata->Set("tokenizer.scores", scores);
  if (!merges.empty()) metadata->Set("tokenizer.merges", merges);
  StoreSteps(*this, metadata);
  StoreAdded(*this, metadata);
  VisitBools(*this, [&](const char* key, bool value) { metadata->Set(key, value); });
  VisitInts(*this, [&](const char* key, int64_t value) { metadata->Set(key, value); });
  VisitStrings(*this, [&](const char* key, const std::string& value) {
    if (!value.empty()) metadata->Set(key, value);
  });
}

Result<TokenizerSpec> TokenizerSpec::Load(const format::Metadata& metadata) {
  TokenizerSpec spec;
  SDQ_ASSIGN_OR_RETURN(const int64_t kind, metadata.GetInt("tokenizer.kind"));
  spec.kind = Kind(kind);
  SDQ_ASSIGN_OR_RETURN(const auto* tokens, metadata.GetStrings("tokenizer.tokens"));
  SDQ_ASSIGN_OR_RETURN(const auto* types, metadata.GetUints("tokenizer.types"));
  spec.tokens = *tokens;
  spec.types = *types;
  if (metadata.Has("tokenizer.scores")) {
    SDQ_ASSIGN_OR_RETURN(const auto* scores, metadata.GetFloats("tokenizer.scores"));
    spec.scores = *scores;
  }
  if (metadata.Has("tokenizer.merges")) {
    SDQ_ASSIGN_OR_RETURN(const auto* merges, metadata.GetUints("tokenizer.merges"));
    spec.merges = *merges;
  }
  SDQ_RETURN_IF_ERROR(LoadSteps(metadata, &spec));
  SDQ_RETURN_IF_ERROR(LoadAdded(metadata, &spec));
  SDQ_RETURN_IF_ERROR(LoadScalars(metadata, &spec));
  SDQ_RETURN_IF_ERROR(spec.Validate());
  return spec;
}

}  // namespace sdq
