#include "converter/json.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace sdq::converter {
namespace {

using nlohmann::json;

// Builds the document event by event; returning false stops the parser, `error` says why.
class BoundedBuilder : public nlohmann::json_sax<json> {
 public:
  explicit BoundedBuilder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return Add(json(nullptr)); }
  bool boolean(bool value) override { return Add(json(value)); }
  bool number_integer(number_integer_t value) override { return Add(json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Add(json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return Add(json(value)); }
  bool string(string_t& value) override { return Add(json(std::move(value))); }
  bool binary(binary_t&) override { return Fail("binary value"); }
  bool start_object(size_t) override { return Open(json(json::value_t::object)); }
  bool start_array(size_t) override { return Open(json(json::value_t::array)); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& value) override {
    if (stack_.back()->contains(value)) return Fail(fmt::format("duplicate key '{}'", value));
    key_ = std::move(value);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const json::exception& error) override {
    return Fail(fmt::format("not valid JSON at byte {} ({})", position, error.what()));
  }

  const std::string& error() const { return error_; }
  json Take() && { return std::move(root_); }

 private:
  bool Fail(std::string why) {
    error_ = std::move(why);
    return false;
  }

  // Where the value went, or nullptr beyond the limit.
  json* Place(json value) {
    if (++values_ > limits_.max_values) {
      Fail(fmt::format("more than {} values", limits_.max_values));
      return nullptr;
    }
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  bool Add(json value) { return Place(std::move(value)) != nullptr; }

  bool Open(json value) {
    if (stack_.size() >= limits_.max_depth) {
      return Fail(fmt::format("nested deeper than {} levels", limits_.max_depth));
    }
    json* placed = Place(std::move(value));
    if (placed == nullptr) return false;
    stack_.push_back(placed);
    return true;
  }

  bool Close() {
    stack_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  json root_;
  // Open containers. Only the innermost one grows, so the pointers stay valid.
  std::vector<json*> stack_;
  std::string key_;
  size_t values_ = 0;
  std::string error_;
};

}  // namespace

Result<json> ParseJson(std::string_view text, const std::string& name, const JsonLimits& limits) {
  BoundedBuilder builder(limits);
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    return Status::Corrupt(name + ": " + builder.error());
  }
  return std::move(builder).Take();
}

bool JsonToInt(const json& value, int64_t* out) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > uint64_t(std::numeric_limits<int64_t>::max())) return false;
    *out = int64_t(number);
    return true;
  }
  if (!value.is_number_integer()) return false;
  *out = value.get<int64_t>();
  return true;
}

const json* JsonFields::Find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

Status JsonFields::WrongType(const char* key, const char* expected) const {
  const json* value = Find(key);
  return Status::Corrupt(fmt::format("{}: {}: expected {}, found {}", name_, key, expected,
                                     value == nullptr ? "nothing" : value->type_name()));
}

Result<int64_t> JsonFields::Int(const char* key) const {
  const json* value = Find(key);
  if (value == nullptr) return Status::Corrupt(fmt::format("{}: no '{}'", name_, key));
  int64_t number = 0;
  if (!JsonToInt(*value, &number)) return WrongType(key, "a 64-bit integer");
  return number;
}

Result<double> JsonFields::Real(const char* key) const {
  const json* value = Find(key);
  if (value == nullptr) return Status::Corrupt(fmt::format("{}: no '{}'", name_, key));
  if (!value->is_number()) return WrongType(key, "a number");
  const auto number = value->get<double>();
  if (!std::isfinite(number)) return WrongType(key, "a finite number");
  return number;
}

Result<std::string> JsonFields::String(const char* key) const {
  const json* value = Find(key);
  if (value == nullptr) return Status::Corrupt(fmt::format("{}: no '{}'", name_, key));
  if (!value->is_string()) return WrongType(key, "a string");
  return value->get<std::string>();
}

Result<int64_t> JsonFields::IntOr(const char* key, int64_t fallback) const {
  return Find(key) == nullptr ? Result<int64_t>(fallback) : Int(key);
}

Result<double> JsonFields::RealOr(const char* key, double fallback) const {
  return Find(key) == nullptr ? Result<double>(fallback) : Real(key);
}

Result<bool> JsonFields::BoolOr(const char* key, bool fallback) const {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return WrongType(key, "true or false");
  return value->get<bool>();
}

Result<std::string> JsonFields::StringOr(const char* key, std::string fallback) const {
  return Find(key) == nullptr ? Result<std::string>(std::move(fallback)) : String(key);
}

}  // namespace sdq::converter
