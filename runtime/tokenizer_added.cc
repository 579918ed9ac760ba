#include "runtime/tokenizer_added.h"

#include <algorithm>

#include "runtime/tokenizer_utf8.h"

namespace sdq::tokenizer {
namespace {

// Does a word go on across `at`'s side? ASCII letters, digits and '_', and everything beyond ASCII
// that is no white space (the tokens that ask for it stand between Latin words).
bool IsWordCharacter(std::string_view character) {
  const uint32_t c = utf8::ScanOne(character).code_point;
  if (c >= 0x80) return !utf8::IsWhiteSpace(c);
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

bool TouchesWord(std::string_view before, std::string_view after) {
  return (!before.empty() && IsWordCharacter(before.substr(utf8::LastCharacter(before)))) ||
         (!after.empty() && IsWordCharacter(after));
}

}  // namespace

AddedTokens::AddedTokens(const TokenizerSpec& spec, bool normalized) : token_of_node_{kNone} {
  for (const TokenizerSpec::AddedToken& added : spec.added) {
    if (added.normalized != normalized) continue;
    const bool control = spec.types[added.id] == uint32_t(TokenizerSpec::TokenType::kControl) ||
                         spec.types[added.id] == uint32_t(TokenizerSpec::TokenType::kUnknown);
    Insert(added.pattern, uint32_t(tokens_.size()));
    tokens_.push_back({TokenId(added.id), control, added.lstrip, added.rstrip, added.single_word});
  }
}

void AddedTokens::Insert(std::string_view pattern, uint32_t token) {
  may_begin_[uint8_t(pattern[0])] = true;
  uint32_t node = 0;
  for (const char c : pattern) {
    const auto [edge, fresh] =
        edges_.try_emplace(uint64_t(node) * 256 + uint8_t(c), uint32_t(token_of_node_.size()));
    if (fresh) token_of_node_.push_back(kNone);
    node = edge->second;
  }
  if (token_of_node_[node] == kNone) token_of_node_[node] = token;  // the first of equals
}

uint32_t AddedTokens::LongestAt(std::string_view text, size_t at, size_t* bytes) const {
  uint32_t found = kNone;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto edge = edges_.find(uint64_t(node) * 256 + uint8_t(text[i]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (token_of_node_[node] != kNone) {
      found = token_of_node_[node];
      *bytes = i + 1 - at;
    }
  }
  return found;
}

Status AddedTokens::Split(std::string_view text, bool parse_special, const Sink& sink) const {
  size_t done = 0;
  size_t at = 0;
  while (!tokens_.empty() && at < text.size()) {
    size_t bytes = 0;
    const uint32_t found = may_begin_[uint8_t(text[at])] ? LongestAt(text, at, &bytes) : kNone;
    if (found == kNone) {
      ++at;
      continue;
    }
    const Token& token = tokens_[found];
    size_t begin = at;
    size_t end = at + bytes;
    at = end;
    if ((token.control && !parse_special) ||
        (token.single_word && TouchesWord(text.substr(0, begin), text.substr(end)))) {
      continue;
    }
    if (token.lstrip) {
      begin -= utf8::TrailingWhiteSpace(text.substr(done, begin - done));
    }
    if (token.rstrip) end += utf8::LeadingWhiteSpace(text.substr(end));
    if (begin > done) SDQ_RETURN_IF_ERROR(sink(text.substr(done, begin - done), -1));
    SDQ_RETURN_IF_ERROR(sink(text.substr(begin, end - begin), token.id));
    done = end;
    at = std::max(at, end);
  }
  return done < text.size() ? sink(text.substr(done), -1) : Status::Ok();
}

}  // namespace sdq::tokenizer
