// What this process holds of the machine's memory.
#ifndef SDQ_APPS_SUPPORT_PROCESS_MEMORY_H_
#define SDQ_APPS_SUPPORT_PROCESS_MEMORY_H_

#include <cstdint>
#include <string_view>

namespace sdq::apps {

struct ProcessMemory {
  uint64_t anonymous = 0;      // bytes resident now that belong to no file: heap, stacks
  uint64_t peak_resident = 0;  // most bytes resident so far, mapped files included
};

// As Linux counts them; zeros where the system does not say.
ProcessMemory ReadProcessMemory();

// The same from the text of /proc/self/status.
ProcessMemory ParseProcessStatus(std::string_view text);

}  // namespace sdq::apps

#endif  // SDQ_APPS_SUPPORT_PROCESS_MEMORY_H_
