// tokenizer.model: the protobuf message ModelProto of sentencepiece_model.proto, read by hand.
#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "converter/tokenizer_import.h"
#include "format/utf8.h"

namespace sdq::converter {
namespace {

using Type = TokenizerSpec::TokenType;

constexpr size_t kMaxPieces = size_t(1) << 22;

// One field of a message. Groups are not used by any known version and are refused.
struct Field {
  uint32_t number = 0;
  uint32_t wire = 0;               // 0 varint, 1 fixed64, 2 bytes, 5 fixed32
  uint64_t value = 0;              // varint or fixed
  std::span<const uint8_t> bytes;  // wire type 2
  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

// A cursor over one message: every length is checked against the bytes that remain.
class MessageReader {
 public:
  explicit MessageReader(std::span<const uint8_t> bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }

  Status Next(Field* field) {
    uint64_t tag = 0;
    SDQ_RETURN_IF_ERROR(Varint(&tag));
    *field = Field();
    field->number = uint32_t(tag >> 3);
    field->wire = uint32_t(tag & 7);
    if (field->number == 0 || tag >> 32 != 0) return Status::Corrupt("invalid field number");
    switch (field->wire) {
      case 0:
        return Varint(&field->value);
      case 1:
        return Fixed(8, &field->value);
      case 2:
        return Bytes(&field->bytes);
      case 5:
        return Fixed(4, &field->value);
      default:
        return Status::Corrupt(
            fmt::format("field {} has wire type {}", field->number, field->wire));
    }
  }

 private:
  Status Varint(uint64_t* out) {
    *out = 0;
    for (size_t i = 0; i < 10; ++i) {
      if (i >= rest_.size()) return Status::Corrupt("the file ends inside a number");
      const uint8_t byte = rest_[i];
      if (i == 9 && byte > 1) break;
      *out |= uint64_t(byte & 0x7f) << (7 * i);
      if (byte < 0x80) {
        rest_ = rest_.subspan(i + 1);
        return Status::Ok();
      }
    }
    return Status::Corrupt("a number of more than 64 bits");
  }

  Status Fixed(size_t bytes, uint64_t* out) {
    if (rest_.size() < bytes) return Status::Corrupt("the file ends inside a number");
    *out = 0;
    for (size_t i = 0; i < bytes; ++i) *out |= uint64_t(rest_[i]) << (8 * i);
    rest_ = rest_.subspan(bytes);
    return Status::Ok();
  }

  Status Bytes(std::span<const uint8_t>* out) {
    uint64_t size = 0;
    SDQ_RETURN_IF_ERROR(Varint(&size));
    if (size > rest_.size()) {
      return Status::Corrupt(fmt::format("a field of {} bytes, {} remain", size, rest_.size()));
    }
    *out = rest_.first(size_t(size));
    rest_ = rest_.subspan(size_t(size));
    return Status::Ok();
  }

  std::span<const uint8_t> rest_;
};

// Calls visit(field) for every field of a message.
template <typename Visitor>
Status ForEachField(std::span<const uint8_t> bytes, const Visitor& visit) {
  MessageReader reader(bytes);
  Field field;
  while (!reader.done()) {
    SDQ_RETURN_IF_ERROR(reader.Next(&field));
    SDQ_RETURN_IF_ERROR(visit(field));
  }
  return Status::Ok();
}

// The parts of TrainerSpec and NormalizerSpec that matter, with the defaults of the .proto.
struct ModelSettings {
  uint64_t model_type = 1;
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  int64_t unknown = 0;
  int64_t bos = 1;
  int64_t eos = 2;
  std::string unknown_surface = " \xe2\x81\x87 ";
  std::string normalizer_name;
  bool has_character_map = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespace = true;
  bool escape_whitespace = true;
};

// Ids are int32; a negative one ("none") stands as a 64-bit number.
int64_t IdOf(uint64_t value) {
  const auto id = std::bit_cast<int64_t>(value);
  return id < 0 || id > int64_t(kMaxPieces) ? -1 : id;
}

Status ReadTrainerField(const Field& field, ModelSettings* settings) {
  switch (field.number) {
    case 3:
      settings->model_type = field.value;
      break;
    case 24:
      settings->whitespace_as_suffix = field.value != 0;
      break;
    case 35:
      settings->byte_fallback = field.value != 0;
      break;
    case 40:
      settings->unknown = IdOf(field.value);
      break;
    case 41:
      settings->bos = IdOf(field.value);
      break;
    case 42:
      settings->eos = IdOf(field.value);
      break;
    case 44:
      settings->unknown_surface = field.text();
      break;
    default:
      break;
  }
  return Status::Ok();
}

Status ReadNormalizerField(const Field& field, ModelSettings* settings) {
  switch (field.number) {
    case 1:
      settings->normalizer_name = field.text();
      break;
    case 2:
      settings->has_character_map = !field.bytes.empty();
      break;
    case 3:
      settings->add_dummy_prefix = field.value != 0;
      break;
    case 4:
      settings->remove_extra_whitespace = field.value != 0;
      break;
    case 5:
      settings->escape_whitespace = field.value != 0;
      break;
    default:
      break;
  }
  return Status::Ok();
}

Status ReadPiece(std::span<const uint8_t> bytes, TokenizerSpec* spec) {
  const size_t id = spec->tokens.size();
  if (id >= kMaxPieces) return Status::OutOfRange("more than 4194304 pieces");
  std::string piece;
  float score = 0;
  uint64_t type = uint64_t(Type::kNormal);
  Status status = ForEachField(bytes, [&](const Field& field) {
    if (field.number == 1) piece = field.text();
    if (field.number == 2) score = std::bit_cast<float>(uint32_t(field.value));
    if (field.number == 3) type = field.value;
    return Status::Ok();
  });
  const std::string where = fmt::format("piece {}", id);
  if (!status.ok()) return std::move(status).Annotate(where);
  if (piece.empty() || !format::IsUtf8(piece)) {
    return Status::Corrupt(where + " is empty or not UTF-8");
  }
  if (type < 1 || type > uint64_t(Type::kByte)) {
    return Status::Corrupt(fmt::format("{} has unknown type {}", where, type));
  }
  spec->tokens.push_back(std::move(piece));
  spec->scores.push_back(score);
  spec->types.push_back(uint32_t(type));
  return Status::Ok();
}

Status CheckSettings(const ModelSettings& settings) {
  if (settings.model_type != 2) {
    const char* kinds[] = {"unknown", "unigram", "BPE", "word", "char"};
    return Status::Unsupported(
        fmt::format("a SentencePiece {} model; only BPE models are supported",
                    settings.model_type < 5 ? kinds[settings.model_type] : kinds[0]));
  }
  if (settings.has_character_map) {
    return Status::Unsupported(fmt::format(
        "SentencePiece normalization '{}'; only identity is supported", settings.normalizer_name));
  }
  if (settings.whitespace_as_suffix || !settings.escape_whitespace) {
    return Status::Unsupported(
        "SentencePiece with treat_whitespace_as_suffix or without escape_whitespaces");
  }
  return Status::Ok();
}

// Which pieces are cut out of the text before BPE, and which special ones exist.
void ApplySettings(const ModelSettings& settings, TokenizerSpec* spec) {
  const auto has_type = [spec](int64_t id, Type type) {
    return id >= 0 && size_t(id) < spec->types.size() && spec->types[size_t(id)] == uint32_t(type);
  };
  for (size_t id = 0; id < spec->types.size(); ++id) {
    const auto type = Type(spec->types[id]);
    // Without byte fallback, byte pieces are never produced.
    if (type == Type::kByte && !settings.byte_fallback) spec->types[id] = uint32_t(Type::kControl);
    if (type == Type::kControl || type == Type::kUnknown || type == Type::kUserDefined) {
      TokenizerSpec::AddedToken added;
      added.id = uint32_t(id);
      added.pattern = spec->tokens[id];
      added.normalized = type == Type::kUserDefined;
      spec->added.push_back(std::move(added));
    }
  }
  spec->unknown_token = has_type(settings.unknown, Type::kUnknown) ? settings.unknown : -1;
  spec->bos_token = has_type(settings.bos, Type::kControl) ? settings.bos : -1;
  spec->eos_token = has_type(settings.eos, Type::kControl) ? settings.eos : -1;
  spec->add_bos = spec->bos_token >= 0;  // as LLaMA's tokenizer does unless told otherwise
  spec->add_dummy_prefix = settings.add_dummy_prefix;
  spec->remove_extra_whitespace = settings.remove_extra_whitespace;
  spec->strip_prefix_space = settings.add_dummy_prefix || settings.remove_extra_whitespace;
  spec->fuse_unknown = true;
  spec->unknown_surface = settings.unknown_surface;
}

}  // namespace

Result<TokenizerSpec> ImportSentencePieceModel(std::span<const uint8_t> bytes,
                                               const std::string& name) {
  TokenizerSpec spec;
  spec.kind = TokenizerSpec::Kind::kSentencePieceBpe;
  ModelSettings settings;
  Status status = ForEachField(bytes, [&](const Field& field) {
    if (field.wire != 2) return Status::Ok();
    if (field.number == 1) return ReadPiece(field.bytes, &spec);
    if (field.number == 2) {
      return ForEachField(field.bytes,
                          [&](const Field& f) { return ReadTrainerField(f, &settings); });
    }
    if (field.number == 3) {
      return ForEachField(field.bytes,
                          [&](const Field& f) { return ReadNormalizerField(f, &settings); });
    }
    return Status::Ok();
  });
  if (status.ok() && spec.tokens.empty()) status = Status::Corrupt("no pieces");
  if (status.ok()) status = CheckSettings(settings);
  if (!status.ok()) return std::move(status).Annotate(name);
  ApplySettings(settings, &spec);
  return spec;
}

}  // namespace sdq::converter
