// The command line of sdq-convert, as it was typed.
#ifndef SDQ_APPS_CONVERT_COMMAND_H_
#define SDQ_APPS_CONVERT_COMMAND_H_

#include <CLI/CLI.hpp>
#include <cstddef>
#include <map>
#include <string>

#include "converter/pipeline.h"
#include "converter/rate_plan.h"

namespace sdq::apps {

struct ConvertCommand {
  std::string checkpoint;
  std::string output;
  std::string method = "trellis";
  std::string embeddings;  // empty: q8, or auto under --target-size by sensitivity
  std::string head;        // empty: as the embeddings
  std::string alphabet;
  std::string calibration_file;
  std::string separator = "<|endoftext|>";
  std::string rate_file;
  std::string allocation;  // empty: trellis by sensitivity where there is text, else uniform
  double bits_per_weight = 0;
  std::string target_size;
  size_t calibration_tokens = 0;  // 0: kFileTokens or kOwnTokens
  bool damping_given = false;
  bool random = false;
  bool resume = false;
  std::string report_file;
  std::string command;
  int threads = 0;
  bool quiet = false;
  converter::ConvertOptions convert;
};

inline constexpr size_t kFileTokens = 65536;
inline constexpr size_t kOwnTokens = 32768;
inline constexpr char kNoCalibration[] = "none";
inline constexpr char kShared[] = "auto";  // embeddings that share the budget

// What the words of options mean.
extern const std::map<std::string, converter::Method> kMethods;
extern const std::map<std::string, converter::TableType> kTableTypes;
extern const std::map<std::string, converter::Allocation> kAllocations;
extern const std::map<std::string, format::Alphabet> kAlphabets;

// All options, checked as far as each can be by itself. `command` must outlive the parsing.
void DeclareConvert(CLI::App& app, ConvertCommand& command);

}  // namespace sdq::apps

#endif  // SDQ_APPS_CONVERT_COMMAND_H_
