#include "converter/journal_records.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "format/byte_codec.h"
#include "format/checksum.h"

namespace sdq::converter {
namespace {

constexpr std::array<uint8_t, 8> kHead = {'S', 'D', 'Q', 'p', 'a', 'r', 't', '1'};
constexpr uint32_t kRecordTag = 0x4a514453;  // "SDQJ"
constexpr size_t kCheckedHeadBytes = 24;     // of a record, before their own checksum
constexpr size_t kRecordHeadBytes = kCheckedHeadBytes + 8;

uint64_t HeadChecksum(std::span<const uint8_t> checked_head, std::string_view key) {
  format::ByteSink sink;
  sink.AppendBytes(checked_head);
  sink.AppendText(key);
  return format::Checksum(sink.bytes());
}

// The record that begins at `offset`; false if it is not whole.
bool ReadRecord(std::span<const uint8_t> file, uint64_t offset, JournalRecord* record) {
  const std::span<const uint8_t> rest = file.subspan(size_t(offset));
  format::ByteCursor cursor(rest);
  uint32_t tag = 0, key_bytes = 0;
  uint64_t payload_bytes = 0, payload_checksum = 0, head_checksum = 0;
  std::string_view key;
  if (!cursor.Read(&tag) || !cursor.Read(&key_bytes) || !cursor.Read(&payload_bytes) ||
      !cursor.Read(&payload_checksum) || !cursor.Read(&head_checksum)) {
    return false;
  }
  if (tag != kRecordTag || key_bytes == 0 || key_bytes > kMaxJournalKey) return false;
  if (!cursor.ReadText(key_bytes, &key)) return false;
  if (HeadChecksum(rest.first(kCheckedHeadBytes), key) != head_checksum) return false;
  if (payload_bytes > cursor.remaining()) return false;
  const auto payload = rest.subspan(cursor.offset(), size_t(payload_bytes));
  if (format::Checksum(payload) != payload_checksum) return false;
  *record = {std::string(key), offset + cursor.offset(), payload_bytes};
  return true;
}

}  // namespace

std::span<const uint8_t> JournalHead() { return kHead; }

std::vector<uint8_t> JournalRecordHead(const std::string& key, std::span<const uint8_t> payload) {
  format::ByteSink sink;
  sink.Append(kRecordTag);
  sink.Append(uint32_t(key.size()));
  sink.Append(uint64_t(payload.size()));
  sink.Append(format::Checksum(payload));
  sink.Append(HeadChecksum(sink.bytes(), key));
  sink.AppendText(key);
  return std::move(sink).Take();
}

JournalScan ScanJournal(std::span<const uint8_t> file) {
  JournalScan scan;
  const size_t common = std::min(file.size(), kHead.size());
  scan.is_journal = std::equal(file.begin(), file.begin() + std::ptrdiff_t(common), kHead.begin());
  if (!scan.is_journal || common < kHead.size()) return scan;
  scan.end = kHead.size();
  JournalRecord record;
  while (file.size() - scan.end > kRecordHeadBytes && ReadRecord(file, scan.end, &record)) {
    const auto same_key = [&](const JournalRecord& r) { return r.key == record.key; };
    if (std::any_of(scan.records.begin(), scan.records.end(), same_key)) break;
    scan.end = record.offset + record.bytes;
    scan.records.push_back(std::move(record));
  }
  return scan;
}

}  // namespace sdq::converter
