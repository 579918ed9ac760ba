#include "format/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "format/layout.h"

namespace sdq::format {
namespace {

constexpr size_t kReadAtOnce = size_t{1} << 30;  // read() takes less than 2 GiB per call
// Of x86-64, and of 64-bit Arm with pages of 4 KiB.
constexpr size_t kHugePage = size_t{2} << 20;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Status OpenError(const std::string& path, const char* what) {
  const int error = errno;
  std::string message = fmt::format("{}: cannot {}: {}", path, what, std::strerror(error));
  if (error == ENOENT || error == ENOTDIR) return Status::NotFound(std::move(message));
  if (error == ENOMEM) return Status::ResourceExhausted(std::move(message));
  return Status::IoError(std::move(message));
}

Result<size_t> RegularFileSize(const std::string& path, int fd) {
  struct stat info = {};
  if (::fstat(fd, &info) != 0) return OpenError(path, "inspect");
  if (S_ISDIR(info.st_mode)) {
    return Status::InvalidArgument(fmt::format("{}: is a directory, a file is expected", path));
  }
  if (!S_ISREG(info.st_mode)) {
    return Status::InvalidArgument(
        fmt::format("{}: is a device, pipe or socket, a regular file is expected", path));
  }
  if (info.st_size == 0) return Status::Corrupt(fmt::format("{}: the file is empty", path));
  return static_cast<size_t>(info.st_size);
}

Status ReadAll(const std::string& path, int fd, uint8_t* data, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t count = ::read(fd, data + done, std::min(size - done, kReadAtOnce));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return OpenError(path, "read");
    if (count == 0) {
      return Status::IoError(
          fmt::format("{}: ends at byte {} of {}: cut short while being read", path, done, size));
    }
    done += static_cast<size_t>(count);
  }
  return Status::Ok();
}

void* MapAnonymous(void* at, size_t bytes, int flags) {
  return ::mmap(at, bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

// Address space of `bytes`, whole pages, that begins where a huge page may: the page cache keeps
// files in huge pages where it can, and they can be mapped as such only if address and offset
// agree.
void* ReserveAligned(size_t bytes) {
  void* memory = MapAnonymous(nullptr, bytes + kHugePage, 0);
  if (memory == MAP_FAILED) return memory;
  auto* const first = static_cast<uint8_t*>(memory);
  const size_t lead = -reinterpret_cast<uintptr_t>(first) % kHugePage;
  if (lead != 0) (void)::munmap(first, lead);
  (void)::munmap(first + lead + bytes, kHugePage - lead);
  return first + lead;
}

}  // namespace

// An anonymous mapping of the file's size and the slack is reserved first. The file is then mapped
// over its beginning, so that the slack is readable also where the file fills its last page; or
// read into it.
Result<MappedFile> MappedFile::Open(const std::string& path, Mode mode) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return OpenError(path, "open");
  SDQ_ASSIGN_OR_RETURN(const size_t size, RegularFileSize(path, file.get()));

  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  MappedFile mapped;
  mapped.size_ = size;
  mapped.reserved_ = static_cast<size_t>(AlignUp(size + kReadSlack, page));
  void* memory = ReserveAligned(mapped.reserved_);
  if (memory == MAP_FAILED) return OpenError(path, "reserve memory");
  mapped.data_ = static_cast<uint8_t*>(memory);

  if (mode != Mode::kRead) {
    void* view = ::mmap(memory, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, file.get(), 0);
    mapped.mapped_ = view != MAP_FAILED;
    if (!mapped.mapped_ && mode == Mode::kMmap) return OpenError(path, "map");
    // A failed attempt may have torn a hole into the reservation.
    if (!mapped.mapped_ && MapAnonymous(memory, mapped.reserved_, MAP_FIXED) == MAP_FAILED) {
      return OpenError(path, "reserve memory");
    }
  }
  // Advice may be refused (no huge pages for files on this kernel): nothing is lost then.
  (void)::madvise(memory, size, MADV_HUGEPAGE);
  if (mapped.mapped_) {
    (void)::madvise(memory, size, MADV_WILLNEED);
  } else {
    SDQ_RETURN_IF_ERROR(ReadAll(path, file.get(), mapped.data_, size));
    (void)::mprotect(memory, mapped.reserved_, PROT_READ);
  }
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      reserved_(std::exchange(other.reserved_, 0)),
      mapped_(std::exchange(other.mapped_, false)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    Release();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    reserved_ = std::exchange(other.reserved_, 0);
    mapped_ = std::exchange(other.mapped_, false);
  }
  return *this;
}

MappedFile::~MappedFile() { Release(); }

void MappedFile::Forget(std::span<const uint8_t> part) const {
  if (!mapped_ || part.empty()) return;
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const auto start = static_cast<uint64_t>(part.data() - data_);
  const uint64_t first = AlignUp(start, page);
  const uint64_t last = (start + part.size()) / page * page;
  if (first < last) (void)::madvise(data_ + first, last - first, MADV_DONTNEED);
}

void MappedFile::Release() {
  if (data_ != nullptr) ::munmap(data_, reserved_);
  data_ = nullptr;
}

}  // namespace sdq::format
