#include "converter/gguf_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <new>

#include "format/utf8.h"

namespace sdq::converter {
namespace {

using Type = GgufValueType;

constexpr char kMagic[] = "GGUF";
constexpr uint64_t kDefaultAlignment = 32;
constexpr char kAlignmentKey[] = "general.alignment";
// The shortest key: length, no name, type, one byte. The shortest tensor: length, no name,
// one dimension, type, offset.
constexpr uint64_t kLeastKeyBytes = 8 + 4 + 1;
constexpr uint64_t kLeastTensorBytes = 8 + 4 + 8 + 4 + 8;

// A tensor's record, before its bytes are known to exist.
struct Placed {
  GgufTensor tensor;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

class Parser {
 public:
  Parser(std::span<const uint8_t> file, const std::string& name)
      : file_(file), name_(name), metadata_(name) {}

  Result<GgufContents> Run() {
    uint64_t tensors = 0;
    uint64_t keys = 0;
    SDQ_RETURN_IF_ERROR(ReadHeader(&tensors, &keys));
    for (uint64_t i = 0; i < keys; ++i) SDQ_RETURN_IF_ERROR(ReadKey());
    SDQ_RETURN_IF_ERROR(ReadAlignment());
    std::vector<Placed> placed;
    for (uint64_t i = 0; i < tensors; ++i) {
      placed.emplace_back();
      SDQ_RETURN_IF_ERROR(ReadRecord(&placed.back()));
    }
    SDQ_RETURN_IF_ERROR(Place(&placed));
    GgufContents contents;
    contents.metadata = std::move(metadata_);
    for (Placed& p : placed) {
      const std::string key = p.tensor.name;
      if (!contents.tensors.try_emplace(key, std::move(p.tensor)).second) {
        return Bad(fmt::format("two tensors of the name '{}'", key));
      }
    }
    return contents;
  }

 private:
  Status Bad(const std::string& what) const { return Status::Corrupt(name_ + ": " + what); }
  uint64_t rest() const { return file_.size() - at_; }

  // The next `bytes` bytes; `what` they are, for the message.
  Result<std::span<const uint8_t>> Take(uint64_t bytes, std::string_view what) {
    if (bytes > rest()) {
      return Bad(fmt::format("{} at byte {} takes {} bytes, {} remain", what, at_, bytes, rest()));
    }
    const auto taken = file_.subspan(at_, size_t(bytes));
    at_ += size_t(bytes);
    return taken;
  }

  template <typename T>
  Status Number(T* out, std::string_view what) {
    SDQ_ASSIGN_OR_RETURN(const auto bytes, Take(sizeof(T), what));
    *out = 0;
    for (size_t i = 0; i < sizeof(T); ++i) *out |= T(T(bytes[i]) << (8 * i));
    return Status::Ok();
  }

  Status Text(std::string_view* out, uint64_t max_bytes, std::string_view what) {
    uint64_t size = 0;
    SDQ_RETURN_IF_ERROR(Number(&size, what));
    if (size > max_bytes) {
      return Bad(fmt::format("{} of {} bytes, at most {} are allowed", what, size, max_bytes));
    }
    SDQ_ASSIGN_OR_RETURN(const auto bytes, Take(size, what));
    *out = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    return Status::Ok();
  }

  // Names of keys and tensors.
  Status Name(std::string_view* out, uint64_t max_bytes, std::string_view what) {
    SDQ_RETURN_IF_ERROR(Text(out, max_bytes, what));
    if (out->empty() || !format::IsUtf8(*out)) {
      return Bad(fmt::format("{} before byte {} is empty or not UTF-8", what, at_));
    }
    return Status::Ok();
  }

  Status ReadHeader(uint64_t* tensors, uint64_t* keys) {
    if (!LooksLikeGguf(file_)) return Bad("does not begin with GGUF");
    at_ = 4;
    uint32_t version = 0;
    SDQ_RETURN_IF_ERROR(Number(&version, "the version"));
    if (version != 0 && (version & 0xffff) == 0) {
      return Status::Unsupported(name_ + ": a big-endian GGUF file; only little-endian are read");
    }
    if (version != 2 && version != 3) {
      return Status::Unsupported(
          fmt::format("{}: GGUF version {} (supported: 2, 3)", name_, version));
    }
    SDQ_RETURN_IF_ERROR(Number(tensors, "the tensor count"));
    SDQ_RETURN_IF_ERROR(Number(keys, "the key count"));
    if (*keys > rest() / kLeastKeyBytes || *tensors > rest() / kLeastTensorBytes) {
      return Bad(
          fmt::format("{} keys and {} tensors cannot fit into {} bytes", *keys, *tensors, rest()));
    }
    return Status::Ok();
  }

  // A type by its number, or an error.
  Status ReadType(std::string_view key, Type* type) {
    uint32_t number = 0;
    SDQ_RETURN_IF_ERROR(Number(&number, "a value's type"));
    if (number > uint32_t(Type::kFloat64)) {
      return Bad(fmt::format("'{}' has unknown value type {}", key, number));
    }
    *type = Type(number);
    return Status::Ok();
  }

  Status ReadKey() {
    std::string_view key;
    SDQ_RETURN_IF_ERROR(Name(&key, kMaxGgufKeyBytes, "a key"));
    GgufValue value;
    SDQ_RETURN_IF_ERROR(ReadType(key, &value.type));
    if (value.type == Type::kArray) {
      value.is_array = true;
      SDQ_RETURN_IF_ERROR(ReadType(key, &value.type));
      if (value.type == Type::kArray) {
        return Status::Unsupported(
            fmt::format("{}: '{}' is an array of arrays, which are not supported", name_, key));
      }
      SDQ_RETURN_IF_ERROR(Number(&value.count, "an array's length"));
    }
    SDQ_RETURN_IF_ERROR(value.type == Type::kString ? ReadStrings(key, &value)
                                                    : ReadNumbers(key, &value));
    return metadata_.Add(key, std::move(value));
  }

  Status ReadStrings(std::string_view key, GgufValue* value) {
    if (value->count > rest() / 8) {
      return Bad(fmt::format("'{}' has {} strings, {} bytes remain", key, value->count, rest()));
    }
    value->strings.resize(size_t(value->count));
    for (std::string_view& text : value->strings) {
      SDQ_RETURN_IF_ERROR(Text(&text, rest(), "a string"));
      if (!value->is_array && !format::IsUtf8(text)) {
        return Bad(fmt::format("the value of '{}' is not UTF-8", key));
      }
    }
    return Status::Ok();
  }

  Status ReadNumbers(std::string_view key, GgufValue* value) {
    const size_t width = GgufValueBytes(value->type);
    if (value->count > rest() / width) {
      return Bad(fmt::format("'{}' has {} values of {} bytes, {} remain", key, value->count, width,
                             rest()));
    }
    SDQ_ASSIGN_OR_RETURN(value->bytes, Take(value->count * width, key));
    if (value->type != Type::kBool) return Status::Ok();
    for (const uint8_t byte : value->bytes) {
      if (byte > 1) return Bad(fmt::format("'{}' is a bool of value {}", key, byte));
    }
    return Status::Ok();
  }

  Status ReadAlignment() {
    auto alignment = int64_t(kDefaultAlignment);
    SDQ_RETURN_IF_ERROR(metadata_.GetIfPresent(kAlignmentKey, &alignment));
    if (alignment < 1 || alignment > int64_t(kMaxGgufAlignment) ||
        !std::has_single_bit(uint64_t(alignment))) {
      return Bad(fmt::format("{} is {}, expected a power of two up to {}", kAlignmentKey, alignment,
                             kMaxGgufAlignment));
    }
    alignment_ = uint64_t(alignment);
    return Status::Ok();
  }

  Status ReadRecord(Placed* placed) {
    std::string_view name;
    SDQ_RETURN_IF_ERROR(Name(&name, kMaxGgufNameBytes, "a tensor's name"));
    GgufTensor& tensor = placed->tensor;
    tensor.name = name;
    uint32_t dimensions = 0;
    SDQ_RETURN_IF_ERROR(Number(&dimensions, "a tensor's dimension count"));
    if (dimensions < 1 || dimensions > kMaxGgufDimensions) {
      return Bad(fmt::format("tensor '{}' has {} dimensions, expected 1 to {}", name, dimensions,
                             kMaxGgufDimensions));
    }
    tensor.elements = 1;
    for (uint32_t i = 0; i < dimensions; ++i) {
      uint64_t size = 0;
      SDQ_RETURN_IF_ERROR(Number(&size, "a tensor's dimension"));
      if (size == 0 || size > uint64_t(INT64_MAX) / tensor.elements) {
        return Bad(fmt::format("tensor '{}': dimension {} is {}", name, i, size));
      }
      tensor.elements *= size;
      tensor.dimensions.push_back(size);
    }
    uint32_t type = 0;
    SDQ_RETURN_IF_ERROR(Number(&type, "a tensor's type"));
    SDQ_RETURN_IF_ERROR(Number(&placed->offset, "a tensor's offset"));
    return ReadTensorType(type, placed);
  }

  Status ReadTensorType(uint32_t number, Placed* placed) {
    GgufTensor& tensor = placed->tensor;
    tensor.type = FindGgufType(number);
    if (tensor.type == nullptr) {
      return Status::Unsupported(fmt::format("{}: tensor '{}' is stored as {} (supported: {})",
                                             name_, tensor.name, GgufTypeName(number),
                                             ReadableGgufTypes()));
    }
    const uint64_t block = tensor.type->block_elements;
    if (tensor.dimensions[0] % block != 0) {
      return Bad(fmt::format("tensor '{}' has rows of {} elements, {} has blocks of {}",
                             tensor.name, tensor.dimensions[0], tensor.type->name, block));
    }
    const uint64_t blocks = tensor.elements / block;
    if (blocks > file_.size() / tensor.type->block_bytes) {
      return Bad(fmt::format("tensor '{}' has {} elements of {}, the file only {} bytes",
                             tensor.name, tensor.elements, tensor.type->name, file_.size()));
    }
    placed->bytes = blocks * tensor.type->block_bytes;
    return Status::Ok();
  }

  // `at` rounded up; both are below the size of a file, so that nothing overflows.
  uint64_t Aligned(uint64_t at) const { return (at + alignment_ - 1) & ~(alignment_ - 1); }

  // In order of offset the tensors must follow one another with padding only between them.
  Status Place(std::vector<Placed>* placed) {
    const uint64_t begin = Aligned(at_);
    if (begin > file_.size()) {
      if (placed->empty()) return Status::Ok();
      return Bad("the file ends before the tensors' data");
    }
    const std::span<const uint8_t> data = file_.subspan(size_t(begin));
    std::vector<Placed*> order;
    for (Placed& p : *placed) order.push_back(&p);
    std::sort(order.begin(), order.end(),
              [](const Placed* a, const Placed* b) { return a->offset < b->offset; });
    uint64_t expected = 0;
    for (Placed* p : order) {
      const std::string& name = p->tensor.name;
      if (p->offset != expected) {
        return Bad(fmt::format("tensor '{}' begins at data byte {}, expected {} ({})", name,
                               p->offset, expected,
                               p->offset % alignment_ != 0 ? "not aligned"
                               : p->offset < expected      ? "tensors overlap"
                                                           : "a hole before it"));
      }
      if (p->offset > data.size() || p->bytes > data.size() - p->offset) {
        return Bad(fmt::format("tensor '{}' takes data bytes {} to {}, the file has {}", name,
                               p->offset, p->offset + p->bytes, data.size()));
      }
      p->tensor.bytes = data.subspan(size_t(p->offset), size_t(p->bytes));
      expected = Aligned(p->offset + p->bytes);
    }
    if (data.size() > expected) {
      return Bad(fmt::format("{} bytes behind the last tensor", data.size() - expected));
    }
    return Status::Ok();
  }

  std::span<const uint8_t> file_;
  const std::string& name_;
  GgufMetadata metadata_;
  size_t at_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
};

}  // namespace

bool LooksLikeGguf(std::span<const uint8_t> file) {
  return file.size() >= 4 && std::memcmp(file.data(), kMagic, 4) == 0;
}

Result<GgufContents> ParseGguf(std::span<const uint8_t> file, const std::string& name) {
  return Parser(file, name).Run();
}

Status ReadGgufTensor(const GgufTensor& tensor, std::vector<float>* out) {
  try {
    out->resize(size_t(tensor.elements));
  } catch (const std::bad_alloc&) {
    return Status::ResourceExhausted(
        fmt::format("no memory for tensor '{}' ({} elements)", tensor.name, tensor.elements));
  }
  DecodeGgufBlocks(*tensor.type, tensor.bytes, *out);
  const auto bad =
      std::find_if(out->begin(), out->end(), [](float x) { return !std::isfinite(x); });
  if (bad == out->end()) return Status::Ok();
  return Status::Corrupt(fmt::format("tensor '{}': element {} is {}, weights must be finite",
                                     tensor.name, bad - out->begin(), *bad));
}

}  // namespace sdq::converter
