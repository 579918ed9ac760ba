// Tokenizer files of a checkpoint -> TokenizerSpec. All bytes are untrusted.
//
// tokenizer.json is executed as it is written (normalizers, pre-tokenizers, added tokens,
// post-processor, decoder); what this runtime cannot execute is refused with a message that names
// it, never approximated.
#ifndef SDQ_CONVERTER_TOKENIZER_IMPORT_H_
#define SDQ_CONVERTER_TOKENIZER_IMPORT_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::converter {

// The tokenizer of the Hugging Face folder: tokenizer.json, else tokenizer.model, else vocab.json +
// merges.txt; with tokenizer_config.json, special_tokens_map.json, added_tokens.json,
// chat_template.jinja and config.json where they say more. (tokenizer.json first: where several
// exist it is the complete definition and the others are its sources.)
// kNotFound if there is none of them, kCorrupt if it has more than `vocab_size` (> 0, the rows of
// the embedding) tokens. The result has passed Tokenizer::Create.
Result<TokenizerSpec> ImportTokenizer(const std::string& folder, int64_t vocab_size);

// One file kind each; `name` is for messages. The results are not yet checked by Validate().
//
// SentencePiece model: BPE, identity normalization. kUnsupported for unigram, word and char models
// and for other normalization rules.
Result<TokenizerSpec> ImportSentencePieceModel(std::span<const uint8_t> bytes,
                                               const std::string& name);
Result<TokenizerSpec> ImportTokenizerJson(std::string_view text, const std::string& name);
// GPT-2's pair of files.
Result<TokenizerSpec> ImportVocabAndMerges(std::string_view vocab_json, std::string_view merges_txt,
                                           const std::string& name);

// The text of the files beside the tokenizer; empty = absent.
struct TokenizerSideFiles {
  std::string tokenizer_config;
  std::string special_tokens_map;
  std::string added_tokens;
  std::string config;  // the model's config.json
  std::string chat_template;
};

enum class TokenizerSource { kTokenizerJson, kSentencePieceModel, kVocabAndMerges };

// What those files add: named tokens, added tokens, add_bos / add_eos, the chat template.
Status ApplySideFiles(const TokenizerSideFiles& files, TokenizerSource source, TokenizerSpec* spec);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_TOKENIZER_IMPORT_H_
