#include "runtime/tokenizer_bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "runtime/tokenizer_utf8.h"

namespace sdq::tokenizer {
namespace {

using Type = TokenizerSpec::TokenType;

constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581
constexpr size_t kMaxPieceBytes = size_t(64) << 20;
constexpr size_t kRememberUpToBytes = 48;
constexpr size_t kRememberWords = 1u << 16;

// Floats in the order of unsigned integers, the largest first.
uint32_t OrderOfScore(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score == 0.0f ? 0.0f : score);
  const uint32_t ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

// Is there a space sign behind something else than a space sign?
bool HasInnerSpace(std::string_view token) {
  for (size_t at = token.find(kSpace, 1); at != std::string_view::npos;
       at = token.find(kSpace, at + 1)) {
    if (at < kSpace.size() || token.substr(at - kSpace.size(), kSpace.size()) != kSpace) {
      return true;
    }
  }
  return false;
}

}  // namespace

int ByteOfSurface(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

Status Bpe::Create(const TokenizerSpec* spec) {
  spec_ = spec;
  byte_level_ = spec->kind == TokenizerSpec::Kind::kByteLevelBpe;
  by_score_ = !byte_level_ && spec->merges.empty();
  SDQ_RETURN_IF_ERROR(IndexTokens());
  IndexByteTokens();
  return IndexMerges();
}

Status Bpe::IndexTokens() {
  const std::vector<std::string>& tokens = spec_->tokens;
  surface_.Reserve(tokens.size());
  cut_at_spaces_ = !byte_level_;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto type = Type(spec_->types[i]);
    const bool mergeable =
        type == Type::kNormal || type == Type::kUserDefined || (type == Type::kUnused && by_score_);
    if (!mergeable || tokens[i].empty()) continue;
    if (!surface_.Insert(tokens, TokenId(i))) {
      return Status::Corrupt(fmt::format("tokenizer: token {} has the same text as token {}", i,
                                         surface_.Find(tokens, tokens[i])));
    }
    if (cut_at_spaces_ && HasInnerSpace(tokens[i])) cut_at_spaces_ = false;
  }
  return Status::Ok();
}

void Bpe::IndexByteTokens() {
  byte_ids_.fill(-1);
  if (byte_level_) {
    for (size_t b = 0; b < 256; ++b) {
      const char byte = char(uint8_t(b));
      byte_ids_[b] = surface_.Find(spec_->tokens, std::string_view(&byte, 1));
    }
    return;
  }
  for (size_t i = 0; i < spec_->tokens.size(); ++i) {
    if (Type(spec_->types[i]) != Type::kByte) continue;
    const int byte = ByteOfSurface(spec_->tokens[i]);
    if (byte >= 0) byte_ids_[size_t(byte)] = TokenId(i);
  }
}

Status Bpe::IndexMerges() {
  const std::vector<uint32_t>& merges = spec_->merges;
  merges_.Reserve(merges.size() / 2);
  std::string text;
  for (size_t i = 0; i + 1 < merges.size(); i += 2) {
    text = spec_->tokens[merges[i]];
    text += spec_->tokens[merges[i + 1]];
    const TokenId id = surface_.Find(spec_->tokens, text);
    if (id < 0) {
      return Status::Corrupt(
          fmt::format("tokenizer: merge {} (tokens {} and {}) gives a text that is no token", i / 2,
                      merges[i], merges[i + 1]));
    }
    merges_.Insert(TokenId(merges[i]), TokenId(merges[i + 1]), {uint32_t(i / 2), id});
  }
  return Status::Ok();
}

size_t Bpe::NextWord(std::string_view text) const {
  if (!cut_at_spaces_) return text.size();
  // Skip the spaces in front; the word ends before the next one.
  size_t at = 0;
  while (text.substr(at, kSpace.size()) == kSpace) at += kSpace.size();
  return std::min(text.find(kSpace, at), text.size());
}

Status Bpe::Encode(std::string_view piece, Scratch* scratch, std::vector<TokenId>* ids) const {
  while (!piece.empty()) {
    const size_t bytes = NextWord(piece);
    SDQ_RETURN_IF_ERROR(EncodeWord(piece.substr(0, bytes), scratch, ids));
    piece.remove_prefix(bytes);
  }
  return Status::Ok();
}

Status Bpe::EncodeWord(std::string_view word, Scratch* scratch, std::vector<TokenId>* ids) const {
  if (word.size() > kMaxPieceBytes) {
    return Status::OutOfRange(fmt::format("text: {} bytes without a place to cut, at most {}",
                                          word.size(), kMaxPieceBytes));
  }
  if (spec_->ignore_merges) {
    const TokenId whole = surface_.Find(spec_->tokens, word);
    if (whole >= 0) {
      ids->push_back(whole);
      return Status::Ok();
    }
  }
  if (word.size() > kRememberUpToBytes) return Merge(word, scratch, ids);
  const auto known = scratch->known_.find(word);
  if (known != scratch->known_.end()) {
    ids->insert(ids->end(), known->second.begin(), known->second.end());
    return Status::Ok();
  }
  const size_t before = ids->size();
  SDQ_RETURN_IF_ERROR(Merge(word, scratch, ids));
  if (scratch->known_.size() >= kRememberWords) scratch->known_.clear();
  scratch->known_.emplace(word,
                          std::vector<TokenId>(ids->begin() + std::ptrdiff_t(before), ids->end()));
  return Status::Ok();
}

void Bpe::SplitIntoSymbols(std::string_view word, Scratch* scratch) const {
  auto& symbols = scratch->symbols_;
  symbols.clear();
  for (size_t at = 0; at < word.size();) {
    const size_t bytes = byte_level_ ? 1 : utf8::LengthOfValid(word[at]);
    const TokenId id = byte_level_ ? byte_ids_[uint8_t(word[at])]
                                   : surface_.Find(spec_->tokens, word.substr(at, bytes));
    const std::string_view text = word.substr(at, bytes);
    at += bytes;
    // Without any token for it, the character is dropped and its neighbours may merge.
    if (id < 0 && !by_score_ && spec_->unknown_token < 0 && !HasByteTokens(text)) continue;
    const auto index = int32_t(symbols.size());
    symbols.push_back({uint32_t(at - bytes), uint32_t(bytes), index - 1, index + 1, id});
  }
  if (!symbols.empty()) symbols.back().next = -1;
}

bool Bpe::HasByteTokens(std::string_view text) const {
  return !byte_level_ && std::all_of(text.begin(), text.end(),
                                     [this](char c) { return byte_ids_[uint8_t(c)] >= 0; });
}

bool Bpe::FindMerge(std::string_view word, const Scratch::Symbol& left,
                    const Scratch::Symbol& right, Scratch::Candidate* out) const {
  out->bytes = left.bytes + right.bytes;
  if (by_score_) {
    out->id = surface_.Find(spec_->tokens, word.substr(left.start, out->bytes));
    if (out->id < 0) return false;
    out->order = OrderOfScore(spec_->scores[size_t(out->id)]);
    return true;
  }
  const MergeIndex::Merge* merge = merges_.Find(left.id, right.id);
  if (merge == nullptr) return false;
  out->id = merge->id;
  out->order = merge->rank;
  return true;
}

namespace {

constexpr auto kLater = [](const auto& a, const auto& b) {
  return a.order != b.order ? a.order > b.order : a.left > b.left;
};

}  // namespace

void Bpe::Propose(std::string_view word, int32_t left, Scratch* scratch) const {
  const auto& symbols = scratch->symbols_;
  if (left < 0 || symbols[size_t(left)].next < 0) return;
  const Scratch::Symbol& a = symbols[size_t(left)];
  const Scratch::Symbol& b = symbols[size_t(a.next)];
  Scratch::Candidate candidate{};
  if (!FindMerge(word, a, b, &candidate)) return;
  candidate.left = uint32_t(left);
  scratch->queue_.push_back(candidate);
  if (by_score_ && IsUnused(candidate.id)) scratch->split_of_unused_[candidate.id] = a.bytes;
}

Status Bpe::Merge(std::string_view word, Scratch* scratch, std::vector<TokenId>* ids) const {
  SplitIntoSymbols(word, scratch);
  auto& symbols = scratch->symbols_;
  auto& queue = scratch->queue_;
  queue.clear();
  scratch->split_of_unused_.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) Propose(word, int32_t(i), scratch);
  std::make_heap(queue.begin(), queue.end(), kLater);
  const auto propose = [&](int32_t left) {
    const size_t before = queue.size();
    Propose(word, left, scratch);
    if (queue.size() > before) std::push_heap(queue.begin(), queue.end(), kLater);
  };
  while (!queue.empty()) {
    const Scratch::Candidate best = queue.front();
    std::pop_heap(queue.begin(), queue.end(), kLater);
    queue.pop_back();
    Scratch::Symbol& left = symbols[best.left];
    if (left.bytes == 0 || left.next < 0) continue;
    Scratch::Symbol& right = symbols[size_t(left.next)];
    if (left.bytes + right.bytes != best.bytes) continue;
    left.bytes = best.bytes;
    left.id = best.id;
    right.bytes = 0;
    left.next = right.next;
    if (left.next >= 0) symbols[size_t(left.next)].previous = int32_t(best.left);
    propose(left.previous);
    propose(int32_t(best.left));
  }
  bool after_unknown = false;
  for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[size_t(i)].next) {
    const Scratch::Symbol& symbol = symbols[size_t(i)];
    Emit(word.substr(symbol.start, symbol.bytes), symbol.id, *scratch, &after_unknown, ids);
  }
  return Status::Ok();
}

// One symbol's tokens: itself; the halves of an unused token; bytes; or the unknown token.
void Bpe::Emit(std::string_view text, TokenId id, const Scratch& scratch, bool* after_unknown,
               std::vector<TokenId>* ids) const {
  if (id >= 0) {
    const auto split =
        IsUnused(id) ? scratch.split_of_unused_.find(id) : scratch.split_of_unused_.end();
    if (split == scratch.split_of_unused_.end()) {
      ids->push_back(id);
      *after_unknown = false;
      return;
    }
    for (const std::string_view half :
         {text.substr(0, split->second), text.substr(split->second)}) {
      Emit(half, surface_.Find(spec_->tokens, half), scratch, after_unknown, ids);
    }
    return;
  }
  if (HasByteTokens(text)) {
    for (const char c : text) ids->push_back(byte_ids_[uint8_t(c)]);
    *after_unknown = false;
  } else if (spec_->unknown_token >= 0) {
    if (!*after_unknown || !spec_->fuse_unknown) ids->push_back(TokenId(spec_->unknown_token));
    *after_unknown = true;
  }
}

}  // namespace sdq::tokenizer
