// Text <-> token ids.
//
// Two families, both byte-exact with the reference implementations: SentencePiece BPE with byte
// fallback (LLaMA-2) and byte-level BPE with the pre-tokenizer that tokenizer.json states (GPT-2,
// OPT, LLaMA-3 and digit-splitting kinds). The spec is plain data: the converter fills it from
// tokenizer.model / tokenizer.json / vocab.json + merges.txt, the .sdq file stores it as metadata
// "tokenizer.*" (FORMAT.md, "Tokenizer").
#ifndef SDQ_RUNTIME_TOKENIZER_H_
#define SDQ_RUNTIME_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata.h"
#include "format/status.h"

namespace sdq {

using TokenId = int32_t;

struct TokenizerSpec {
  enum class Kind : int64_t { kSentencePieceBpe = 1, kByteLevelBpe = 2 };
  enum class TokenType : uint32_t {
    kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6,
  };
  // One step of a pre-tokenizer, applied in order to every piece that the previous step left.
  struct PreTokenizerStep {
    enum class Kind : int64_t {
      kRegexIsolated = 1,  // split at matches, matches are pieces (tokenizers: Split/Isolated)
      kRegexRemoved = 2,
      kDigits = 3,         // argument: individual digits or runs
      kPunctuation = 4,
      kRegexMergedWithPrevious = 5,
      kRegexMergedWithNext = 6,
    };
    Kind kind = Kind::kRegexIsolated;
    std::string pattern;       // PCRE2 syntax, Unicode properties
    bool invert = false;
    bool individual_digits = false;
  };

  Kind kind = Kind::kSentencePieceBpe;
  std::vector<std::string> tokens;  // surface form; byte-level: raw bytes, not the visible mapping
  std::vector<float> scores;        // SentencePiece
  std::vector<uint32_t> types;      // TokenType per token
  std::vector<uint32_t> merges;     // pairs left id, right id; rank = position (byte-level)
  std::vector<PreTokenizerStep> pre_tokenizer;
  bool add_dummy_prefix = false;    // leading-space rule of SentencePiece
  bool remove_extra_whitespace = false;
  bool ignore_merges = false;       // LLaMA-3: a whole piece that is a token is taken as it is
  int64_t unknown_token = -1;
  int64_t bos_token = -1;
  int64_t eos_token = -1;
  bool add_bos = false;             // what Encode(text, special=true) adds
  bool add_eos = false;
  std::string chat_template;        // Jinja text of the checkpoint, informative; may be empty

  Status Validate() const;
  void Store(format::Metadata* metadata) const;
  static Result<TokenizerSpec> Load(const format::Metadata& metadata);
};

// Immutable after Create; safe to share between threads.
class Tokenizer {
 public:
  static Result<Tokenizer> Create(TokenizerSpec spec);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  const TokenizerSpec& spec() const;
  size_t vocab_size() const;

  // Invalid UTF-8 in `text` is replaced by U+FFFD per maximal subpart (as Python's "replace").
  // add_special: prepend BOS / append EOS as the spec says.
  // parse_special: control tokens written in the text ("<s>", "<|eot|>") become their ids; false
  // (user input) treats them as plain text.
  Result<std::vector<TokenId>> Encode(std::string_view text, bool add_special,
                                      bool parse_special) const;

  // Bytes of one token as they appear in running text (may be a fragment of a UTF-8 character).
  // Control tokens give "" unless show_special.
  std::string TokenBytes(TokenId id, bool show_special = false) const;
  // Whole text, as the reference decoder gives it (SentencePiece: without the dummy prefix space);
  // invalid UTF-8 becomes U+FFFD.
  std::string Decode(std::span<const TokenId> ids, bool skip_special) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Emits only whole, valid UTF-8 characters; keeps an unfinished one until its bytes arrive, and
// replaces bytes that can never become valid by U+FFFD.
class Utf8Stream {
 public:
  std::string Push(std::string_view bytes);  // what can be shown now
  std::string Flush();                       // U+FFFD for an unfinished rest
 private:
  std::string pending_;
};

}  // namespace sdq

#endif  // SDQ_RUNTIME_TOKENIZER_H_
