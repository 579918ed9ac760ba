// Embeddings and head as bitstreams: encoded before the layers, which should see what they became.
#ifndef SDQ_CONVERTER_STORED_TABLES_H_
#define SDQ_CONVERTER_STORED_TABLES_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/encoder.h"
#include "converter/pipeline.h"
#include "format/status.h"
#include "format/writer.h"

namespace sdq::converter {

class StoredTables {
 public:
  // Encodes every table that the options make a bitstream. kInvalidArgument if the method is not
  // the second one. progress(name, share of this table); returning false cancels.
  Status Encode(const Checkpoint& checkpoint, const ConvertOptions& options,
                const std::function<bool(const std::string&, double)>& progress);

  bool empty() const { return encoded_.empty(); }
  bool Contains(const std::string& name) const { return encoded_.contains(name); }
  Status Write(const std::string& name, format::SdqWriter& writer) const;
  const std::vector<LinearReport>& reports() const { return reports_; }

  // The checkpoint with these tables as they decode (a head only with tuning), for as long as both
  // live.
  std::unique_ptr<Checkpoint> Overlay(const Checkpoint& checkpoint) const;

 private:
  std::map<std::string, EncodedLinear> encoded_;
  std::vector<LinearReport> reports_;
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_STORED_TABLES_H_
