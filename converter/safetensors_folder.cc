// A folder's weight files: which ones there are, and that they agree with their index.
#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <set>
#include <utility>

#include "converter/json.h"
#include "converter/safetensors.h"

namespace sdq::converter {
namespace {

namespace fs = std::filesystem;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr size_t kMaxIndexBytes = 100'000'000;

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

bool IsPlainShardName(const std::string& file) {
  return file.ends_with(".safetensors") && file.front() != '.' &&
         file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

// The name of a PyTorch pickle in the folder, "" if there is none.
std::string FindPickle(const std::string& folder) {
  std::error_code error;
  std::set<std::string> found;  // sorted: the message does not depend on the folder's order
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string extension = it->path().extension().string();
    if (extension == ".bin" || extension == ".pt" || extension == ".pth") {
      found.insert(it->path().filename().string());
    }
  }
  return found.empty() ? "" : *found.begin();
}

Status NoWeights(const std::string& folder) {
  const std::string pickle = FindPickle(folder);
  if (pickle.empty()) {
    return Status::NotFound(
        fmt::format("{}: no weights: neither {} nor {}", folder, kSingleFile, kIndexFile));
  }
  return Status::Unsupported(fmt::format(
      "{}: the weights are PyTorch pickle files ({}), which can run code when they are loaded and "
      "are never read here; make safetensors of them first, for example with Python: "
      "from transformers import AutoModelForCausalLM as M; "
      "M.from_pretrained('{}').save_pretrained('NEW_FOLDER', safe_serialization=True)",
      folder, pickle, folder));
}

}  // namespace

Result<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text,
                                                                 const std::string& name) {
  SDQ_ASSIGN_OR_RETURN(const nlohmann::json index, ParseJson(text, name));
  const nlohmann::json* map = nullptr;
  if (index.is_object()) map = JsonFields(index, name).Find("weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    return Status::Corrupt(name + ": no weight_map from tensor to file");
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, value] : map->items()) {
    const std::string file = value.is_string() ? value.get<std::string>() : std::string();
    if (file.empty() || !IsPlainShardName(file)) {
      return Status::Corrupt(
          fmt::format("{}: weight_map: '{}' is in {}, expected the plain name of a .safetensors "
                      "file in the same folder",
                      name, tensor, value.dump(-1, ' ', true)));
    }
    files.emplace(tensor, file);
  }
  return files;
}

Status SafetensorsFolder::AddFile(const std::string& path) {
  SDQ_ASSIGN_OR_RETURN(format::MappedFile file, format::MappedFile::Open(path));
  SDQ_ASSIGN_OR_RETURN(std::vector<SafetensorsEntry> parsed, ParseSafetensors(file.bytes(), path));
  for (SafetensorsEntry& entry : parsed) {
    std::string name = entry.name;
    if (!entries_.try_emplace(std::move(name), std::move(entry)).second) {
      return Status::Corrupt(
          fmt::format("{}: tensor '{}' is in another shard, too", path, entry.name));
    }
  }
  file_bytes_ += file.bytes().size();
  files_.push_back(std::move(file));
  return Status::Ok();
}

Status SafetensorsFolder::AddShards(const std::string& folder, const std::string& index_path) {
  SDQ_ASSIGN_OR_RETURN(const format::MappedFile index, format::MappedFile::Open(index_path));
  if (index.bytes().size() > kMaxIndexBytes) {
    return Status::Corrupt(fmt::format("{}: {} bytes, at most {} are allowed", index_path,
                                       index.bytes().size(), kMaxIndexBytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(index.bytes().data()),
                              index.bytes().size());
  SDQ_ASSIGN_OR_RETURN(const auto weight_map, ParseSafetensorsIndex(text, index_path));
  std::set<std::string> shards;
  for (const auto& [tensor, file] : weight_map) shards.insert(file);
  for (const std::string& shard : shards) {
    const std::string path = folder + "/" + shard;
    if (!Exists(path)) {
      return Status::NotFound(
          fmt::format("{}: the shard is missing, but {} names it", path, index_path));
    }
    const size_t before = entries_.size();
    SDQ_RETURN_IF_ERROR(AddFile(path));
    size_t named = 0;
    for (const auto& [tensor, file] : weight_map) {
      if (file != shard) continue;
      ++named;
      if (Find(tensor) == nullptr) {
        return Status::Corrupt(
            fmt::format("{}: no tensor '{}', but {} says so", path, tensor, index_path));
      }
    }
    if (entries_.size() - before != named) {
      return Status::Corrupt(fmt::format("{}: holds {} tensors, but {} names {} of it", path,
                                         entries_.size() - before, index_path, named));
    }
  }
  return Status::Ok();
}

Result<SafetensorsFolder> SafetensorsFolder::Open(const std::string& folder) {
  SafetensorsFolder result;
  const std::string single = folder + "/" + kSingleFile;
  const std::string index = folder + "/" + kIndexFile;
  if (Exists(single)) {
    SDQ_RETURN_IF_ERROR(result.AddFile(single));
  } else if (Exists(index)) {
    SDQ_RETURN_IF_ERROR(result.AddShards(folder, index));
  } else {
    return NoWeights(folder);
  }
  return result;
}

void SafetensorsFolder::Forget(const SafetensorsEntry& entry) const {
  for (const format::MappedFile& file : files_) {
    const uint8_t* begin = file.bytes().data();
    const bool inside = std::less_equal<>()(begin, entry.bytes.data()) &&
                        std::less<>()(entry.bytes.data(), begin + file.bytes().size());
    if (inside) file.Forget(entry.bytes);
  }
}

const SafetensorsEntry* SafetensorsFolder::Find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace sdq::converter
