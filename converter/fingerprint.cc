#include "converter/fingerprint.h"

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "converter/conversion_metadata.h"
#include "format/byte_codec.h"
#include "format/checksum.h"
#include "format/metadata.h"

namespace sdq::converter {
namespace {

Status AddTensor(const Checkpoint& checkpoint, const std::string& name, std::vector<float>* values,
                 format::ByteSink* sink) {
  SDQ_RETURN_IF_ERROR(checkpoint.Read(name, values));
  sink->AppendText(name);
  sink->AppendText(checkpoint.StoredType(name));
  sink->Append(format::Checksum(
      {reinterpret_cast<const uint8_t*>(values->data()), values->size() * sizeof(float)}));
  return Status::Ok();
}

}  // namespace

Result<uint64_t> Fingerprint(const Checkpoint& checkpoint,
                             const std::function<bool(double)>& progress) {
  format::ByteSink sink;
  SDQ_ASSIGN_OR_RETURN(const format::Metadata metadata, CheckpointMetadata(checkpoint));
  sink.AppendBytes(metadata.Encode());
  const std::vector<TensorShape> shapes = ExpectedTensors(checkpoint.config());
  std::vector<float> values;
  for (size_t i = 0; i < shapes.size(); ++i) {
    for (const std::string& name : {shapes[i].name, shapes[i].name + ".bias"}) {
      if (!checkpoint.Has(name)) continue;
      SDQ_RETURN_IF_ERROR(AddTensor(checkpoint, name, &values, &sink));
    }
    if (progress && !progress(double(i + 1) / double(shapes.size()))) {
      return Status::Cancelled("interrupted");
    }
  }
  return format::Checksum(sink.bytes());
}

}  // namespace sdq::converter
