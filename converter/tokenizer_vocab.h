// What tokenizer.json and vocab.json have in common: the vocabulary object, merges, added tokens.
#ifndef SDQ_CONVERTER_TOKENIZER_VOCAB_H_
#define SDQ_CONVERTER_TOKENIZER_VOCAB_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "converter/json.h"
#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

// Tokenizers are large: up to a few hundred thousand merges of two strings each.
inline constexpr JsonLimits kTokenizerJsonLimits = {.max_depth = 32, .max_values = 16'000'000};

// U+2581, which stands for a space in character-level vocabularies.
inline constexpr std::string_view kSpaceSign = "\xe2\x96\x81";

// The pattern of ByteLevel (GPT-2) in PCRE2 syntax.
std::string ByteLevelPattern();

// The vocabulary as the files write it.
class VocabBuilder {
 public:
  // `spec` may hold tokens already (those of a SentencePiece model).
  VocabBuilder(TokenizerSpec* spec, std::string name);

  // {"token": id, ...}. Ids may have holes (unused tokens), but not many.
  Status AddVocabulary(const nlohmann::json& vocab);
  // Adds or confirms an added token; `content` is not empty. The first mention of an id decides.
  Status AddAdded(int64_t id, const TokenizerSpec::AddedToken& added, bool special);
  // One rule, by the names of its two tokens. Rules that would make a control token out of text are
  // left out.
  Status AddMerge(std::string_view left, std::string_view right);
  // -1 if there is no such token.
  int64_t Find(std::string_view content) const;
  // Byte-level vocabularies: from the visible alphabet to bytes. Call it last.
  void ToBytes();

 private:
  Status Grow(int64_t id);

  TokenizerSpec* spec_;
  std::string name_;
  std::unordered_map<std::string, int64_t> ids_;
  std::unordered_set<int64_t> added_;  // ids
};

// The fields that every description of an added token has, whatever file it stands in.
Result<TokenizerSpec::AddedToken> ReadAddedToken(const JsonFields& fields);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_TOKENIZER_VOCAB_H_
