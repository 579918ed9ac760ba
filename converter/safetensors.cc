#include "converter/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <new>
#include <utility>

#include "converter/json.h"
#include "format/tensor.h"

namespace sdq::converter {
namespace {

using nlohmann::json;

// Nine values per tensor: enough for 200 000 tensors, and a bound on what a hostile header costs.
constexpr JsonLimits kHeaderLimits = {4, 2'000'000};

struct DtypeSize {
  std::string_view name;
  uint64_t bytes;
};
constexpr std::array<DtypeSize, 16> kDtypes = {{
    {"F32", 4},
    {"F16", 2},
    {"BF16", 2},
    {"F64", 8},
    {"I64", 8},
    {"I32", 4},
    {"I16", 2},
    {"I8", 1},
    {"U64", 8},
    {"U32", 4},
    {"U16", 2},
    {"U8", 1},
    {"BOOL", 1},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"C64", 8},
}};

uint64_t DtypeBytes(std::string_view dtype) {
  for (const DtypeSize& known : kDtypes) {
    if (known.name == dtype) return known.bytes;
  }
  return 0;
}

// A tensor with its place in the file's data, before the tiling is checked.
struct Placed {
  SafetensorsEntry entry;
  uint64_t begin = 0;
  uint64_t end = 0;
};

// product = a * b; false if that does not fit in 63 bits.
bool MultiplyFits(uint64_t a, uint64_t b, uint64_t* product) {
  constexpr uint64_t kMax = uint64_t(std::numeric_limits<int64_t>::max());
  if (b != 0 && a > kMax / b) return false;
  *product = a * b;
  return true;
}

class HeaderReader {
 public:
  HeaderReader(const std::string& file, uint64_t data_bytes)
      : file_(file), data_bytes_(data_bytes) {}

  Result<Placed> ReadEntry(const std::string& name, const json& value) const {
    const std::string where = fmt::format("{}: tensor '{}'", file_, name);
    if (name.empty()) return Status::Corrupt(file_ + ": a tensor has an empty name");
    if (!value.is_object()) return Status::Corrupt(where + ": not a JSON object");
    for (const auto& [key, unused] : value.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        return Status::Corrupt(fmt::format("{}: unknown field '{}'", where, key));
      }
    }
    Placed placed;
    placed.entry.name = name;
    const JsonFields fields(value, where);
    SDQ_ASSIGN_OR_RETURN(placed.entry.dtype, fields.String("dtype"));
    SDQ_RETURN_IF_ERROR(ReadShape(fields, &placed.entry));
    SDQ_RETURN_IF_ERROR(ReadOffsets(fields, &placed));
    return placed;
  }

 private:
  Status ReadShape(const JsonFields& fields, SafetensorsEntry* entry) const {
    const json* shape = fields.Find("shape");
    if (shape == nullptr || !shape->is_array() || shape->size() > kMaxSafetensorsDimensions) {
      return fields.WrongType("shape", "an array of at most 8 sizes");
    }
    entry->elements = 1;
    for (const json& size : *shape) {
      int64_t dimension = 0;
      if (!JsonToInt(size, &dimension) || dimension < 0) {
        return fields.WrongType("shape", "sizes that are non-negative 64-bit integers");
      }
      if (!MultiplyFits(entry->elements, uint64_t(dimension), &entry->elements)) {
        return Status::Corrupt(fields.name() + ": shape overflows 64 bits");
      }
      entry->shape.push_back(dimension);
    }
    return Status::Ok();
  }

  Status ReadOffsets(const JsonFields& fields, Placed* placed) const {
    const json* offsets = fields.Find("data_offsets");
    int64_t begin = 0;
    int64_t end = 0;
    if (offsets == nullptr || !offsets->is_array() || offsets->size() != 2 ||
        !JsonToInt((*offsets)[0], &begin) || !JsonToInt((*offsets)[1], &end) || begin < 0) {
      return fields.WrongType("data_offsets", "two non-negative 64-bit integers");
    }
    if (begin > end || uint64_t(end) > data_bytes_) {
      return Status::Corrupt(fmt::format(
          "{}: data_offsets [{}, {}) do not lie within the file's {} data bytes (cut short?)",
          fields.name(), begin, end, data_bytes_));
    }
    const SafetensorsEntry& entry = placed->entry;
    const uint64_t size = DtypeBytes(entry.dtype);
    if (size == 0) {
      return Status::Unsupported(fmt::format("{}: unknown dtype '{}'", fields.name(), entry.dtype));
    }
    uint64_t expected = 0;
    if (!MultiplyFits(entry.elements, size, &expected)) {
      return Status::Corrupt(fields.name() + ": shape times dtype size overflows 64 bits");
    }
    if (expected != uint64_t(end - begin)) {
      return Status::Corrupt(fmt::format(
          "{}: {} elements of {} need {} bytes, but data_offsets [{}, {}) hold {}", fields.name(),
          entry.elements, entry.dtype, expected, begin, end, end - begin));
    }
    placed->begin = uint64_t(begin);
    placed->end = uint64_t(end);
    return Status::Ok();
  }

  const std::string& file_;
  uint64_t data_bytes_;
};

Status CheckFreeText(const json& metadata, const std::string& file) {
  if (!metadata.is_object()) return Status::Corrupt(file + ": __metadata__ is not an object");
  for (const auto& [key, value] : metadata.items()) {
    if (!value.is_string()) {
      return Status::Corrupt(fmt::format("{}: __metadata__: '{}' is not a string", file, key));
    }
  }
  return Status::Ok();
}

// Tensors in order of offset must follow one another from 0 to the end.
Status CheckTiling(const std::vector<Placed>& tensors, uint64_t data_bytes,
                   const std::string& file) {
  uint64_t at = 0;
  for (const Placed& tensor : tensors) {
    if (tensor.begin != at) {
      return Status::Corrupt(fmt::format(
          "{}: tensor '{}' begins at data byte {}, expected {} ({})", file, tensor.entry.name,
          tensor.begin, at, tensor.begin < at ? "tensors overlap" : "a hole before it"));
    }
    at = tensor.end;
  }
  if (at != data_bytes) {
    return Status::Corrupt(
        fmt::format("{}: tensors end at data byte {}, but the file has {}", file, at, data_bytes));
  }
  return Status::Ok();
}

Result<std::string_view> HeaderText(std::span<const uint8_t> file, const std::string& name) {
  if (file.size() < 8) {
    return Status::Corrupt(
        fmt::format("{}: {} bytes are too few for a safetensors file", name, file.size()));
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | file[size_t(i)];
  if (length > kMaxSafetensorsHeaderBytes) {
    return Status::Corrupt(fmt::format("{}: header of {} bytes, at most {} are allowed", name,
                                       length, kMaxSafetensorsHeaderBytes));
  }
  if (length > file.size() - 8) {
    return Status::Corrupt(fmt::format("{}: header of {} bytes, but the file has only {} more",
                                       name, length, file.size() - 8));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, size_t(length));
  if (text.empty() || text.front() != '{') {
    return Status::Corrupt(name + ": the header is not a JSON object");
  }
  return text;
}

uint32_t LoadLittle(const uint8_t* p, size_t bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= uint32_t(p[i]) << (8 * i);
  return value;
}

template <typename Decode>
void Widen(const uint8_t* bytes, size_t width, std::span<float> out, Decode decode) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = decode(LoadLittle(bytes + i * width, width));
}

}  // namespace

Result<std::vector<SafetensorsEntry>> ParseSafetensors(std::span<const uint8_t> file,
                                                       const std::string& name) {
  SDQ_ASSIGN_OR_RETURN(const std::string_view text, HeaderText(file, name));
  SDQ_ASSIGN_OR_RETURN(const json header, ParseJson(text, name + ": header", kHeaderLimits));
  const std::span<const uint8_t> data = file.subspan(8 + text.size());
  const HeaderReader reader(name, data.size());
  std::vector<Placed> tensors;
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__") {
      SDQ_RETURN_IF_ERROR(CheckFreeText(value, name));
      continue;
    }
    SDQ_ASSIGN_OR_RETURN(Placed placed, reader.ReadEntry(key, value));
    tensors.push_back(std::move(placed));
  }
  std::sort(tensors.begin(), tensors.end(), [](const Placed& a, const Placed& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  SDQ_RETURN_IF_ERROR(CheckTiling(tensors, data.size(), name));
  std::vector<SafetensorsEntry> entries;
  entries.reserve(tensors.size());
  for (Placed& tensor : tensors) {
    tensor.entry.bytes = data.subspan(size_t(tensor.begin), size_t(tensor.end - tensor.begin));
    entries.push_back(std::move(tensor.entry));
  }
  return entries;
}

bool IsReadableDtype(std::string_view dtype) {
  return dtype == "F32" || dtype == "F16" || dtype == "BF16";
}

Status ReadFloatRange(const SafetensorsEntry& entry, uint64_t first, std::span<float> out) {
  if (!IsReadableDtype(entry.dtype)) {
    return Status::Unsupported(fmt::format(
        "tensor '{}' is stored as {} (supported: F32, F16, BF16)", entry.name, entry.dtype));
  }
  if (first > entry.elements || out.size() > entry.elements - first) {
    return Status::OutOfRange(fmt::format("tensor '{}' has {} elements, asked for {} from {}",
                                          entry.name, entry.elements, out.size(), first));
  }
  const size_t width = size_t(DtypeBytes(entry.dtype));
  const uint8_t* bytes = entry.bytes.data() + first * width;
  if (entry.dtype == "F32") {
    Widen(bytes, 4, out, [](uint32_t bits) { return std::bit_cast<float>(bits); });
  } else if (entry.dtype == "F16") {
    Widen(bytes, 2, out, [](uint32_t bits) { return format::F16ToF32(uint16_t(bits)); });
  } else {
    Widen(bytes, 2, out, [](uint32_t bits) { return format::BF16ToF32(uint16_t(bits)); });
  }
  const auto bad = std::find_if(out.begin(), out.end(), [](float x) { return !std::isfinite(x); });
  if (bad == out.end()) return Status::Ok();
  return Status::Corrupt(fmt::format("tensor '{}': element {} is {}, weights must be finite",
                                     entry.name, first + uint64_t(bad - out.begin()), *bad));
}

Status ReadFloats(const SafetensorsEntry& entry, std::vector<float>* out) {
  try {
    out->resize(size_t(entry.elements));
  } catch (const std::bad_alloc&) {
    return Status::ResourceExhausted(
        fmt::format("no memory for tensor '{}' ({} elements)", entry.name, entry.elements));
  }
  return ReadFloatRange(entry, 0, *out);
}

}  // namespace sdq::converter
