#include "converter/gguf_tokenizer.h"

#include <fmt/format.h>

#include <array>
#include <string>
#include <string_view>

#include "converter/regex_syntax.h"
#include "converter/tokenizer_vocab.h"
#include "format/utf8.h"

namespace sdq::converter {
namespace {

using Step = TokenizerSpec::PreTokenizerStep;
using TokenType = TokenizerSpec::TokenType;

// What a name of a pre-tokenizer stands for.
struct PreTokenizer {
  enum class Kind { kGpt2, kDigitsThenGpt2, kLlama3, kTekken };
  std::string_view name;
  Kind kind;
  bool ignore_merges;
  bool add_bos;  // unless the file says otherwise
};

constexpr std::array<PreTokenizer, 10> kPreTokenizers = {{
    {"gpt-2", PreTokenizer::Kind::kGpt2, false, false},
    {"phi-2", PreTokenizer::Kind::kGpt2, false, false},
    {"roberta-bpe", PreTokenizer::Kind::kGpt2, false, false},
    {"smollm", PreTokenizer::Kind::kDigitsThenGpt2, false, false},
    {"starcoder", PreTokenizer::Kind::kDigitsThenGpt2, false, false},
    {"llama-bpe", PreTokenizer::Kind::kLlama3, true, true},
    {"llama3", PreTokenizer::Kind::kLlama3, true, true},
    {"llama-v3", PreTokenizer::Kind::kLlama3, true, true},
    {"smaug-bpe", PreTokenizer::Kind::kLlama3, false, false},
    {"tekken", PreTokenizer::Kind::kTekken, true, true},
}};

// As the tokenizer.json files of these families write them.
constexpr std::string_view kLlama3Pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kTekkenPattern =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
    "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

std::string SupportedPreTokenizers() {
  std::string names;
  for (const PreTokenizer& pre : kPreTokenizers) {
    names += (names.empty() ? "" : ", ") + std::string(pre.name);
  }
  return names;
}

class Import {
 public:
  explicit Import(const GgufMetadata& metadata) : metadata_(metadata) {}

  Result<TokenizerSpec> Run() {
    std::string model = "none";
    SDQ_RETURN_IF_ERROR(Take("model", &model));
    if (model != "llama" && model != "gpt2") {
      const std::string what = metadata_.name() + ": tokenizer.ggml.model is '" + model + "'";
      if (model == "none" || model == "no_vocab") return Status::NotFound(what);
      return Status::Unsupported(what + " (supported: llama, gpt2)");
    }
    SDQ_RETURN_IF_ERROR(ReadTokens());
    SDQ_RETURN_IF_ERROR(model == "llama" ? ReadSentencePiece() : ReadByteLevel());
    SDQ_RETURN_IF_ERROR(ReadSwitches());
    SDQ_RETURN_IF_ERROR(metadata_.GetIfPresent("tokenizer.chat_template", &spec_.chat_template));
    return std::move(spec_);
  }

 private:
  static std::string Key(std::string_view key) { return "tokenizer.ggml." + std::string(key); }
  template <typename T>
  Status Take(std::string_view key, T* out) const {
    return metadata_.GetIfPresent(Key(key), out);
  }
  Status Bad(const std::string& what) const {
    return Status::Corrupt(metadata_.name() + ": " + what);
  }

  Status ReadTokens() {
    std::vector<std::string_view> tokens;
    SDQ_RETURN_IF_ERROR(metadata_.Get(Key("tokens"), &tokens));
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (!format::IsUtf8(tokens[i])) return Bad(fmt::format("token {} is not UTF-8", i));
      spec_.tokens.emplace_back(tokens[i]);
    }
    std::vector<int64_t> types(tokens.size(), int64_t(TokenType::kNormal));
    SDQ_RETURN_IF_ERROR(Take("token_type", &types));
    if (types.size() != tokens.size()) {
      return Bad(fmt::format("{} token types for {} tokens", types.size(), tokens.size()));
    }
    for (size_t i = 0; i < types.size(); ++i) {
      if (types[i] < 1 || types[i] > int64_t(TokenType::kByte)) {
        return Bad(fmt::format("token {} has unknown type {}", i, types[i]));
      }
      // Nothing can produce an empty token.
      const auto type = spec_.tokens[i].empty() ? TokenType::kUnused : TokenType(types[i]);
      spec_.types.push_back(uint32_t(type));
    }
    return Status::Ok();
  }

  // Tokens that are cut out of the text as they are written.
  void AddSpecialTokens() {
    for (size_t i = 0; i < spec_.types.size(); ++i) {
      const auto type = TokenType(spec_.types[i]);
      if (type != TokenType::kControl && type != TokenType::kUserDefined &&
          type != TokenType::kUnknown) {
        continue;
      }
      TokenizerSpec::AddedToken added;
      added.id = uint32_t(i);
      added.pattern = spec_.tokens[i];
      spec_.added.push_back(std::move(added));
    }
  }

  Status ReadSentencePiece() {
    spec_.kind = TokenizerSpec::Kind::kSentencePieceBpe;
    if (!metadata_.Has(Key("token_type"))) return Bad("no " + Key("token_type"));
    SDQ_RETURN_IF_ERROR(metadata_.Get(Key("scores"), &spec_.scores));
    AddSpecialTokens();
    spec_.bos_token = 1;
    spec_.eos_token = 2;
    spec_.unknown_token = 0;
    spec_.add_bos = true;
    spec_.add_dummy_prefix = true;
    spec_.fuse_unknown = true;
    spec_.unknown_surface = " \xe2\x81\x87 ";
    SDQ_RETURN_IF_ERROR(Take("add_space_prefix", &spec_.add_dummy_prefix));
    SDQ_RETURN_IF_ERROR(Take("remove_extra_whitespaces", &spec_.remove_extra_whitespace));
    spec_.strip_prefix_space = spec_.add_dummy_prefix;
    return Status::Ok();
  }

  Status ReadByteLevel() {
    spec_.kind = TokenizerSpec::Kind::kByteLevelBpe;
    SDQ_RETURN_IF_ERROR(ReadPreTokenizer());
    AddSpecialTokens();
    VocabBuilder builder(&spec_, metadata_.name());
    std::vector<std::string_view> merges;
    SDQ_RETURN_IF_ERROR(metadata_.Get(Key("merges"), &merges));
    for (size_t i = 0; i < merges.size(); ++i) {
      const size_t space = merges[i].find(' ');
      if (space == std::string_view::npos ||
          merges[i].find(' ', space + 1) != std::string_view::npos) {
        return Bad(fmt::format("merge {} does not name two tokens", i));
      }
      SDQ_RETURN_IF_ERROR(
          builder.AddMerge(merges[i].substr(0, space), merges[i].substr(space + 1)));
    }
    builder.ToBytes();
    return Status::Ok();
  }

  Status ReadPreTokenizer() {
    std::string name;
    SDQ_RETURN_IF_ERROR(Take("pre", &name));
    for (const PreTokenizer& pre : kPreTokenizers) {
      if (pre.name == name) return Apply(pre);
    }
    return Status::Unsupported(fmt::format("{}: pre-tokenizer '{}' (supported: {})",
                                           metadata_.name(), name, SupportedPreTokenizers()));
  }

  Status Apply(const PreTokenizer& pre) {
    spec_.ignore_merges = pre.ignore_merges;
    spec_.add_bos = pre.add_bos;
    std::string pattern;
    switch (pre.kind) {
      case PreTokenizer::Kind::kDigitsThenGpt2:
        spec_.pre_tokenizer.push_back({Step::Kind::kDigits, "", false, true});
        [[fallthrough]];
      case PreTokenizer::Kind::kGpt2:
        pattern = ByteLevelPattern();
        break;
      case PreTokenizer::Kind::kLlama3: {
        SDQ_ASSIGN_OR_RETURN(pattern, PcreFromOniguruma(kLlama3Pattern));
        break;
      }
      case PreTokenizer::Kind::kTekken: {
        SDQ_ASSIGN_OR_RETURN(pattern, PcreFromOniguruma(kTekkenPattern));
        break;
      }
    }
    spec_.pre_tokenizer.push_back({Step::Kind::kRegexIsolated, std::move(pattern), false, false});
    return Status::Ok();
  }

  Status TakeId(std::string_view key, int64_t* id) const {
    SDQ_RETURN_IF_ERROR(Take(key, id));
    if (*id < int64_t(spec_.tokens.size())) return Status::Ok();
    return Bad(fmt::format("{} is {}, with {} tokens", Key(key), *id, spec_.tokens.size()));
  }

  Status ReadSwitches() {
    SDQ_RETURN_IF_ERROR(TakeId("bos_token_id", &spec_.bos_token));
    SDQ_RETURN_IF_ERROR(TakeId("eos_token_id", &spec_.eos_token));
    if (spec_.kind == TokenizerSpec::Kind::kSentencePieceBpe) {
      SDQ_RETURN_IF_ERROR(TakeId("unknown_token_id", &spec_.unknown_token));
    }
    SDQ_RETURN_IF_ERROR(Take("add_bos_token", &spec_.add_bos));
    SDQ_RETURN_IF_ERROR(Take("add_eos_token", &spec_.add_eos));
    spec_.add_bos = spec_.add_bos && spec_.bos_token >= 0;
    spec_.add_eos = spec_.add_eos && spec_.eos_token >= 0;
    return Status::Ok();
  }

  const GgufMetadata& metadata_;
  TokenizerSpec spec_;
};

}  // namespace

Result<TokenizerSpec> GgufTokenizer(const GgufMetadata& metadata, int64_t vocab_size) {
  SDQ_ASSIGN_OR_RETURN(TokenizerSpec spec, Import(metadata).Run());
  if (int64_t(spec.tokens.size()) > vocab_size) {
    return Status::Corrupt(
        fmt::format("{}: the tokenizer has {} tokens, the model's vocabulary only {} rows",
                    metadata.name(), spec.tokens.size(), vocab_size));
  }
  Result<Tokenizer> usable = Tokenizer::Create(spec);
  if (!usable.ok()) return std::move(usable).status().Annotate(metadata.name());
  return spec;
}

}  // namespace sdq::converter
