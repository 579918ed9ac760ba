// tokenizer_config.json and its neighbours: what they add to a tokenizer.
#include <fmt/format.h>

#include <array>
#include <charconv>

#include "converter/tokenizer_import.h"
#include "converter/tokenizer_vocab.h"

namespace sdq::converter {
namespace {

using nlohmann::json;
using Type = TokenizerSpec::TokenType;

// An empty text is an empty object: the file is absent.
Result<json> ParseObject(const std::string& text, const std::string& name) {
  if (text.empty()) return json::object();
  SDQ_ASSIGN_OR_RETURN(json root, ParseJson(text, name, kTokenizerJsonLimits));
  if (!root.is_object()) return Status::Corrupt(name + ": expected an object");
  return root;
}

class SideFiles {
 public:
  SideFiles(const json& config, const json& map, const json& added, const json& model,
            TokenizerSource source, TokenizerSpec* spec)
      : config_(config, "tokenizer_config.json"),
        map_(map, "special_tokens_map.json"),
        added_(added),
        model_(model, "config.json"),
        source_(source),
        spec_(spec),
        builder_(spec, "tokenizer") {}

  Status Apply() {
    // tokenizer.json lists its added tokens itself.
    if (source_ != TokenizerSource::kTokenizerJson) {
      SDQ_RETURN_IF_ERROR(ReadAddedTokensDecoder());
      SDQ_RETURN_IF_ERROR(ReadAddedTokensFile());
    }
    SDQ_RETURN_IF_ERROR(ReadNamedTokens());
    SDQ_RETURN_IF_ERROR(ReadModelIds());
    SDQ_RETURN_IF_ERROR(ReadSwitches());
    return ReadChatTemplate();
  }

 private:
  // {"32000": {"content": "<pad>", "special": true, ...}, ...}
  Status ReadAddedTokensDecoder() {
    const json* table = config_.Find("added_tokens_decoder");
    if (table == nullptr) return Status::Ok();
    if (!table->is_object()) return config_.WrongType("added_tokens_decoder", "an object");
    for (const auto& [key, value] : table->items()) {
      const std::string where = fmt::format("{}: added token {}", config_.name(), key);
      int64_t id = -1;
      const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
      if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || !value.is_object()) {
        return Status::Corrupt(where + ": expected an id and an object");
      }
      const JsonFields fields(value, where);
      SDQ_ASSIGN_OR_RETURN(const bool special, fields.BoolOr("special", false));
      SDQ_ASSIGN_OR_RETURN(auto added, ReadAddedToken(fields));
      if (!added.pattern.empty()) SDQ_RETURN_IF_ERROR(builder_.AddAdded(id, added, special));
    }
    return Status::Ok();
  }

  // added_tokens.json: {"<pad>": 32000}. Control where tokenizer_config.json did not say more.
  Status ReadAddedTokensFile() {
    for (const auto& [content, value] : added_.items()) {
      int64_t id = -1;
      if (!JsonToInt(value, &id) || content.empty()) {
        return Status::Corrupt("added_tokens.json: expected {\"token\": id}");
      }
      TokenizerSpec::AddedToken added;
      added.pattern = content;
      SDQ_RETURN_IF_ERROR(builder_.AddAdded(id, added, true));
    }
    return Status::Ok();
  }

  // A token by name: "<s>" or {"content": "<s>", ...}; tokenizer_config.json before the map.
  // An empty content means that neither file names it.
  Result<TokenizerSpec::AddedToken> Named(const char* key) const {
    for (const JsonFields* file : {&config_, &map_}) {
      const json* value = file->Find(key);
      if (value == nullptr) continue;
      if (value->is_object()) {
        return ReadAddedToken(JsonFields(*value, fmt::format("{}: {}", file->name(), key)));
      }
      if (!value->is_string()) return file->WrongType(key, "a string or an object");
      TokenizerSpec::AddedToken added;
      added.pattern = value->get<std::string>();
      return added;
    }
    return TokenizerSpec::AddedToken();
  }

  Status ReadNamedTokens() {
    constexpr std::array kNames = {"bos_token", "eos_token", "unk_token", "pad_token",
                                   "cls_token", "sep_token", "mask_token"};
    for (const char* name : kNames) {
      SDQ_ASSIGN_OR_RETURN(TokenizerSpec::AddedToken added, Named(name));
      const int64_t id = added.pattern.empty() ? -1 : FindSurface(added.pattern);
      if (id < 0) continue;
      if (source_ == TokenizerSource::kVocabAndMerges) {
        added.normalized = false;
        SDQ_RETURN_IF_ERROR(builder_.AddAdded(id, added, true));
      }
      const std::string_view which = name;
      if (which == "bos_token" && !spec_->add_bos) spec_->bos_token = id;
      if (which == "bos_token" && source_ == TokenizerSource::kSentencePieceModel) {
        spec_->bos_token = id;
      }
      if (which == "eos_token" && !spec_->add_eos) spec_->eos_token = id;
    }
    return Status::Ok();
  }

  int64_t FindSurface(const std::string& content) const {
    for (size_t i = 0; i < spec_->tokens.size(); ++i) {
      if (spec_->tokens[i] == content && spec_->types[i] != uint32_t(Type::kUnused)) {
        return int64_t(i);
      }
    }
    return -1;
  }

  // config.json's ids, where the tokenizer's own files name no such token. A list: its first.
  Status ReadModelIds() {
    const auto read = [this](const char* key, int64_t* id) {
      const json* value = model_.Find(key);
      if (*id >= 0 || value == nullptr) return;
      if (value->is_array() && !value->empty()) value = &value->front();
      int64_t found = -1;
      if (JsonToInt(*value, &found) && found >= 0 && found < int64_t(spec_->tokens.size())) {
        *id = found;
      }
    };
    read("bos_token_id", &spec_->bos_token);
    read("eos_token_id", &spec_->eos_token);
    return Status::Ok();
  }

  // add_bos_token and the like. The post-processor of tokenizer.json has the last word, except in
  // LLaMA's tokenizer class, which rebuilds it from these switches.
  Status ReadSwitches() {
    SDQ_ASSIGN_OR_RETURN(const std::string kind, config_.StringOr("tokenizer_class", ""));
    const bool json_source = source_ == TokenizerSource::kTokenizerJson;
    const bool llama = kind.find("LlamaTokenizer") != std::string::npos;
    if (!json_source || llama) {
      bool bos = spec_->add_bos;
      if (source_ == TokenizerSource::kVocabAndMerges && config_.Find("add_bos_token") == nullptr) {
        SDQ_ASSIGN_OR_RETURN(const std::string model_type, model_.StringOr("model_type", ""));
        bos = model_type == "opt";  // always trained with </s> in front
      }
      SDQ_ASSIGN_OR_RETURN(bos, config_.BoolOr("add_bos_token", bos));
      SDQ_ASSIGN_OR_RETURN(const bool eos, config_.BoolOr("add_eos_token", spec_->add_eos));
      spec_->add_bos = bos && spec_->bos_token >= 0;
      spec_->add_eos = eos && spec_->eos_token >= 0;
    }
    if (source_ == TokenizerSource::kVocabAndMerges) {
      SDQ_ASSIGN_OR_RETURN(spec_->add_dummy_prefix, config_.BoolOr("add_prefix_space", false));
      spec_->prefix_in_pre_tokenizer = spec_->add_dummy_prefix;
    }
    if (source_ == TokenizerSource::kSentencePieceModel) {
      SDQ_ASSIGN_OR_RETURN(const bool legacy, config_.BoolOr("legacy", true));
      spec_->prefix_first_only = !legacy;
    }
    return Status::Ok();
  }

  // A text, or [{"name": "default", "template": "..."}, ...].
  Status ReadChatTemplate() {
    const json* value = config_.Find("chat_template");
    if (value == nullptr) return Status::Ok();
    if (value->is_string()) {
      spec_->chat_template = value->get<std::string>();
      return Status::Ok();
    }
    if (!value->is_array()) return config_.WrongType("chat_template", "a string or an array");
    for (const json& entry : *value) {
      if (!entry.is_object()) return config_.WrongType("chat_template", "an array of objects");
      const JsonFields fields(entry, config_.name() + ": chat_template");
      SDQ_ASSIGN_OR_RETURN(const std::string name, fields.String("name"));
      SDQ_ASSIGN_OR_RETURN(const std::string text, fields.String("template"));
      if (spec_->chat_template.empty() || name == "default") spec_->chat_template = text;
    }
    return Status::Ok();
  }

  JsonFields config_;
  JsonFields map_;
  const json& added_;
  JsonFields model_;
  TokenizerSource source_;
  TokenizerSpec* spec_;
  VocabBuilder builder_;
};

}  // namespace

Status ApplySideFiles(const TokenizerSideFiles& files, TokenizerSource source,
                      TokenizerSpec* spec) {
  SDQ_ASSIGN_OR_RETURN(const json config,
                       ParseObject(files.tokenizer_config, "tokenizer_config.json"));
  SDQ_ASSIGN_OR_RETURN(const json map,
                       ParseObject(files.special_tokens_map, "special_tokens_map.json"));
  SDQ_ASSIGN_OR_RETURN(const json added, ParseObject(files.added_tokens, "added_tokens.json"));
  SDQ_ASSIGN_OR_RETURN(const json model, ParseObject(files.config, "config.json"));
  SDQ_RETURN_IF_ERROR(SideFiles(config, map, added, model, source, spec).Apply());
  if (!files.chat_template.empty()) spec->chat_template = files.chat_template;
  return Status::Ok();
}

}  // namespace sdq::converter
