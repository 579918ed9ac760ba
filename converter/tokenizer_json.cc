// tokenizer.json: its normalizer, pre-tokenizer, post-processor and decoder trees.
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "converter/regex_syntax.h"
#include "converter/tokenizer_import.h"
#include "converter/tokenizer_vocab.h"

namespace sdq::converter {
namespace {

using nlohmann::json;
using Step = TokenizerSpec::PreTokenizerStep;
using Type = TokenizerSpec::TokenType;

Status Unsupported(const std::string& where, const std::string& what) {
  return Status::Unsupported(fmt::format("{}: {} is not supported", where, what));
}

// A component tree as the list of its leaves: "Sequence" nodes opened, in order.
Status Flatten(const json* node, const char* children, const std::string& where,
               std::vector<JsonFields>* leaves) {
  if (node == nullptr || node->is_null()) return Status::Ok();
  if (!node->is_object()) return Status::Corrupt(where + ": expected an object");
  const JsonFields fields(*node, where);
  SDQ_ASSIGN_OR_RETURN(const std::string type, fields.String("type"));
  if (type != "Sequence") {
    leaves->emplace_back(*node, fmt::format("{}.{}", where, type));
    return Status::Ok();
  }
  const json* list = fields.Find(children);
  if (list == nullptr || !list->is_array()) return fields.WrongType(children, "an array");
  for (const json& child : *list) {
    SDQ_RETURN_IF_ERROR(Flatten(&child, children, where, leaves));
  }
  return Status::Ok();
}

// {"String": "x"} or {"Regex": "x"} as a PCRE2 pattern; *literal is set for the former.
Result<std::string> ReadPattern(const JsonFields& fields, std::string* literal) {
  const json* pattern = fields.Find("pattern");
  if (pattern == nullptr || !pattern->is_object()) return fields.WrongType("pattern", "an object");
  const JsonFields inner(*pattern, fields.name() + ".pattern");
  if (inner.Find("String") != nullptr) {
    SDQ_ASSIGN_OR_RETURN(*literal, inner.String("String"));
    return PcreLiteral(*literal);
  }
  SDQ_ASSIGN_OR_RETURN(const std::string regex, inner.String("Regex"));
  return PcreFromOniguruma(regex);
}

class JsonImport {
 public:
  JsonImport(const json& root, const std::string& name)
      : fields_(root, name), builder_(&spec_, name) {}

  Result<TokenizerSpec> Run() {
    SDQ_RETURN_IF_ERROR(ReadComponents());
    SDQ_RETURN_IF_ERROR(ReadModel());
    SDQ_RETURN_IF_ERROR(ReadNormalizer());
    SDQ_RETURN_IF_ERROR(ReadPreTokenizer());
    SDQ_RETURN_IF_ERROR(ReadAddedTokens());
    SDQ_RETURN_IF_ERROR(ReadMerges());
    SDQ_RETURN_IF_ERROR(ReadPostProcessor());
    SDQ_RETURN_IF_ERROR(ReadDecoder());
    if (byte_level_) builder_.ToBytes();
    return std::move(spec_);
  }

 private:
  Status ReadComponents() {
    const auto flatten = [this](const char* key, const char* children,
                                std::vector<JsonFields>* leaves) {
      return Flatten(fields_.Find(key), children, fields_.name() + ": " + key, leaves);
    };
    SDQ_RETURN_IF_ERROR(flatten("normalizer", "normalizers", &normalizers_));
    SDQ_RETURN_IF_ERROR(flatten("pre_tokenizer", "pretokenizers", &pre_tokenizers_));
    SDQ_RETURN_IF_ERROR(flatten("post_processor", "processors", &post_processors_));
    SDQ_RETURN_IF_ERROR(flatten("decoder", "decoders", &decoders_));
    for (const JsonFields& leaf : pre_tokenizers_) byte_level_ |= Is(leaf, "ByteLevel");
    spec_.kind =
        byte_level_ ? TokenizerSpec::Kind::kByteLevelBpe : TokenizerSpec::Kind::kSentencePieceBpe;
    return Status::Ok();
  }

  static bool Is(const JsonFields& leaf, std::string_view type) {
    const Result<std::string> found = leaf.String("type");
    return found.ok() && *found == type;
  }

  Status ReadModel() {
    const json* model = fields_.Find("model");
    if (model == nullptr || !model->is_object()) return fields_.WrongType("model", "an object");
    model_ = model;
    const JsonFields m(*model, fields_.name() + ": model");
    SDQ_ASSIGN_OR_RETURN(const std::string type, m.StringOr("type", "BPE"));
    if (type != "BPE") return Unsupported(m.name(), "type '" + type + "'");
    SDQ_ASSIGN_OR_RETURN(const double dropout, m.RealOr("dropout", 0.0));
    if (dropout != 0.0) return Unsupported(m.name(), "dropout");
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      SDQ_ASSIGN_OR_RETURN(const std::string text, m.StringOr(affix, ""));
      if (!text.empty()) return Unsupported(m.name(), affix);
    }
    SDQ_ASSIGN_OR_RETURN(spec_.fuse_unknown, m.BoolOr("fuse_unk", false));
    SDQ_ASSIGN_OR_RETURN(spec_.ignore_merges, m.BoolOr("ignore_merges", false));
    SDQ_ASSIGN_OR_RETURN(const bool byte_fallback, m.BoolOr("byte_fallback", false));
    SDQ_ASSIGN_OR_RETURN(const std::string unknown, m.StringOr("unk_token", ""));
    const json* vocab = m.Find("vocab");
    if (vocab == nullptr) return m.WrongType("vocab", "an object");
    SDQ_RETURN_IF_ERROR(builder_.AddVocabulary(*vocab));
    if (!unknown.empty()) {
      spec_.unknown_token = builder_.Find(unknown);
      if (spec_.unknown_token < 0) {
        return Status::Corrupt(fmt::format("{}: unk_token '{}' is no token", m.name(), unknown));
      }
      spec_.types[size_t(spec_.unknown_token)] = uint32_t(Type::kUnknown);
    }
    if (byte_fallback && !byte_level_) MarkByteTokens();
    return Status::Ok();
  }

  void MarkByteTokens() {
    for (unsigned byte = 0; byte < 256; ++byte) {
      const int64_t id = builder_.Find(fmt::format("<0x{:02X}>", byte));
      if (id >= 0) spec_.types[size_t(id)] = uint32_t(Type::kByte);
    }
  }

  Status ReadNormalizer() {
    for (const JsonFields& leaf : normalizers_) {
      if (!byte_level_ && Is(leaf, "Prepend")) {
        SDQ_ASSIGN_OR_RETURN(const std::string prefix, leaf.String("prepend"));
        if (prefix != kSpaceSign) return Unsupported(leaf.name(), "'" + prefix + "'");
        if (spec_.add_dummy_prefix) return Unsupported(leaf.name(), "a second one");
        spec_.add_dummy_prefix = true;
      } else if (!byte_level_ && Is(leaf, "Replace")) {
        std::string from;
        SDQ_RETURN_IF_ERROR(ReadPattern(leaf, &from).status());
        SDQ_ASSIGN_OR_RETURN(const std::string to, leaf.String("content"));
        if (from != " " || to != kSpaceSign) {
          return Unsupported(leaf.name(), "a replacement other than of spaces by U+2581");
        }
        spaces_replaced_ = true;
      } else {
        return Unsupported(leaf.name(), "this normalizer");
      }
    }
    return Status::Ok();
  }

  Status ReadPreTokenizer() {
    for (size_t i = 0; i < pre_tokenizers_.size(); ++i) {
      const JsonFields& leaf = pre_tokenizers_[i];
      const bool last = i + 1 == pre_tokenizers_.size();
      if (Is(leaf, "ByteLevel")) {
        // Behind it, steps would see the visible alphabet instead of text.
        if (!last) return Unsupported(leaf.name(), "a step behind it");
        SDQ_RETURN_IF_ERROR(ReadByteLevel(leaf));
      } else if (Is(leaf, "Metaspace") && !byte_level_ && i == 0) {
        SDQ_RETURN_IF_ERROR(ReadMetaspace(leaf));
      } else if (Is(leaf, "Split")) {
        SDQ_RETURN_IF_ERROR(ReadSplit(leaf));
      } else if (Is(leaf, "Digits")) {
        SDQ_ASSIGN_OR_RETURN(const bool single, leaf.BoolOr("individual_digits", false));
        spec_.pre_tokenizer.push_back({Step::Kind::kDigits, "", false, single});
      } else if (Is(leaf, "Punctuation")) {
        SDQ_ASSIGN_OR_RETURN(const std::string behaviour, leaf.StringOr("behavior", "Isolated"));
        if (behaviour != "Isolated") return Unsupported(leaf.name(), "behavior " + behaviour);
        spec_.pre_tokenizer.push_back({Step::Kind::kPunctuation, "", false, false});
      } else {
        return Unsupported(leaf.name(), "this pre-tokenizer at this place");
      }
    }
    if (!byte_level_ && !spaces_replaced_) {
      return Unsupported(fields_.name(),
                         "a vocabulary that is neither byte-level nor writes "
                         "spaces as U+2581");
    }
    return Status::Ok();
  }

  Status ReadByteLevel(const JsonFields& leaf) {
    SDQ_ASSIGN_OR_RETURN(const bool prefix, leaf.BoolOr("add_prefix_space", true));
    SDQ_ASSIGN_OR_RETURN(const bool use_regex, leaf.BoolOr("use_regex", true));
    if (prefix && !spec_.pre_tokenizer.empty()) {
      return Unsupported(leaf.name(), "add_prefix_space behind another step");
    }
    spec_.add_dummy_prefix = prefix;
    spec_.prefix_in_pre_tokenizer = prefix;
    if (use_regex) {
      spec_.pre_tokenizer.push_back({Step::Kind::kRegexIsolated, ByteLevelPattern(), false, false});
    }
    return Status::Ok();
  }

  Status ReadMetaspace(const JsonFields& leaf) {
    SDQ_ASSIGN_OR_RETURN(const std::string sign, leaf.StringOr("replacement", "\xe2\x96\x81"));
    if (sign != kSpaceSign) return Unsupported(leaf.name(), "replacement '" + sign + "'");
    SDQ_ASSIGN_OR_RETURN(const bool old_prefix, leaf.BoolOr("add_prefix_space", true));
    SDQ_ASSIGN_OR_RETURN(const std::string scheme,
                         leaf.StringOr("prepend_scheme", old_prefix ? "always" : "never"));
    SDQ_ASSIGN_OR_RETURN(const bool split, leaf.BoolOr("split", true));
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      return Unsupported(leaf.name(), "prepend_scheme '" + scheme + "'");
    }
    if (spec_.add_dummy_prefix) return Unsupported(leaf.name(), "a Prepend normalizer before it");
    spec_.add_dummy_prefix = scheme != "never";
    spec_.prefix_first_only = scheme == "first";
    spec_.prefix_in_pre_tokenizer = true;
    spaces_replaced_ = true;
    if (split) {
      spec_.pre_tokenizer.push_back(
          {Step::Kind::kRegexMergedWithNext, std::string(kSpaceSign), false, false});
    }
    return Status::Ok();
  }

  Status ReadSplit(const JsonFields& leaf) {
    Step step;
    std::string literal;
    SDQ_ASSIGN_OR_RETURN(step.pattern, ReadPattern(leaf, &literal));
    SDQ_ASSIGN_OR_RETURN(const std::string behaviour, leaf.String("behavior"));
    SDQ_ASSIGN_OR_RETURN(step.invert, leaf.BoolOr("invert", false));
    constexpr std::pair<const char*, Step::Kind> kBehaviours[] = {
        {"Isolated", Step::Kind::kRegexIsolated},
        {"Removed", Step::Kind::kRegexRemoved},
        {"MergedWithPrevious", Step::Kind::kRegexMergedWithPrevious},
        {"MergedWithNext", Step::Kind::kRegexMergedWithNext},
    };
    for (const auto& [name, kind] : kBehaviours) {
      if (behaviour != name) continue;
      step.kind = kind;
      spec_.pre_tokenizer.push_back(std::move(step));
      return Status::Ok();
    }
    return Unsupported(leaf.name(), "behavior '" + behaviour + "'");
  }

  Status ReadAddedTokens() {
    const json* list = fields_.Find("added_tokens");
    if (list == nullptr) return Status::Ok();
    if (!list->is_array()) return fields_.WrongType("added_tokens", "an array");
    for (size_t i = 0; i < list->size(); ++i) {
      const json& entry = (*list)[i];
      const std::string where = fmt::format("{}: added_tokens[{}]", fields_.name(), i);
      if (!entry.is_object()) return Status::Corrupt(where + ": expected an object");
      const JsonFields fields(entry, where);
      SDQ_ASSIGN_OR_RETURN(const int64_t id, fields.Int("id"));
      SDQ_ASSIGN_OR_RETURN(const bool special, fields.BoolOr("special", false));
      SDQ_ASSIGN_OR_RETURN(TokenizerSpec::AddedToken added, ReadAddedToken(fields));
      if (added.pattern.empty()) continue;
      SDQ_RETURN_IF_ERROR(builder_.AddAdded(id, added, special));
    }
    // Normalized added tokens are sought in normalized text, so they are normalized alike.
    if (!byte_level_ && !spec_.prefix_in_pre_tokenizer) {
      for (TokenizerSpec::AddedToken& added : spec_.added) {
        if (added.normalized) added.pattern = Normalized(added.pattern);
      }
    }
    return Status::Ok();
  }

  std::string Normalized(const std::string& text) const {
    std::string out(spec_.add_dummy_prefix ? kSpaceSign : std::string_view());
    for (const char c : text) {
      if (c == ' ') {
        out += kSpaceSign;
      } else {
        out += c;
      }
    }
    return out;
  }

  // "a b" (old) or ["a", "b"].
  Status ReadMerges() {
    const JsonFields m(*model_, fields_.name() + ": model");
    const json* merges = m.Find("merges");
    if (merges == nullptr || !merges->is_array()) return m.WrongType("merges", "an array");
    if (merges->empty() && !byte_level_) return Unsupported(m.name(), "BPE without merges");
    for (size_t i = 0; i < merges->size(); ++i) {
      const json& merge = (*merges)[i];
      std::string_view left;
      std::string_view right;
      if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get_ref<const std::string&>();
        right = merge[1].get_ref<const std::string&>();
      } else if (merge.is_string()) {
        const std::string_view text = merge.get_ref<const std::string&>();
        const size_t space = text.find(' ');
        if (space == std::string_view::npos ||
            text.find(' ', space + 1) != std::string_view::npos) {
          return Status::Corrupt(fmt::format("{}.merges[{}]: not two tokens", m.name(), i));
        }
        left = text.substr(0, space);
        right = text.substr(space + 1);
      } else {
        return Status::Corrupt(fmt::format("{}.merges[{}]: not two tokens", m.name(), i));
      }
      SDQ_RETURN_IF_ERROR(builder_.AddMerge(left, right));
    }
    return Status::Ok();
  }

  Status ReadPostProcessor() {
    for (const JsonFields& leaf : post_processors_) {
      if (Is(leaf, "ByteLevel")) continue;  // offsets only
      if (Is(leaf, "TemplateProcessing")) {
        SDQ_RETURN_IF_ERROR(ReadTemplate(leaf));
      } else if (Is(leaf, "RobertaProcessing") || Is(leaf, "BertProcessing")) {
        SDQ_ASSIGN_OR_RETURN(const int64_t bos, ReadNamedId(leaf, "cls"));
        SDQ_ASSIGN_OR_RETURN(const int64_t eos, ReadNamedId(leaf, "sep"));
        SDQ_RETURN_IF_ERROR(Surround(leaf, bos, eos));
      } else {
        return Unsupported(leaf.name(), "this post-processor");
      }
    }
    return Status::Ok();
  }

  // ["</s>", 2]
  static Result<int64_t> ReadNamedId(const JsonFields& leaf, const char* key) {
    const json* pair = leaf.Find(key);
    int64_t id = 0;
    if (pair == nullptr || !pair->is_array() || pair->size() != 2 || !JsonToInt((*pair)[1], &id) ||
        id < 0) {
      return leaf.WrongType(key, "[token, id]");
    }
    return id;
  }

  Status Surround(const JsonFields& leaf, int64_t bos, int64_t eos) {
    if (spec_.add_bos || spec_.add_eos) return Unsupported(leaf.name(), "a second one");
    for (const int64_t id : {bos, eos}) {
      if (id >= int64_t(spec_.tokens.size())) {
        return Status::Corrupt(
            fmt::format("{}: token id {} of {}", leaf.name(), id, spec_.tokens.size()));
      }
    }
    spec_.add_bos = bos >= 0;
    spec_.add_eos = eos >= 0;
    if (bos >= 0) spec_.bos_token = bos;
    if (eos >= 0) spec_.eos_token = eos;
    return Status::Ok();
  }

  // "single": at most one special token before the text and one after it.
  Status ReadTemplate(const JsonFields& leaf) {
    const json* single = leaf.Find("single");
    if (single == nullptr || !single->is_array()) return leaf.WrongType("single", "an array");
    int64_t around[2] = {-1, -1};
    size_t side = 0;
    for (const json& item : *single) {
      if (!item.is_object()) return Status::Corrupt(leaf.name() + ": single: expected objects");
      if (item.contains("Sequence")) {
        if (side++ != 0) return Unsupported(leaf.name(), "a template with the text twice");
        continue;
      }
      SDQ_ASSIGN_OR_RETURN(const int64_t id, ReadTemplateToken(leaf, item));
      int64_t& slot = around[side];
      if (slot >= 0) return Unsupported(leaf.name(), "two special tokens on one side");
      slot = id;
    }
    if (side == 0) return Unsupported(leaf.name(), "a template without the text");
    return Surround(leaf, around[0], around[1]);
  }

  // {"SpecialToken": {"id": "<s>"}}, its ids listed under special_tokens.
  static Result<int64_t> ReadTemplateToken(const JsonFields& leaf, const json& item) {
    const auto token = item.find("SpecialToken");
    if (token == item.end() || !token->is_object()) {
      return Status::Corrupt(leaf.name() + ": single: expected SpecialToken or Sequence");
    }
    SDQ_ASSIGN_OR_RETURN(const std::string name,
                         JsonFields(*token, leaf.name() + ": SpecialToken").String("id"));
    const json* table = leaf.Find("special_tokens");
    if (table == nullptr || !table->is_object() || !table->contains(name) ||
        !(*table)[name].is_object()) {
      return Status::Corrupt(fmt::format("{}: special_tokens has no '{}'", leaf.name(), name));
    }
    const JsonFields entry((*table)[name], leaf.name() + ": special_tokens");
    const json* ids = entry.Find("ids");
    int64_t id = 0;
    if (ids == nullptr || !ids->is_array() || ids->empty() || !JsonToInt((*ids)[0], &id) ||
        id < 0) {
      return entry.WrongType("ids", "an array of ids");
    }
    if (ids->size() != 1) return Unsupported(leaf.name(), "a special token of several ids");
    return id;
  }

  Status ReadDecoder() {
    spec_.strip_prefix_space = !byte_level_ && decoders_.empty() && spec_.add_dummy_prefix;
    for (const JsonFields& leaf : decoders_) {
      if (Is(leaf, "Metaspace")) {
        spec_.strip_prefix_space = spec_.add_dummy_prefix;
      } else if (Is(leaf, "Strip")) {
        SDQ_ASSIGN_OR_RETURN(const int64_t start, leaf.IntOr("start", 0));
        SDQ_ASSIGN_OR_RETURN(const int64_t stop, leaf.IntOr("stop", 0));
        SDQ_ASSIGN_OR_RETURN(const std::string content, leaf.StringOr("content", " "));
        if (start < 0 || start > 1 || stop != 0 || content != " ") {
          return Unsupported(leaf.name(), "more than one space at the start");
        }
        spec_.strip_prefix_space = start == 1;
      } else if (!Is(leaf, "ByteLevel") && !Is(leaf, "Replace") && !Is(leaf, "ByteFallback") &&
                 !Is(leaf, "Fuse")) {
        return Unsupported(leaf.name(), "this decoder");
      }
    }
    return Status::Ok();
  }

  JsonFields fields_;
  TokenizerSpec spec_;
  VocabBuilder builder_;
  const json* model_ = nullptr;
  std::vector<JsonFields> normalizers_;
  std::vector<JsonFields> pre_tokenizers_;
  std::vector<JsonFields> post_processors_;
  std::vector<JsonFields> decoders_;
  bool byte_level_ = false;
  bool spaces_replaced_ = false;
};

}  // namespace

Result<TokenizerSpec> ImportTokenizerJson(std::string_view text, const std::string& name) {
  SDQ_ASSIGN_OR_RETURN(const json root, ParseJson(text, name, kTokenizerJsonLimits));
  if (!root.is_object()) return Status::Corrupt(name + ": expected an object");
  return JsonImport(root, name).Run();
}

}  // namespace sdq::converter
