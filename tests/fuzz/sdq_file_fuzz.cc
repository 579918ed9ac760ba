// Any bytes as an .sdq file: refused or parsed, never read out of bounds. Everything that a parsed
// file hands out is touched.
//
// Checksums would stop a fuzzer at the door: the input is also tried with its checksums made right.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <variant>
#include <vector>

#include "format/byte_codec.h"
#include "format/checksum.h"
#include "format/reader.h"

namespace {

using sdq::format::Checksum;
using sdq::format::LoadLe;
using sdq::format::StoreLe;

template <typename T>
uint64_t Touch(std::span<const T> values) {
  return Checksum({reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()});
}

uint64_t TouchView(const sdq::format::DenseView& view) {
  return Touch(view.data) + Touch(view.scales_f16) + Touch(view.bias);
}

uint64_t TouchView(const sdq::format::StreamView& view) {
  // The promise to kernels: 64 readable bytes behind the bitstream.
  const std::span<const uint8_t> with_slack(view.bits.data(),
                                            view.bits.size() + sdq::format::kReadSlack);
  const uint32_t blocks = sdq::format::BlockCount(view.decimator, view.columns);
  return Touch(with_slack) + Touch(view.scales_f16) + Touch(view.means_f16) + Touch(view.bias) +
         sdq::format::BlockSamples(view.decimator, view.columns, blocks - 1);
}

void ParseAndTouch(const std::vector<uint8_t>& bytes) {
  const auto file = sdq::format::SdqFile::Parse(bytes, "fuzz");
  if (!file.ok()) {
    if (file.status().message().empty()) std::abort();  // an error must say something
    return;
  }
  uint64_t ledger = 0;
  for (size_t i = 0; i < file->tensors().size(); ++i) {
    const auto& tensor = file->tensors()[i];
    (void)std::visit([](const auto& view) { return TouchView(view); }, tensor);
    const auto& name = std::visit([](const auto& view) { return view.name; }, tensor);
    if (file->Find(name) != &tensor) std::abort();
    ledger += file->BytesOf(i).total();
  }
  if (ledger > bytes.size()) std::abort();
  (void)file->VerifyAll();
}

// Makes the checksums of sections, section table and header right, as far as they can be found.
void Seal(std::vector<uint8_t>* bytes) {
  if (bytes->size() < sdq::format::kHeaderBytes) return;
  uint8_t* at = bytes->data();
  StoreLe<uint64_t>(bytes->size(), at + 16);
  const auto table = LoadLe<uint64_t>(at + 40);
  const auto count = LoadLe<uint32_t>(at + 48);
  if (table <= bytes->size() && count <= (bytes->size() - table) / 32) {
    for (uint32_t i = 0; i < count; ++i) {
      uint8_t* entry = at + table + 32 * i;
      const auto offset = LoadLe<uint64_t>(entry + 8);
      const auto size = LoadLe<uint64_t>(entry + 16);
      if (offset > bytes->size() || size > bytes->size() - offset) continue;
      StoreLe(Checksum({at + offset, size_t(size)}), entry + 24);
    }
    StoreLe(Checksum({at + table, size_t{32} * count}), at + 56);
  }
  StoreLe(Checksum({at, 120}), at + 120);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  ParseAndTouch(bytes);
  Seal(&bytes);
  ParseAndTouch(bytes);
  return 0;
}
