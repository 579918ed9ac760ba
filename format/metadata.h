// Typed key-value metadata of an .sdq file: an ordered list of unique UTF-8 keys.
//
// A Metadata owns its values, also when it was decoded from a file. Keys are 1 to 255 bytes of
// UTF-8 without NUL; strings are arbitrary bytes (token surfaces need not be UTF-8).
// Encoding: FORMAT.md, "Metadata".
#ifndef SDQ_FORMAT_METADATA_H_
#define SDQ_FORMAT_METADATA_H_

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "format/status.h"

namespace sdq::format {

class Metadata {
 public:
  // Alternatives in the order of their type codes 1..9.
  using Value = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>,
                             std::vector<double>, std::vector<std::string>,
                             std::vector<float>,      // compact: 4 bytes each
                             std::vector<uint32_t>>;  // compact: 4 bytes each

  void Set(std::string key, Value value) { values_[std::move(key)] = std::move(value); }
  bool Has(std::string_view key) const { return values_.find(key) != values_.end(); }
  const Value* Find(std::string_view key) const;

  // Typed access. kNotFound if the key is absent, kCorrupt if it has another type.
  Result<bool> GetBool(std::string_view key) const;
  Result<int64_t> GetInt(std::string_view key) const;
  Result<double> GetDouble(std::string_view key) const;
  Result<std::string> GetString(std::string_view key) const;
  // Pointers into this Metadata (no copy).
  Result<const std::vector<std::string>*> GetStrings(std::string_view key) const;
  Result<const std::vector<float>*> GetFloats(std::string_view key) const;
  Result<const std::vector<uint32_t>*> GetUints(std::string_view key) const;
  Result<const std::vector<int64_t>*> GetInts(std::string_view key) const;
  Result<const std::vector<double>*> GetDoubles(std::string_view key) const;
  // With a default for an absent key; a wrong type is still an error.
  Result<bool> GetBoolOr(std::string_view key, bool fallback) const;
  Result<int64_t> GetIntOr(std::string_view key, int64_t fallback) const;
  Result<double> GetDoubleOr(std::string_view key, double fallback) const;
  Result<std::string> GetStringOr(std::string_view key, std::string fallback) const;

  const std::map<std::string, Value, std::less<>>& values() const { return values_; }

  // Can this be written? Key lengths and encoding; no array element above 4 GiB.
  Status Validate() const;
  // Keys in ascending byte order: equal metadata gives equal bytes. Requires Validate().ok().
  std::vector<uint8_t> Encode() const;
  // Bounded decode: every count is checked against the bytes that remain before anything is
  // allocated; keys unique, ascending and UTF-8; no byte left over. kCorrupt otherwise.
  static Result<Metadata> Decode(std::span<const uint8_t> bytes);

 private:
  std::map<std::string, Value, std::less<>> values_;
};

}  // namespace sdq::format

#endif  // SDQ_FORMAT_METADATA_H_
