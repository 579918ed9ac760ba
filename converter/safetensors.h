// Reader of safetensors files, one or sharded.
//
// Layout (github.com/huggingface/safetensors): u64 little endian = header length, a JSON object
// {"name": {"dtype", "shape", "data_offsets": [begin, end)}, ..., "__metadata__": {..}}, then the
// tensors' bytes, row-major and little endian, which the offsets must cover without hole or
// overlap.
#ifndef SDQ_CONVERTER_SAFETENSORS_H_
#define SDQ_CONVERTER_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/mapped_file.h"
#include "format/status.h"

namespace sdq::converter {

inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr size_t kMaxSafetensorsDimensions = 8;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;           // as the file spells it: "F16", ...
  std::vector<int64_t> shape;  // empty: a scalar
  uint64_t elements = 0;
  std::span<const uint8_t> bytes;  // into the file
};

// Checks the whole structure: views of the result need no further checks. `file` must outlive them;
// `name` is for messages. kCorrupt for everything that violates the layout above, kUnsupported for
// a dtype whose size is unknown.
Result<std::vector<SafetensorsEntry>> ParseSafetensors(std::span<const uint8_t> file,
                                                       const std::string& name);

// F32, F16 and BF16 can be read as float.
bool IsReadableDtype(std::string_view dtype);
// Widens to f32. kUnsupported for another dtype, kCorrupt with tensor name and index for a NaN or
// an infinity, kResourceExhausted if memory does not suffice.
Status ReadFloats(const SafetensorsEntry& entry, std::vector<float>* out);
// The same for elements [first, first + out.size()) only.
Status ReadFloatRange(const SafetensorsEntry& entry, uint64_t first, std::span<float> out);

// All weight files of a folder: model.safetensors, or the shards that model.safetensors.index.json
// names. Movable; the entries' spans stay valid as long as this lives.
class SafetensorsFolder {
 public:
  // kNotFound if the folder has neither file (or lacks a shard), with a way out if it has PyTorch
  // pickle files only: those are never read.
  static Result<SafetensorsFolder> Open(const std::string& folder);

  // nullptr if there is none of that name.
  const SafetensorsEntry* Find(std::string_view name) const;
  const std::map<std::string, SafetensorsEntry, std::less<>>& entries() const { return entries_; }
  // Gives back the memory that a tensor's bytes take while they are mapped, until the next read.
  void Forget(const SafetensorsEntry& entry) const;
  uint64_t file_bytes() const { return file_bytes_; }  // sum over the weight files

 private:
  Status AddFile(const std::string& path);
  Status AddShards(const std::string& folder, const std::string& index_path);

  std::vector<format::MappedFile> files_;
  std::map<std::string, SafetensorsEntry, std::less<>> entries_;
  uint64_t file_bytes_ = 0;
};

// The shard files that an index names, by tensor. Every file is a plain name within the folder:
// a path, "..", or another extension is refused. `name` is for messages.
Result<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view json,
                                                                 const std::string& name);

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_SAFETENSORS_H_
