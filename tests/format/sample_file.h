// Small .sdq files for the tests of this folder, and a tool to damage them on purpose.
#ifndef SDQ_TESTS_FORMAT_SAMPLE_FILE_H_
#define SDQ_TESTS_FORMAT_SAMPLE_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "format/byte_codec.h"
#include "format/metadata.h"
#include "format/reader.h"
#include "format/tensor.h"

namespace sdq::test {

// A view and the memory behind it.
struct OwnedDense {
  format::DenseView view;
  std::vector<uint8_t> data;
  std::vector<uint16_t> scales;
  std::vector<float> bias;
  const format::DenseView& Finish();  // points the view at the memory
};

struct OwnedStream {
  format::StreamView view;
  std::vector<uint8_t> bits;
  std::vector<uint16_t> scales;
  std::vector<uint16_t> means;
  std::vector<float> bias;
  const format::StreamView& Finish();
};

// Tensors of every kind, with contents from a fixed pseudo-random sequence.
OwnedDense SampleDense(const std::string& name, format::DenseType type, uint32_t rows,
                       uint32_t columns, bool bias);
// Fills bits (as many as the description implies), scales, means and bias of `view`.
OwnedStream SampleStream(format::StreamView view, bool means, bool bias);
format::DecimatorSpec PolyphaseSample();  // 3/2, 4 taps, lead 2
format::DecimatorSpec LowPassSample();    // 7/4, blocks of 16
std::vector<OwnedDense> AllDense();
std::vector<OwnedStream> AllStreams();
format::Metadata SampleMetadata();

// The bytes of a file with AllDense(), AllStreams() and SampleMetadata(); made once.
const std::vector<uint8_t>& SampleBytes();
// The bytes of a file with one stream, resp. with nothing but metadata.
std::vector<uint8_t> BytesWith(const format::StreamView& view);
std::vector<uint8_t> EmptyFileBytes();

// A file's bytes, to be damaged. Offsets are those of FORMAT.md. After the damage, Seal() makes all
// checksums right again, so that what is refused is the damage and not a checksum.
class Damage {
 public:
  Damage() : bytes_(SampleBytes()) {}
  explicit Damage(std::vector<uint8_t> bytes) : bytes_(std::move(bytes)) {}

  template <typename T>
  Damage& Put(size_t at, T value) {
    format::StoreLe(value, bytes_.data() + at);
    return *this;
  }
  template <typename T>
  T Get(size_t at) const {
    return format::LoadLe<T>(bytes_.data() + at);
  }
  // Where things stand.
  size_t SectionEntry(size_t index) const { return Get<uint64_t>(40) + 32 * index; }
  size_t SectionOffset(size_t index) const { return Get<uint64_t>(SectionEntry(index) + 8); }
  size_t SectionOfKind(uint32_t kind) const;  // index of the first
  size_t TensorRecord(const std::string& name) const;
  size_t DecimatorRecord(size_t index) const {
    return SectionOffset(SectionOfKind(3)) + 64 * index;
  }
  // Offset of the section that a field (76 data, 80 scales, 84 means, 88 bias) of a tensor names.
  size_t Data(const std::string& name, size_t field) const {
    return SectionOffset(Get<uint32_t>(TensorRecord(name) + field));
  }

  Damage& Seal();        // sections, section table, header
  Damage& SealHeader();  // header only

  const std::vector<uint8_t>& bytes() const { return bytes_; }
  std::vector<uint8_t>& bytes() { return bytes_; }
  Status Parse() const;   // of Parse alone
  Status Verify() const;  // of Parse, then VerifyAll
  // "corrupt: message" of Parse.
  std::string Refusal() const;

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace sdq::test

#endif  // SDQ_TESTS_FORMAT_SAMPLE_FILE_H_
