#include "tests/support/independent_reader.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <stdexcept>

namespace sdq::test {
namespace {

constexpr uint32_t kNone = 0xffffffff;
constexpr double kPi = 3.14159265358979323846;

[[noreturn]] void Fail(const std::string& why) { throw std::runtime_error(why); }

struct Bytes {
  const uint8_t* at = nullptr;
  uint64_t size = 0;

  Bytes Part(uint64_t offset, uint64_t length) const {
    if (offset > size || length > size - offset) Fail("out of bounds");
    return {at + offset, length};
  }
  uint64_t Unsigned(uint64_t offset, unsigned width) const {
    const Bytes part = Part(offset, width);
    uint64_t value = 0;
    for (unsigned i = width; i-- > 0;) value = value * 256 + part.at[i];
    return value;
  }
  uint16_t U16(uint64_t offset) const { return uint16_t(Unsigned(offset, 2)); }
  uint32_t U32(uint64_t offset) const { return uint32_t(Unsigned(offset, 4)); }
  uint64_t U64(uint64_t offset) const { return Unsigned(offset, 8); }
  float F32(uint64_t offset) const {
    const uint32_t bits = U32(offset);
    float value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  // binary16 from its definition: sign, 5 bits of exponent, 10 of fraction.
  double F16(uint64_t offset) const {
    const uint16_t bits = U16(offset);
    const int exponent = (bits >> 10) & 31;
    const double fraction = (bits & 1023) / 1024.0;
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1.0 + fraction, exponent - 15);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
  }
  double BF16(uint64_t offset) const {
    const uint32_t bits = uint32_t(U16(offset)) << 16;
    float value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    return double(value);
  }
  uint64_t Checksum() const { return XXH3_64bits(at, size); }
};

struct Section {
  uint32_t kind = 0;
  Bytes bytes;
};

struct Decimator {
  uint32_t kind = 0;
  uint64_t p = 1, q = 1, window = 0, lead = 0, block = 0, derived = 0;
  std::vector<double> taps;

  // Section 4, "Derived samples": r and the taps of one phase.
  uint64_t Reach() const {
    uint64_t r = 0;
    while (derived >> (r + 1) != 0) ++r;
    return r;
  }
  uint64_t PhaseTaps() const { return derived == 0 ? window : 2 * window - Reach(); }
  uint64_t Samples(uint64_t columns) const { return lead + columns * p / q; }
};

std::vector<Section> ReadSections(const Bytes& file) {
  static const uint8_t kMagicBytes[8] = {0x53, 0x44, 0x51, 0x0d, 0x0a, 0x1a, 0x0a, 0x00};
  if (file.size < 128 || std::memcmp(file.at, kMagicBytes, 8) != 0) Fail("no magic");
  if (file.U32(24) != 0x04030201) Fail("byte order");
  if (file.U16(8) != 1) Fail("major version");
  if (file.U32(12) != 128) Fail("header size");
  if (file.Part(0, 120).Checksum() != file.U64(120)) Fail("header checksum");
  if (file.U64(16) != file.size) Fail("file size");
  if (file.U32(36) != 0) Fail("required flags");
  const uint64_t alignment = file.U32(28);
  const uint64_t table_at = file.U64(40);
  const uint64_t count = file.U32(48);
  const Bytes table = file.Part(table_at, 32 * count);
  if (table_at + table.size != file.size) Fail("bytes behind the section table");
  if (table.Checksum() != file.U64(56)) Fail("section table checksum");
  std::vector<Section> sections;
  uint64_t end = 128;
  const auto skip_padding = [&](uint64_t to) {
    if (to != (end + alignment - 1) / alignment * alignment) Fail("hole or overlap");
    for (uint64_t i = end; i < to; ++i) {
      if (file.at[i] != 0) Fail("padding");
    }
  };
  for (uint64_t i = 0; i < count; ++i) {
    const Bytes entry = table.Part(32 * i, 32);
    const Section section{entry.U32(0), file.Part(entry.U64(8), entry.U64(16))};
    if (section.bytes.Checksum() != entry.U64(24)) Fail("section checksum");
    skip_padding(entry.U64(8));
    end = entry.U64(8) + entry.U64(16);
    sections.push_back(section);
  }
  skip_padding(table_at);
  return sections;
}

class Parser {
 public:
  explicit Parser(const Bytes& file) : sections_(ReadSections(file)) {}

  std::vector<std::string> MetadataKeys() const;
  std::vector<IndependentTensor> Tensors();

 private:
  Bytes Get(uint32_t index, uint32_t kind) const {
    if (index >= sections_.size() || sections_[index].kind != kind) Fail("wrong section");
    return sections_[index].bytes;
  }
  Bytes Only(uint32_t kind) const {
    for (const Section& section : sections_) {
      if (section.kind == kind) return section.bytes;
    }
    return {};
  }
  void ReadDecimators();
  void Dense(const Bytes& record, IndependentTensor* tensor) const;
  void Stream(const Bytes& record, IndependentTensor* tensor) const;

  std::vector<Section> sections_;
  std::vector<Decimator> decimators_;
};

// Bytes of one metadata value of `type` at `at`.
uint64_t ValueBytes(const Bytes& data, uint64_t at, uint32_t type) {
  switch (type) {
    case 1:
      return 1;
    case 2:
    case 3:
      return 8;
    case 4:
      return 8 + data.U64(at);
    case 5:
    case 6:
      return 8 + 8 * data.U64(at);
    case 7: {
      uint64_t size = 8;
      for (uint64_t i = data.U64(at); i > 0; --i) size += 4 + data.U32(at + size);
      return size;
    }
    case 8:
    case 9:
      return 8 + 4 * data.U64(at);
    default:
      Fail("metadata type");
  }
}

std::vector<std::string> Parser::MetadataKeys() const {
  const Bytes data = Only(1);
  std::vector<std::string> keys;
  uint64_t at = 4;
  for (uint32_t i = data.U32(0); i > 0; --i) {
    const Bytes key = data.Part(at + 4, data.U32(at));
    keys.emplace_back(reinterpret_cast<const char*>(key.at), key.size);
    at += 4 + key.size;
    at += 4 + ValueBytes(data, at + 4, data.U32(at));
  }
  if (at != data.size) Fail("metadata size");
  return keys;
}

void Parser::ReadDecimators() {
  const Bytes table = Only(3);
  for (uint64_t at = 0; at < table.size; at += 64) {
    const Bytes record = table.Part(at, 64);
    Decimator decimator;
    decimator.kind = record.U32(0);
    decimator.p = record.U32(4);
    decimator.q = record.U32(8);
    decimator.window = record.U32(12);
    decimator.lead = record.U32(16);
    decimator.block = record.U32(20);
    decimator.derived = record.U32(28);
    if (decimator.kind == 2) {
      const Bytes taps = Get(record.U32(24), 4);
      for (uint64_t i = 0; i < decimator.q * decimator.PhaseTaps(); ++i) {
        decimator.taps.push_back(double(taps.F32(4 * i)));
      }
    }
    decimators_.push_back(decimator);
  }
}

void Parser::Dense(const Bytes& record, IndependentTensor* tensor) const {
  const uint16_t type = record.U16(66);
  const Bytes data = Get(record.U32(76), 5);
  const uint64_t count = uint64_t(tensor->rows) * tensor->columns;
  for (uint64_t i = 0; i < count; ++i) {
    double value = 0;
    if (type == 1) value = double(data.F32(4 * i));
    if (type == 2) value = data.F16(2 * i);
    if (type == 3) value = data.BF16(2 * i);
    if (type == 4) {
      const double scale =
          double(record.F32(92)) * Get(record.U32(80), 7).F16(2 * (i / tensor->columns));
      value = scale * static_cast<int8_t>(data.Unsigned(i, 1));
    }
    if (type < 1 || type > 4) Fail("element type");
    tensor->values.push_back(float(value));
  }
}

// A dense matrix; the maps of a block are made once and serve all rows.
struct Matrix {
  uint64_t rows = 0;
  uint64_t columns = 0;
  std::vector<double> elements = std::vector<double>(rows * columns);

  double& At(uint64_t i, uint64_t j) { return elements[i * columns + j]; }
  void Times(const double* x, double* y) const {
    for (uint64_t i = 0; i < rows; ++i) {
      y[i] = 0;
      for (uint64_t j = 0; j < columns; ++j) y[i] += elements[i * columns + j] * x[j];
    }
  }
};

double LowPass(uint64_t columns, uint64_t samples, uint64_t i, uint64_t j) {
  if (samples == columns) return i == j ? 1.0 : 0.0;
  const auto len = double(columns);
  const auto m = double(samples);
  double d = 1;
  for (uint64_t k = 1; k <= (columns - 1) / 2; ++k) {
    d += 2 * std::cos(2 * kPi * double(k) * (double(i) / len - double(j) / m));
  }
  if (columns % 2 == 0) d += 2 * std::cos(kPi * double(i)) * std::cos(kPi * len * double(j) / m);
  return d / m;
}

// D for a block of `columns` columns.
Matrix DecimatorOf(const Decimator& decimator, uint64_t columns) {
  Matrix d{columns, decimator.Samples(columns) * (decimator.derived != 0 ? 2 : 1)};
  for (uint64_t i = 0; i < columns; ++i) {
    if (decimator.kind == 1) {
      d.At(i, i) = 1;
    } else if (decimator.kind == 2) {
      const uint64_t e = decimator.lead + (i + 1) * decimator.p / decimator.q;
      for (uint64_t k = 0; k < decimator.window && k < e; ++k) {
        d.At(i, e - 1 - k) = decimator.taps[i % decimator.q * decimator.PhaseTaps() + k];
      }
      for (uint64_t k = 0; decimator.derived != 0 && k + decimator.Reach() < decimator.window;
           ++k) {
        if (k + decimator.Reach() >= e) break;
        d.At(i, decimator.Samples(columns) + e - 1 - k) =
            decimator.taps[i % decimator.q * decimator.PhaseTaps() + decimator.window + k];
      }
    } else if (decimator.kind == 3) {
      for (uint64_t j = 0; j < d.columns; ++j) d.At(i, j) = LowPass(columns, d.columns, i, j);
    } else {
      Fail("decimator kind");
    }
  }
  return d;
}

double Sign(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z = z ^ (z >> 31);
  return (z >> 63) != 0 ? -1.0 : 1.0;
}

// K for a block of `length` columns.
Matrix RotationOf(uint64_t length) {
  Matrix matrix{length, length};
  uint64_t power = 1;
  while (length % (2 * power) == 0) power *= 2;
  const auto odd = double(length / power);
  for (uint64_t t = 0; t < length; ++t) {
    for (uint64_t u = 0; u < length; ++u) {
      const double angle = 2 * kPi * double((t / power) * (u / power)) / odd;
      const double hartley = (std::cos(angle) + std::sin(angle)) / std::sqrt(odd);
      double hadamard = 1 / std::sqrt(double(power));
      for (uint64_t both = (t % power) & (u % power); both != 0; both &= both - 1) {
        hadamard = -hadamard;
      }
      matrix.At(t, u) = hartley * hadamard;
    }
  }
  return matrix;
}

// The matrix for blocks of `length`, made at first use.
template <typename Make>
const Matrix& Cached(std::map<uint64_t, Matrix>* cache, uint64_t length, const Make& make) {
  auto found = cache->find(length);
  if (found == cache->end()) found = cache->emplace(length, make(length)).first;
  return found->second;
}

// Sample `j` of a block that starts at byte `first` of its row.
double Sample(const Bytes& bits, uint8_t alphabet, uint64_t row_bytes, uint64_t row, uint64_t first,
              uint64_t j) {
  const uint64_t planes = alphabet == 2 ? 2 : 1;
  const auto byte = [&](uint64_t plane, uint64_t k) {
    return bits.Unsigned((row / 16 * planes + plane) * 16 * row_bytes + k * 16 + row % 16, 1);
  };
  if (alphabet == 1) return ((byte(0, first + j / 8) >> (j % 8)) & 1) != 0 ? 1.0 : -1.0;
  if (alphabet == 2) {
    return double((byte(0, first + j / 8) >> (j % 8)) & 1) -
           double((byte(1, first + j / 8) >> (j % 8)) & 1);
  }
  if (alphabet != 4) Fail("alphabet");
  const uint64_t value = byte(0, first + j / 5);
  uint64_t low = value % 28, high = value / 28;
  if (low > 26 || high > 8) Fail("trits");
  const uint64_t digits[5] = {low % 3, low / 3 % 3, low / 9, high % 3, high / 3};
  return double(digits[j % 5]) - 1.0;
}

void Parser::Stream(const Bytes& record, IndependentTensor* tensor) const {
  if (record.U32(108) >= decimators_.size()) Fail("decimator number");
  const Decimator& decimator = decimators_[record.U32(108)];
  const auto alphabet = uint8_t(record.Unsigned(100, 1));
  const bool per_block = record.Unsigned(101, 1) == 2;
  const Bytes bits = Get(record.U32(76), 6);
  const Bytes scales = Get(record.U32(80), 7);
  const bool has_means = record.U32(84) != kNone;
  const Bytes means = has_means ? Get(record.U32(84), 8) : Bytes();

  const uint64_t n = tensor->columns;
  const uint64_t block = decimator.block == 0 ? n : decimator.block;
  const uint64_t blocks = (n + block - 1) / block;
  const uint64_t per_byte = alphabet == 4 ? 5 : 8;
  uint64_t row_bytes = 0;
  uint64_t row_samples = 0;
  for (uint64_t b = 0; b < blocks; ++b) {
    const uint64_t samples = decimator.Samples(std::min(block, n - b * block));
    row_samples += samples;
    row_bytes += (samples + per_byte - 1) / per_byte;
  }
  if (row_samples != record.U64(120)) Fail("samples per row");

  const uint64_t rotation = record.Unsigned(102, 1);
  if (rotation != 1 && rotation != 2) Fail("rotation");
  const uint64_t rotation_block = rotation == 2 ? record.U32(104) : n;
  std::map<uint64_t, Matrix> decimators;
  std::map<uint64_t, Matrix> rotations;
  std::vector<double> v(n);
  std::vector<double> w(n);
  for (uint64_t r = 0; r < tensor->rows; ++r) {
    uint64_t first = 0;
    for (uint64_t b = 0; b < blocks; ++b) {
      const uint64_t at = 2 * (per_block ? r * blocks + b : r);
      const double scale = double(record.F32(92)) * scales.F16(at);
      const double mean = has_means ? double(record.F32(96)) * means.F16(at) : 0.0;
      const Matrix& d = Cached(&decimators, std::min(block, n - b * block),
                               [&](uint64_t length) { return DecimatorOf(decimator, length); });
      std::vector<double> q(d.columns);
      const uint64_t samples = decimator.Samples(std::min(block, n - b * block));
      for (uint64_t j = 0; j < q.size(); ++j) {
        double sample = 1;
        if (j < samples) {
          sample = Sample(bits, alphabet, row_bytes, r, first, j);
        } else if (j - samples >= decimator.Reach()) {
          for (uint64_t a = 0; a <= decimator.Reach(); ++a) {
            if ((decimator.derived >> a & 1) == 0) continue;
            sample *= Sample(bits, alphabet, row_bytes, r, first, j - samples - a);
          }
        }
        q[j] = scale * sample + mean;
      }
      first += (samples + per_byte - 1) / per_byte;
      d.Times(q.data(), v.data() + b * block);
    }
    w = v;
    for (uint64_t begin = 0; rotation == 2 && begin < n; begin += rotation_block) {
      const Matrix& k = Cached(&rotations, std::min(rotation_block, n - begin), RotationOf);
      k.Times(v.data() + begin, w.data() + begin);
      for (uint64_t i = begin; i < begin + k.rows; ++i) w[i] *= Sign(record.U64(112), i);
    }
    for (const double value : w) tensor->values.push_back(float(value));
  }
}

std::vector<IndependentTensor> Parser::Tensors() {
  ReadDecimators();
  const Bytes table = Only(2);
  std::vector<IndependentTensor> tensors;
  for (uint64_t at = 0; at < table.size; at += 160) {
    const Bytes record = table.Part(at, 160);
    IndependentTensor tensor;
    tensor.name = reinterpret_cast<const char*>(record.at);
    tensor.is_stream = record.U16(64) == 2;
    tensor.rows = record.U32(68);
    tensor.columns = record.U32(72);
    if (tensor.is_stream) {
      Stream(record, &tensor);
    } else {
      Dense(record, &tensor);
    }
    if (record.U32(88) != kNone) {
      const Bytes bias = Get(record.U32(88), 9);
      for (uint64_t r = 0; r < tensor.rows; ++r) tensor.bias.push_back(bias.F32(4 * r));
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace

const IndependentTensor* IndependentFile::Find(const std::string& name) const {
  for (const IndependentTensor& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

std::string ReadIndependently(const std::vector<uint8_t>& bytes, IndependentFile* file) {
  try {
    Parser parser(Bytes{bytes.data(), bytes.size()});
    file->metadata_keys = parser.MetadataKeys();
    file->tensors = parser.Tensors();
    return "";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

}  // namespace sdq::test
