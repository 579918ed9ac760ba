// What sdq-convert does so that an interrupted conversion can go on (converter/journal.h).
#ifndef SDQ_APPS_CONVERT_JOURNAL_H_
#define SDQ_APPS_CONVERT_JOURNAL_H_

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "converter/checkpoint.h"
#include "converter/journal.h"
#include "format/status.h"

namespace sdq::apps {

// The journal beside `output`, with every option of the parsed `app` as a setting but those that no
// byte of the output depends on, and the program, the instruction set and the checkpoint. `talk`:
// progress, and what there is to go on from, on stderr.
Result<std::unique_ptr<converter::Journal>> OpenJournal(const CLI::App& app,
                                                        const converter::Checkpoint& checkpoint,
                                                        const std::string& output, bool resume,
                                                        bool talk);

// After an error: the journal is kept if there is anything in it that is worth it, and the error
// says so; else it is removed.
Status KeepFinished(converter::Journal& journal, Status error);

}  // namespace sdq::apps

#endif  // SDQ_APPS_CONVERT_JOURNAL_H_
