// Errors without exceptions: a numeric code that never changes meaning, and a message for people.
//
// Libraries return Status or Result<T>; they never exit, abort or print because of input.
// A message names what was read (file, tensor, offset), what was expected and what was found.
#ifndef SDQ_FORMAT_STATUS_H_
#define SDQ_FORMAT_STATUS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace sdq {

// Pinned: values are part of the public interface (logs, scripts); append, never renumber.
enum class StatusCode : int32_t {
  kOk = 0,
  kInvalidArgument = 1,    // the caller asked for something that makes no sense
  kNotFound = 2,           // file, tensor or key is missing
  kIoError = 3,            // the operating system said no (errno text in the message)
  kCorrupt = 4,            // bytes violate the format: checksum, bounds, overlap, invalid value
  kUnsupported = 5,        // well formed, but this build does not know it (version, flag, type)
  kOutOfRange = 6,         // a number beyond a stated limit (context, threads, sizes)
  kResourceExhausted = 7,  // memory or disk
  kCancelled = 8,          // the user interrupted
};

// "corrupt", "io error", ...: for log lines and JSON.
const char* StatusCodeName(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return Status(); }
  static Status InvalidArgument(std::string m) {
    return {StatusCode::kInvalidArgument, std::move(m)};
  }
  static Status NotFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
  static Status IoError(std::string m) { return {StatusCode::kIoError, std::move(m)}; }
  static Status Corrupt(std::string m) { return {StatusCode::kCorrupt, std::move(m)}; }
  static Status Unsupported(std::string m) { return {StatusCode::kUnsupported, std::move(m)}; }
  static Status OutOfRange(std::string m) { return {StatusCode::kOutOfRange, std::move(m)}; }
  static Status ResourceExhausted(std::string m) {
    return {StatusCode::kResourceExhausted, std::move(m)};
  }
  static Status Cancelled(std::string m) { return {StatusCode::kCancelled, std::move(m)}; }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same error seen from further out: "context: message". Ok stays ok.
  Status Annotate(const std::string& context) && {
    if (!ok()) message_ = context + ": " + message_;
    return std::move(*this);
  }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// A value or the reason why there is none. Calling value() on an error is a programmer's mistake.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const& { return status_; }
  Status status() && { return std::move(status_); }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace sdq

// Returns the error to the caller; goes on if ok.
#define SDQ_RETURN_IF_ERROR(expr)                                               \
  do {                                                                          \
    if (::sdq::Status sdq_status = (expr); !sdq_status.ok()) return sdq_status; \
  } while (false)

#define SDQ_STATUS_CONCAT_INNER(a, b) a##b
#define SDQ_STATUS_CONCAT(a, b) SDQ_STATUS_CONCAT_INNER(a, b)

// SDQ_ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
#define SDQ_ASSIGN_OR_RETURN(lhs, expr) \
  SDQ_ASSIGN_OR_RETURN_IMPL(SDQ_STATUS_CONCAT(sdq_result_, __LINE__), lhs, expr)
#define SDQ_ASSIGN_OR_RETURN_IMPL(result, lhs, expr)   \
  auto result = (expr);                                \
  if (!result.ok()) return std::move(result).status(); \
  lhs = *std::move(result)

#endif  // SDQ_FORMAT_STATUS_H_
