// Finds added tokens in text: leftmost, then longest.
#ifndef SDQ_RUNTIME_TOKENIZER_ADDED_H_
#define SDQ_RUNTIME_TOKENIZER_ADDED_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::tokenizer {

// Immutable; safe to share between threads.
class AddedTokens {
 public:
  // `id` >= 0: the token, `text` is what it covers. id < 0: text between tokens, not empty.
  using Sink = std::function<Status(std::string_view text, TokenId id)>;

  // The added tokens of `spec` (validated) that are sought in the given pass.
  AddedTokens(const TokenizerSpec& spec, bool normalized);
  bool empty() const { return tokens_.empty(); }

  // `text` is valid UTF-8. With parse_special false, control tokens stay text.
  Status Split(std::string_view text, bool parse_special, const Sink& sink) const;

 private:
  struct Token {
    TokenId id;
    bool control;
    bool lstrip;
    bool rstrip;
    bool single_word;
  };
  static constexpr uint32_t kNone = 0xffffffffu;

  // The longest token at text[at]; kNone if there is none.
  uint32_t LongestAt(std::string_view text, size_t at, size_t* bytes) const;
  void Insert(std::string_view pattern, uint32_t token);

  std::vector<Token> tokens_;
  // A trie: an edge is node * 256 + byte; node 0 is the root.
  std::unordered_map<uint64_t, uint32_t> edges_;
  std::vector<uint32_t> token_of_node_;
  std::array<bool, 256> may_begin_{};
};

}  // namespace sdq::tokenizer

#endif  // SDQ_RUNTIME_TOKENIZER_ADDED_H_
