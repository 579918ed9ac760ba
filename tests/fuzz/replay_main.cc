// Replays a corpus through a fuzz target without libFuzzer: every file as it is, every truncation
// of small ones, and mutations from a fixed seed. A crash or a sanitizer report is the failure.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int kMutationsPerFile = 300;
constexpr size_t kTruncateUpTo = 2048;

void Run(const std::vector<uint8_t>& bytes) { LLVMFuzzerTestOneInput(bytes.data(), bytes.size()); }

void Mutate(std::vector<uint8_t>* bytes, std::mt19937& random) {
  if (bytes->empty()) return;
  const int edits = 1 + int(random() % 4);
  for (int i = 0; i < edits; ++i) {
    const size_t at = random() % bytes->size();
    switch (random() % 4) {
      case 0:
        (*bytes)[at] = uint8_t((*bytes)[at] ^ (1u << (random() % 8)));
        break;
      case 1:
        (*bytes)[at] = uint8_t(random());
        break;
      case 2:
        (*bytes)[at] = (random() % 2) != 0u ? 0xff : 0;
        break;
      default:
        bytes->resize(at + 1);
        break;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  size_t files = 0;
  size_t inputs = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream stream(entry.path(), std::ios::binary);
      const std::vector<uint8_t> bytes((std::istreambuf_iterator<char>(stream)),
                                       std::istreambuf_iterator<char>());
      ++files;
      Run(bytes);
      ++inputs;
      for (size_t n = 0; n < bytes.size() && n < kTruncateUpTo; ++n, ++inputs) {
        Run(std::vector<uint8_t>(bytes.begin(), bytes.begin() + std::ptrdiff_t(n)));
      }
      std::mt19937 random(12345);
      for (int m = 0; m < kMutationsPerFile; ++m, ++inputs) {
        std::vector<uint8_t> mutant = bytes;
        Mutate(&mutant, random);
        Run(mutant);
      }
    }
  }
  std::printf("%zu corpus files, %zu inputs\n", files, inputs);
  return files == 0 ? 1 : 0;  // an empty corpus tests nothing
}
