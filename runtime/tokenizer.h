// Text <-> token ids.
//
// Two families, both byte-exact with the reference implementations: character BPE with the space
// written as U+2581 and byte fallback (SentencePiece, LLaMA-2), and byte-level BPE with the
// pre-tokenizer that tokenizer.json states (GPT-2, OPT, LLaMA-3 and digit-splitting kinds). The
// spec is plain data: the converter fills it from tokenizer.model / tokenizer.json / vocab.json +
// merges.txt, the .sdq file stores it as metadata:
//
// clang-format off
//   key                                type      meaning (absent = the default of the field)
//   tokenizer.kind                     int       TokenizerSpec::Kind
//   tokenizer.tokens                   strings   surface forms, raw bytes (byte-level tokens may
//                                                hold fragments of UTF-8 characters)
//   tokenizer.types                    uints     TokenType per token
//   tokenizer.scores                   floats    one per token; absent when merges give the order
//   tokenizer.merges                   uints     left id, right id, left id, right id, ...
//   tokenizer.pre_tokenizer.kinds      ints      PreTokenizerStep::Kind, in order of application
//   tokenizer.pre_tokenizer.patterns   strings   one per step
//   tokenizer.pre_tokenizer.flags      uints     one per step: bit 0 invert, bit 1 individual digits
//   tokenizer.added.ids                uints     AddedToken::id
//   tokenizer.added.patterns           strings   AddedToken::pattern
//   tokenizer.added.flags              uints     bit 0 lstrip, 1 rstrip, 2 single word, 3 normalized
//   tokenizer.add_dummy_prefix, .prefix_in_pre_tokenizer, .prefix_first_only, .strip_prefix_space,
//   .remove_extra_whitespace, .ignore_merges, .fuse_unknown, .add_bos, .add_eos    bool
//   tokenizer.unknown_token, .bos_token, .eos_token                                int, -1 = none
//   tokenizer.unknown_surface, .chat_template                                      string
// clang-format on
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
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6,
  };
  // One step of a pre-tokenizer, applied in order to every piece that the previous step left.
  struct PreTokenizerStep {
    enum class Kind : int64_t {
      kRegexIsolated = 1,  // split at matches, matches are pieces (tokenizers: Split/Isolated)
      kRegexRemoved = 2,
      kDigits = 3,  // argument: individual digits or runs
      kPunctuation = 4,
      kRegexMergedWithPrevious = 5,
      kRegexMergedWithNext = 6,
    };
    Kind kind = Kind::kRegexIsolated;
    std::string pattern;  // PCRE2 syntax, Unicode properties
    bool invert = false;
    bool individual_digits = false;
  };

  // A token that is cut out of the text before anything else happens to it. Control tokens are cut
  // out only where the caller asks for it (parse_special).
  struct AddedToken {
    uint32_t id = 0;
    std::string pattern;       // UTF-8, as it stands in the text (or in the normalized text)
    bool lstrip = false;       // swallows the white space before it
    bool rstrip = false;       // ... and after it
    bool single_word = false;  // only where no word character touches it
    bool normalized = false;   // sought after normalization (space rule), in a second pass
  };

  Kind kind = Kind::kSentencePieceBpe;
  std::vector<std::string> tokens;  // surface form; byte-level: raw bytes, not the visible mapping
  // The order of merging: scores (SentencePiece: the best-scored concatenation first) where merges
  // is empty and the kind is kSentencePieceBpe; else merges.
  std::vector<float> scores;     // finite
  std::vector<uint32_t> types;   // TokenType per token
  std::vector<uint32_t> merges;  // pairs left id, right id; rank = position
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::vector<AddedToken> added;
  bool add_dummy_prefix = false;  // leading-space rule
  // The space rule is a pre-tokenizer's (Metaspace; ByteLevel's add_prefix_space): no prefix where
  // the text already begins with one, and added tokens are sought before it.
  bool prefix_in_pre_tokenizer = false;
  bool prefix_first_only = false;   // only what stands at the very start of the text
  bool strip_prefix_space = false;  // Decode drops one space at the start (kSentencePieceBpe)
  bool remove_extra_whitespace = false;
  bool fuse_unknown = false;   // a run of unknown characters gives one unknown token
  bool ignore_merges = false;  // LLaMA-3: a whole piece that is a token is taken as it is
  int64_t unknown_token = -1;
  int64_t bos_token = -1;
  int64_t eos_token = -1;
  bool add_bos = false;  // what Encode(text, special=true) adds
  bool add_eos = false;
  std::string unknown_surface;  // what TokenBytes gives for the unknown token
  std::string chat_template;    // Jinja text of the checkpoint, informative; may be empty

  // kCorrupt / kOutOfRange with what is wrong: sizes, types, ids in range, caps. Create checks more
  // (duplicate surface forms, results of merges, patterns).
  Status Validate() const;
  void Store(format::Metadata* metadata) const;
  static Result<TokenizerSpec> Load(const format::Metadata& metadata);
};

// Word boundaries, merge tables and compiled patterns are made by Create; patterns that do not
// compile are kUnsupported. Immutable after Create; safe to share between threads.
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
  // O(n log n). Errors: kOutOfRange for a text of 2 GiB or more and for a pre-tokenizer pattern
  // that backtracks beyond its limits, kResourceExhausted without memory.
  Result<std::vector<TokenId>> Encode(std::string_view text, bool add_special,
                                      bool parse_special) const;

  // Bytes of one token as they appear in running text (may be a fragment of a UTF-8 character).
  // Control tokens give "" unless show_special; ids out of range give "".
  std::string TokenBytes(TokenId id, bool show_special = false) const;
  // Whole text, as the reference decoder gives it (SentencePiece: without the dummy prefix space;
  // invalid UTF-8 becomes U+FFFD per maximal subpart, as in Utf8Stream).
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
