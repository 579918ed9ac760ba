// Byte-pair encoding of one piece: a linked list of symbols and a priority queue of merges, so that
// a piece of n symbols costs O(n log n) (the algorithm of SentencePiece's bpe_model).
#ifndef SDQ_RUNTIME_TOKENIZER_BPE_H_
#define SDQ_RUNTIME_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "format/status.h"
#include "runtime/tokenizer.h"

namespace sdq::tokenizer {

// The byte that a token of TokenType::kByte stands for: "<0x0A>" -> 10; -1 for any other text.
int ByteOfSurface(std::string_view text);

// Surface form -> token id. Open addressing over the spec's own strings.
class SurfaceIndex {
 public:
  void Reserve(size_t count);
  // False if another token has that surface form.
  bool Insert(const std::vector<std::string>& tokens, TokenId id);
  TokenId Find(const std::vector<std::string>& tokens, std::string_view text) const;  // -1 = none

 private:
  struct Slot {
    uint32_t hash = 0;
    TokenId id = -1;
  };
  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

// (left id, right id) -> rank and id of the merged token. Open addressing.
class MergeIndex {
 public:
  struct Merge {
    uint32_t rank = 0;
    TokenId id = -1;
  };
  void Reserve(size_t count);
  void Insert(TokenId left, TokenId right, Merge merge);  // the last of equals counts
  const Merge* Find(TokenId left, TokenId right) const;   // nullptr = none

 private:
  struct Slot {
    uint64_t key = ~uint64_t(0);
    Merge merge;
  };
  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

// Immutable after Create; the spec must outlive it and not move.
class Bpe {
 public:
  // Memory of one Encode call. Short pieces are remembered: text repeats its words.
  class Scratch {
   private:
    friend class Bpe;
    struct Symbol {
      uint32_t start;
      uint32_t bytes;  // 0: merged into its left neighbour
      int32_t previous;
      int32_t next;
      TokenId id;  // -1: no token
    };
    struct Candidate {
      uint32_t order;  // smaller is sooner; ties: the leftmost
      uint32_t left;
      uint32_t bytes;  // of both, to recognize an entry that other merges have overtaken
      TokenId id;
    };
    struct Hash {
      using is_transparent = void;
      size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
    };
    std::vector<Symbol> symbols_;
    std::vector<Candidate> queue_;
    std::unordered_map<std::string, std::vector<TokenId>, Hash, std::equal_to<>> known_;
    std::unordered_map<TokenId, uint32_t> split_of_unused_;  // bytes of the left half
  };

  Status Create(const TokenizerSpec* spec);

  // Appends the ids of one piece of valid UTF-8, spaces already written as the vocabulary does.
  Status Encode(std::string_view piece, Scratch* scratch, std::vector<TokenId>* ids) const;

 private:
  Status IndexTokens();
  Status IndexMerges();
  void IndexByteTokens();
  Status EncodeWord(std::string_view word, Scratch* scratch, std::vector<TokenId>* ids) const;
  Status Merge(std::string_view word, Scratch* scratch, std::vector<TokenId>* ids) const;
  void SplitIntoSymbols(std::string_view word, Scratch* scratch) const;
  bool FindMerge(std::string_view word, const Scratch::Symbol& left, const Scratch::Symbol& right,
                 Scratch::Candidate* out) const;
  void Propose(std::string_view word, int32_t left, Scratch* scratch) const;
  void Emit(std::string_view text, TokenId id, const Scratch& scratch, bool* after_unknown,
            std::vector<TokenId>* ids) const;
  bool HasByteTokens(std::string_view text) const;
  size_t NextWord(std::string_view text) const;
  bool IsUnused(TokenId id) const {
    return spec_->types[size_t(id)] == uint32_t(TokenizerSpec::TokenType::kUnused);
  }

  const TokenizerSpec* spec_ = nullptr;
  SurfaceIndex surface_;
  MergeIndex merges_;
  std::array<TokenId, 256> byte_ids_{};
  bool byte_level_ = false;
  bool by_score_ = false;
  bool cut_at_spaces_ = false;  // no token reaches from a word into the space after it
};

}  // namespace sdq::tokenizer

#endif  // SDQ_RUNTIME_TOKENIZER_BPE_H_
