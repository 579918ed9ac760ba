// Any bytes as the journal of a conversion, and as what stands in its records: nothing that reaches
// beyond them, and what decodes is legal and encodes to the same bytes.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "converter/finished_work.h"
#include "converter/journal_records.h"

namespace {

using namespace sdq::converter;

void Layers(std::span<const uint8_t> bytes) {
  const auto linears = DecodeFinished(bytes);
  if (!linears.ok()) return;
  std::vector<FinishedLinearView> views;
  for (const FinishedLinear& linear : *linears) {
    sdq::format::StreamView view = linear.encoded.View(linear.name);
    view.bias = linear.bias;
    if (!sdq::format::ValidateView(view).ok()) __builtin_trap();
    views.push_back({&linear.name, &linear.encoded, &linear.bias});
  }
  const std::vector<uint8_t> again = EncodeFinished(views);
  if (!std::equal(again.begin(), again.end(), bytes.begin(), bytes.end())) __builtin_trap();
}

void AllDecoders(std::span<const uint8_t> bytes) {
  Layers(bytes);
  const auto tokens = DecodeTokens(bytes);
  if (tokens.ok() && tokens->size() > bytes.size()) __builtin_trap();
  const auto sensitivities = DecodeSensitivities(bytes);
  if (sensitivities.ok() && sensitivities->size() > bytes.size()) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> file(data, size);
  const JournalScan scan = ScanJournal(file);
  if (scan.end > size) __builtin_trap();
  for (const JournalRecord& record : scan.records) {
    if (record.offset > scan.end || record.bytes > scan.end - record.offset) __builtin_trap();
    AllDecoders(file.subspan(size_t(record.offset), size_t(record.bytes)));
  }
  // Records without their checksums.
  AllDecoders(file);
  return 0;
}
