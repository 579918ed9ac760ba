// The bytes of a conversion's journal (journal.h): records with a key, each with its checksums.
//
//   8 bytes   "SDQpart1"
//   records:  u32 kRecordTag, u32 bytes of the key, u64 bytes of the payload, u64 checksum of the
//             payload, u64 checksum of those 24 bytes and the key; the key; the payload
//
// Little endian, checksums as in format/checksum.h. Whatever breaks off in the middle of a record,
// or was changed, ends the journal before it: what comes earlier counts.
#ifndef SDQ_CONVERTER_JOURNAL_RECORDS_H_
#define SDQ_CONVERTER_JOURNAL_RECORDS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sdq::converter {

inline constexpr size_t kMaxJournalKey = 255;

struct JournalRecord {
  std::string key;      // 1 to kMaxJournalKey bytes, each key once
  uint64_t offset = 0;  // of the payload in the file
  uint64_t bytes = 0;   // of the payload
};

struct JournalScan {
  bool is_journal = false;  // begins as one; true of an empty file too
  std::vector<JournalRecord> records;
  uint64_t end = 0;  // of the last whole record; 0 if not even the file's own head is there
};

// Any bytes. What comes back lies within them.
JournalScan ScanJournal(std::span<const uint8_t> file);

// What stands before the first record, and before a payload.
std::span<const uint8_t> JournalHead();
std::vector<uint8_t> JournalRecordHead(const std::string& key, std::span<const uint8_t> payload);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_JOURNAL_RECORDS_H_
