#include "converter/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "format/atomic_file.h"
#include "format/byte_codec.h"
#include "format/mapped_file.h"

namespace sdq::converter {
namespace {

constexpr size_t kTransferAtOnce = size_t{1} << 30;  // pread() and pwrite() move less than 2 GiB
constexpr char kSettingsKey[] = "settings";
constexpr std::string_view kLayerPrefix = "layer ";

Status SystemError(const std::string& path, const char* what) {
  const int error = errno;
  std::string message = fmt::format("{}: cannot {}: {}", path, what, std::strerror(error));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return Status::ResourceExhausted(std::move(message));
  }
  return Status::IoError(std::move(message));
}

std::vector<uint8_t> EncodeSettings(std::span<const JournalSetting> settings) {
  format::ByteSink sink;
  for (const JournalSetting& setting : settings) {
    for (const std::string* text : {&setting.name, &setting.value}) {
      sink.Append(uint64_t(text->size()));
      sink.AppendText(*text);
    }
  }
  return std::move(sink).Take();
}

bool DecodeSettings(std::span<const uint8_t> bytes, std::vector<JournalSetting>* settings) {
  format::ByteCursor cursor(bytes);
  while (cursor.remaining() > 0) {
    std::string_view name, value;
    for (std::string_view* text : {&name, &value}) {
      uint64_t size = 0;
      if (!cursor.Read(&size) || !cursor.ReadText(size, text)) return false;
    }
    settings->push_back({std::string(name), std::string(value)});
  }
  return true;
}

std::string ValueOf(std::span<const JournalSetting> settings, const std::string& name) {
  for (const JournalSetting& setting : settings) {
    if (setting.name == name) return setting.value;
  }
  return "";
}

std::string Quoted(const std::string& value) {
  return value.empty() ? "not given" : fmt::format("'{}'", value);
}

}  // namespace

std::string Journal::PathFor(const std::string& output) { return output + ".partial"; }

std::string Journal::LayerKey(int64_t layer) { return fmt::format("{}{}", kLayerPrefix, layer); }

Journal::~Journal() {
  if (fd_ >= 0) ::close(fd_);
}

Result<std::unique_ptr<Journal>> Journal::Open(const std::string& output,
                                               std::span<const JournalSetting> settings,
                                               bool resume) {
  SDQ_RETURN_IF_ERROR(format::AtomicFile::Create(output).status());
  std::unique_ptr<Journal> journal(new Journal());
  journal->path_ = PathFor(output);
  SDQ_RETURN_IF_ERROR(journal->OpenFile());
  SDQ_RETURN_IF_ERROR(journal->Load());
  if (resume && journal->Has(kSettingsKey)) {
    SDQ_RETURN_IF_ERROR(journal->CheckSettings(settings));
    // What was cut off is written over.
    if (::ftruncate(journal->fd_, off_t(journal->end_)) != 0) {
      return SystemError(journal->path_, "cut");
    }
    return journal;
  }
  if (const size_t layers = journal->finished_layers(); layers > 0) {
    return Status::InvalidArgument(fmt::format(
        "{} keeps {} finished layer{} of an interrupted conversion: --resume goes on from there; "
        "to start afresh, delete it",
        journal->path_, layers, layers == 1 ? "" : "s"));
  }
  SDQ_RETURN_IF_ERROR(journal->Begin(settings));
  return journal;
}

Status Journal::OpenFile() {
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  if (fd_ < 0) return SystemError(path_, "open");
  struct stat info = {};
  if (::fstat(fd_, &info) != 0) return SystemError(path_, "inspect");
  if (!S_ISREG(info.st_mode)) {
    return Status::InvalidArgument(fmt::format("{}: is not a regular file", path_));
  }
  // Where a file system cannot lock, two conversions to one output are the user's to avoid.
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return Status::InvalidArgument(
        fmt::format("{} is in use: another conversion is writing the same output", path_));
  }
  return Status::Ok();
}

// Finds the records. Their payloads are read once, for their checksums, and not kept.
Status Journal::Load() {
  struct stat info = {};
  if (::fstat(fd_, &info) != 0) return SystemError(path_, "inspect");
  if (info.st_size == 0) return Status::Ok();
  SDQ_ASSIGN_OR_RETURN(const auto file, format::MappedFile::Open(path_));
  JournalScan scan = ScanJournal(file.bytes());
  if (!scan.is_journal) {
    return Status::InvalidArgument(fmt::format(
        "{} is in the way: the name is needed for what an interrupted conversion has finished, "
        "but the file is something else",
        path_));
  }
  end_ = scan.end;
  records_ = std::move(scan.records);
  if (!records_.empty() && records_[0].key != kSettingsKey) records_.clear();
  return Status::Ok();
}

Status Journal::CheckSettings(std::span<const JournalSetting> settings) const {
  SDQ_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, Read(kSettingsKey));
  std::vector<JournalSetting> kept;
  if (!DecodeSettings(bytes, &kept)) {
    return Status::Corrupt(fmt::format("{}: its settings are damaged; delete it", path_));
  }
  std::vector<JournalSetting> all(settings.begin(), settings.end());
  all.insert(all.end(), kept.begin(), kept.end());
  for (const auto& [name, unused] : all) {
    const std::string before = ValueOf(kept, name), now = ValueOf(settings, name);
    if (before == now) continue;
    return Status::InvalidArgument(
        fmt::format("{} is from a conversion with other settings: {} was {}, now it is {}; "
                    "repeat it as it was, or delete the file to start afresh",
                    path_, name, Quoted(before), Quoted(now)));
  }
  return Status::Ok();
}

Status Journal::Begin(std::span<const JournalSetting> settings) {
  records_.clear();
  end_ = JournalHead().size();
  if (::ftruncate(fd_, 0) != 0) return SystemError(path_, "cut");
  SDQ_RETURN_IF_ERROR(WriteAt(0, JournalHead()));
  return Append(kSettingsKey, EncodeSettings(settings));
}

const JournalRecord* Journal::Find(const std::string& key) const {
  const auto found = std::find_if(records_.begin(), records_.end(),
                                  [&](const JournalRecord& record) { return record.key == key; });
  return found != records_.end() ? &*found : nullptr;
}

size_t Journal::finished_layers() const {
  return size_t(std::count_if(records_.begin(), records_.end(), [](const JournalRecord& record) {
    return record.key.starts_with(kLayerPrefix);
  }));
}

Result<std::vector<uint8_t>> Journal::Read(const std::string& key) const {
  const JournalRecord* record = Find(key);
  if (record == nullptr) return Status::NotFound(fmt::format("{}: no record '{}'", path_, key));
  std::vector<uint8_t> bytes(size_t(record->bytes));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        ::pread(fd_, bytes.data() + done, std::min(bytes.size() - done, kTransferAtOnce),
                off_t(record->offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(path_, "read");
    if (count == 0) return Status::Corrupt(fmt::format("{}: was cut short while in use", path_));
    done += size_t(count);
  }
  return bytes;
}

Status Journal::WriteAt(uint64_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t count =
        ::pwrite(fd_, bytes.data(), std::min(bytes.size(), kTransferAtOnce), off_t(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(path_, "write");
    bytes = bytes.subspan(size_t(count));
    offset += uint64_t(count);
  }
  return Status::Ok();
}

Status Journal::Append(const std::string& key, std::span<const uint8_t> payload) {
  if (key.empty() || key.size() > kMaxJournalKey || Has(key)) {
    return Status::InvalidArgument(fmt::format("{}: a second record '{}'", path_, key));
  }
  const std::vector<uint8_t> head = JournalRecordHead(key, payload);
  SDQ_RETURN_IF_ERROR(WriteAt(end_, head));
  SDQ_RETURN_IF_ERROR(WriteAt(end_ + head.size(), payload));
  if (::fsync(fd_) != 0) return SystemError(path_, "write to disk");
  records_.push_back({key, end_ + head.size(), payload.size()});
  end_ += head.size() + payload.size();
  return Status::Ok();
}

void Journal::Remove() {
  // Unlinked before the lock goes with the descriptor. A file that stays behind is harmless.
  (void)::unlink(path_.c_str());
  ::close(fd_);
  fd_ = -1;
}

}  // namespace sdq::converter
