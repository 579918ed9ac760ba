// A second reader of .sdq files, written from FORMAT.md alone: it shares no code with the library.
//
// Slow and plain on purpose. It exists so that tests can say that a file means what the document
// says, and not only what the library makes of it.
#ifndef SDQ_TESTS_SUPPORT_INDEPENDENT_READER_H_
#define SDQ_TESTS_SUPPORT_INDEPENDENT_READER_H_

#include <cstdint>
#include <string>
#include <vector>

namespace sdq::test {

struct IndependentTensor {
  std::string name;
  bool is_stream = false;
  uint32_t rows = 0;
  uint32_t columns = 0;
  std::vector<float> values;  // [rows][columns]; of a stream: reconstructed, rotation undone
  std::vector<float> bias;    // [rows], or empty
};

struct IndependentFile {
  std::vector<IndependentTensor> tensors;
  std::vector<std::string> metadata_keys;  // in file order

  // nullptr if there is none of that name.
  const IndependentTensor* Find(const std::string& name) const;
};

// Reads the whole file. "" if it could, else what is wrong with it.
std::string ReadIndependently(const std::vector<uint8_t>& bytes, IndependentFile* file);

}  // namespace sdq::test

#endif  // SDQ_TESTS_SUPPORT_INDEPENDENT_READER_H_
