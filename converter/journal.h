// What an interrupted conversion has finished, kept in a file beside its output until that is
// whole.
//
// Every piece of work is one record, on disk before the next begins (journal_records.h), so that a
// process may end at any moment: a record that is not whole is as good as none. The first record
// holds the settings that the pieces depend on; a conversion with others cannot go on from it.
#ifndef SDQ_CONVERTER_JOURNAL_H_
#define SDQ_CONVERTER_JOURNAL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "converter/journal_records.h"
#include "format/status.h"

namespace sdq::converter {

// As messages name it ("--osr"), and what it is. An empty value says that it was not given.
struct JournalSetting {
  std::string name;
  std::string value;
  bool operator==(const JournalSetting&) const = default;
};

class Journal {
 public:
  static std::string PathFor(const std::string& output);  // "<output>.partial"

  // resume: what is there is kept; kInvalidArgument, naming the first setting that differs, if it
  // was made with others. Otherwise begins anew, but refuses to discard finished layers
  // (kInvalidArgument). Where there is no journal, both begin one. Also checks that `output` can be
  // written at all; refuses a journal that another process has open, and a file that is none.
  static Result<std::unique_ptr<Journal>> Open(const std::string& output,
                                               std::span<const JournalSetting> settings,
                                               bool resume);
  // Leaves the file for the next time.
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  bool Has(const std::string& key) const { return Find(key) != nullptr; }
  // kNotFound if there is no such record.
  Result<std::vector<uint8_t>> Read(const std::string& key) const;
  // On disk when it returns. A key is used once (kInvalidArgument).
  Status Append(const std::string& key, std::span<const uint8_t> payload);

  static std::string LayerKey(int64_t layer);
  size_t finished_layers() const;
  bool empty() const { return records_.size() <= 1; }  // nothing but the settings
  const std::string& path() const { return path_; }

  // Deletes the file: the output is whole, or there is nothing worth keeping. No call may follow.
  void Remove();

 private:
  Journal() = default;
  const JournalRecord* Find(const std::string& key) const;
  Status OpenFile();
  Status Load();
  Status CheckSettings(std::span<const JournalSetting> settings) const;
  Status Begin(std::span<const JournalSetting> settings);
  Status WriteAt(uint64_t offset, std::span<const uint8_t> bytes);

  std::string path_;
  int fd_ = -1;
  uint64_t end_ = 0;  // of the last whole record
  std::vector<JournalRecord> records_;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_JOURNAL_H_
