// Programs run as a user runs them: arguments, standard streams, signals, exit codes.
#ifndef SDQ_TESTS_SUPPORT_PROCESS_H_
#define SDQ_TESTS_SUPPORT_PROCESS_H_

#include <string>
#include <utility>
#include <vector>

namespace sdq::test {

// What the program finds as its stdout or stderr.
enum class Sink {
  kCapture,       // a pipe that is read to its end
  kClosedEarly,   // a pipe whose reader leaves after the first bytes
  kClosedAtOnce,  // a pipe without a reader
  kFull,          // a full disk
  kNone,          // no descriptor at all
};

struct ProcessOptions {
  std::string input;         // stdin, then its end
  std::string input_folder;  // not empty: this folder is stdin instead
  bool no_input = false;     // no descriptor at all
  Sink out = Sink::kCapture;
  Sink err = Sink::kCapture;
  std::vector<std::pair<std::string, std::string>> environment;  // added to the test's own
  std::string working_folder;                                    // "" = the test's own
  std::string signal_after;  // once stdout holds this text (not empty) ...
  int signal = 0;            // ... this signal is sent
  double timeout_seconds = SDQ_PROGRAM_SECONDS;
};

struct ProcessResult {
  int exit_code = -1;  // -1 if a signal ended it
  int ended_by_signal = 0;
  bool timed_out = false;  // it was killed
  std::string out;
  std::string err;
};

// arguments[0] is the program's path.
ProcessResult RunProcess(const std::vector<std::string>& arguments,
                         const ProcessOptions& options = {});

}  // namespace sdq::test

#endif  // SDQ_TESTS_SUPPORT_PROCESS_H_
