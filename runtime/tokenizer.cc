// Text to ids and back: the order in which the parts of a tokenizer act.
//
//   text -> valid UTF-8 -> added tokens cut out -> space rule (a normalizer's) -> normalized added
//   tokens cut out -> space rule (a pre-tokenizer's) -> pre-tokenizer steps -> BPE -> ids
#include "runtime/tokenizer.h"

#include <fmt/format.h>

#include <new>
#include <utility>

#include "format/utf8.h"
#include "runtime/tokenizer_added.h"
#include "runtime/tokenizer_bpe.h"
#include "runtime/tokenizer_pieces.h"
#include "runtime/tokenizer_utf8.h"

namespace sdq {
namespace {

using Kind = TokenizerSpec::Kind;
using Type = TokenizerSpec::TokenType;

constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581
constexpr size_t kMaxTextBytes = (size_t(1) << 31) - 1;

std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, done)) {
    out.append(text.substr(done, at - done)).append(to);
    done = at + from.size();
  }
  out.append(text.substr(done));
  return out;
}

// SentencePiece's remove_extra_whitespaces: no spaces at the ends, single ones inside. At the end
// it takes the space sign for a space, too.
std::string WithoutExtraSpaces(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c == ' ' && (out.empty() || out.back() == ' ')) continue;
    out.push_back(c);
  }
  std::string_view kept = out;
  while (kept.ends_with(' ') || kept.ends_with(kSpace)) {
    kept.remove_suffix(kept.ends_with(' ') ? 1 : kSpace.size());
  }
  out.resize(kept.size());
  return out;
}

}  // namespace

struct Tokenizer::Impl {
  TokenizerSpec spec;
  tokenizer::PreTokenizer pre_tokenizer;
  tokenizer::AddedTokens raw_added;
  tokenizer::AddedTokens normalized_added;
  tokenizer::Bpe bpe;
  std::vector<std::string> bytes;  // of every token in running text

  Impl(TokenizerSpec the_spec, tokenizer::PreTokenizer steps)
      : spec(std::move(the_spec)),
        pre_tokenizer(std::move(steps)),
        raw_added(spec, false),
        normalized_added(spec, true) {}

  bool character_level() const { return spec.kind == Kind::kSentencePieceBpe; }
  std::string WithSpaceRule(std::string_view text, bool at_start) const;
  std::string BytesOf(size_t id) const;
  bool IsControl(TokenId id) const { return Type(spec.types[size_t(id)]) == Type::kControl; }

  class Encoder;
};

std::string Tokenizer::Impl::WithSpaceRule(std::string_view text, bool at_start) const {
  const std::string_view space = character_level() ? kSpace : std::string_view(" ");
  std::string out(text);
  if (spec.remove_extra_whitespace) out = WithoutExtraSpaces(out);
  if (character_level()) out = Replaced(out, " ", kSpace);
  const bool wanted = spec.add_dummy_prefix && !out.empty() &&
                      (at_start || !spec.prefix_first_only) &&
                      !(spec.prefix_in_pre_tokenizer && out.starts_with(space));
  if (wanted) out.insert(0, space);
  return out;
}

std::string Tokenizer::Impl::BytesOf(size_t id) const {
  const std::string& surface = spec.tokens[id];
  if (!character_level()) return surface;
  if (Type(spec.types[id]) != Type::kByte) return Replaced(surface, kSpace, " ");
  return std::string(1, char(uint8_t(tokenizer::ByteOfSurface(surface))));
}

// One call of Encode.
class Tokenizer::Impl::Encoder {
 public:
  Encoder(const Impl& impl, std::string_view text, std::vector<TokenId>* ids)
      : impl_(impl), text_(text), run_(impl.pre_tokenizer, text.size()), ids_(ids) {}

  Status Encode(bool parse_special) {
    parse_special_ = parse_special;
    return impl_.raw_added.Split(text_, parse_special, [this](std::string_view text, TokenId id) {
      return id >= 0 ? Take(id) : Normalize(text);
    });
  }

 private:
  Status Take(TokenId id) {
    ids_->push_back(id);
    return Status::Ok();
  }

  Status Normalize(std::string_view text) {
    const bool at_start = text.data() == text_.data();
    const bool in_normalizer = !impl_.spec.prefix_in_pre_tokenizer;
    const bool rule = impl_.character_level() || impl_.spec.add_dummy_prefix;
    std::string normalized;
    if (rule && in_normalizer) text = normalized = impl_.WithSpaceRule(text, at_start);
    bool first = true;
    return impl_.normalized_added.Split(
        text, parse_special_, [&](std::string_view piece, TokenId id) {
          const bool starts = at_start && std::exchange(first, false);
          if (id >= 0) return Take(id);
          if (!rule || in_normalizer) return PreTokenize(piece);
          const std::string spaced = impl_.WithSpaceRule(piece, starts);
          return PreTokenize(spaced);
        });
  }

  Status PreTokenize(std::string_view text) {
    return run_.Split(
        text, [this](std::string_view piece) { return impl_.bpe.Encode(piece, &scratch_, ids_); });
  }

  const Impl& impl_;
  std::string_view text_;
  tokenizer::PreTokenizer::Run run_;
  tokenizer::Bpe::Scratch scratch_;
  std::vector<TokenId>* ids_;
  bool parse_special_ = false;
};

Result<Tokenizer> Tokenizer::Create(TokenizerSpec spec) {
  SDQ_RETURN_IF_ERROR(spec.Validate());
  SDQ_ASSIGN_OR_RETURN(auto steps, tokenizer::PreTokenizer::Create(spec.pre_tokenizer));
  auto impl = std::make_unique<Impl>(std::move(spec), std::move(steps));
  SDQ_RETURN_IF_ERROR(impl->bpe.Create(&impl->spec));
  impl->bytes.reserve(impl->spec.tokens.size());
  for (size_t id = 0; id < impl->spec.tokens.size(); ++id) {
    impl->bytes.push_back(impl->BytesOf(id));
  }
  return Tokenizer(std::move(impl));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

const TokenizerSpec& Tokenizer::spec() const { return impl_->spec; }
size_t Tokenizer::vocab_size() const { return impl_->spec.tokens.size(); }

Result<std::vector<TokenId>> Tokenizer::Encode(std::string_view text, bool add_special,
                                               bool parse_special) const {
  if (text.size() > kMaxTextBytes) {
    return Status::OutOfRange(
        fmt::format("text of {} bytes, at most {}", text.size(), kMaxTextBytes));
  }
  const TokenizerSpec& spec = impl_->spec;
  std::vector<TokenId> ids;
  try {
    std::string repaired;
    if (!format::IsUtf8(text)) text = repaired = utf8::Repair(text);
    if (add_special && spec.add_bos) ids.push_back(TokenId(spec.bos_token));
    SDQ_RETURN_IF_ERROR(Impl::Encoder(*impl_, text, &ids).Encode(parse_special));
    if (add_special && spec.add_eos) ids.push_back(TokenId(spec.eos_token));
  } catch (const std::bad_alloc&) {
    return Status::ResourceExhausted(
        fmt::format("not enough memory to tokenize {} bytes", text.size()));
  }
  return ids;
}

std::string Tokenizer::TokenBytes(TokenId id, bool show_special) const {
  if (id < 0 || size_t(id) >= impl_->spec.tokens.size()) return "";
  const auto type = Type(impl_->spec.types[size_t(id)]);
  if (!show_special) {
    if (type == Type::kControl) return "";
    if (type == Type::kUnknown) return impl_->spec.unknown_surface;
  }
  return impl_->bytes[size_t(id)];
}

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool skip_special) const {
  const TokenizerSpec& spec = impl_->spec;
  std::string out;
  bool at_start = spec.strip_prefix_space && impl_->character_level();
  for (const TokenId id : ids) {
    std::string bytes = TokenBytes(id, !skip_special);
    if (bytes.empty()) continue;
    if (at_start && bytes.front() == ' ' && Type(spec.types[size_t(id)]) == Type::kNormal) {
      bytes.erase(0, 1);
      // Where no text begins with a space, every one of them at the start is an artefact.
      at_start = spec.remove_extra_whitespace && bytes.empty();
    } else {
      at_start = false;
    }
    out += bytes;
  }
  return format::IsUtf8(out) ? out : utf8::Repair(out);
}

}  // namespace sdq
