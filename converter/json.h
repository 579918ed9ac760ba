// JSON from untrusted files, without exceptions: bounded depth and size, no duplicate keys.
#ifndef SDQ_CONVERTER_JSON_H_
#define SDQ_CONVERTER_JSON_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "format/status.h"

namespace sdq::converter {

struct JsonLimits {
  size_t max_depth = 32;          // nested arrays and objects
  size_t max_values = 1'000'000;  // values of any kind, so that memory follows the text's size
};

// kCorrupt with a byte position for anything that is not strict JSON in valid UTF-8, for an object
// with the same key twice, and beyond the limits. `name` is for messages.
Result<nlohmann::json> ParseJson(std::string_view text, const std::string& name,
                                 const JsonLimits& limits = {});

// Typed access to the members of an object. A member that is absent or null counts as not given.
class JsonFields {
 public:
  // `object` must outlive this and be a JSON object. `name` is for messages.
  JsonFields(const nlohmann::json& object, std::string name)
      : object_(object), name_(std::move(name)) {}

  // nullptr if not given.
  const nlohmann::json* Find(const char* key) const;
  // Is the key there at all, be it with null?
  bool Has(const char* key) const { return object_.contains(key); }

  // kCorrupt if not given, or of another type, or an integer that does not fit in 64 bits.
  Result<int64_t> Int(const char* key) const;
  Result<double> Real(const char* key) const;  // an integer counts as a real number; finite
  Result<std::string> String(const char* key) const;
  // With a default for what is not given; a wrong type is still an error.
  Result<int64_t> IntOr(const char* key, int64_t fallback) const;
  Result<double> RealOr(const char* key, double fallback) const;
  Result<bool> BoolOr(const char* key, bool fallback) const;
  Result<std::string> StringOr(const char* key, std::string fallback) const;

  const std::string& name() const { return name_; }
  // kCorrupt "name: key: expected ..., found ..."
  Status WrongType(const char* key, const char* expected) const;

 private:
  const nlohmann::json& object_;
  std::string name_;
};

// The integer in `value`, if it is one that fits.
bool JsonToInt(const nlohmann::json& value, int64_t* out);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_JSON_H_
