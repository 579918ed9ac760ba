#include "converter/layer_journal.h"

#include <span>
#include <utility>

#include "converter/finished_work.h"
#include "converter/reconstruct.h"
#include "fmt/format.h"

namespace sdq::converter {
namespace {

bool Fits(const FinishedLinear& finished, const FloatLayer::NamedLinear& linear, Rate rate) {
  const EncodedLinear& encoded = finished.encoded;
  return finished.name == linear.name && encoded.rows == linear.linear->rows &&
         encoded.columns == linear.linear->columns && finished.bias.size() == linear.bias->size() &&
         encoded.decimator.osr() == rate.osr();
}

}  // namespace

Status RecordLayer(int64_t index, const FloatLayer& layer,
                   const std::vector<EncodedLinear>& encoded, Journal* journal) {
  std::vector<FinishedLinearView> linears;
  for (size_t i = 0; i < encoded.size(); ++i) {
    const FloatLayer::NamedLinear& linear = layer.linears()[i];
    linears.push_back({&linear.name, &encoded[i], linear.bias});
  }
  return journal->Append(Journal::LayerKey(index), EncodeFinished(linears));
}

Result<bool> RestoreLayer(const Journal& journal, int64_t index,
                          const std::map<std::string, Rate>& rates, const FloatLayer& layer,
                          std::vector<EncodedLinear>* encoded) {
  if (!journal.Has(Journal::LayerKey(index))) return false;
  SDQ_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, journal.Read(Journal::LayerKey(index)));
  Result<std::vector<FinishedLinear>> finished = DecodeFinished(bytes);
  if (!finished.ok()) return std::move(finished).status().Annotate(journal.path());
  const std::vector<FloatLayer::NamedLinear>& linears = layer.linears();
  bool fits = finished->size() == linears.size();
  for (size_t i = 0; fits && i < linears.size(); ++i) {
    fits = Fits((*finished)[i], linears[i], rates.at(linears[i].name));
  }
  if (!fits) {
    return Status::Corrupt(fmt::format("{}: its layer {} is not one of this conversion; delete it",
                                       journal.path(), index));
  }
  encoded->clear();
  for (size_t i = 0; i < linears.size(); ++i) {
    FinishedLinear& from = (*finished)[i];
    *linears[i].values = Reconstruct(from.encoded);
    *linears[i].bias = std::move(from.bias);
    linears[i].linear->dense.data = linears[i].values->data();
    linears[i].linear->dense.bias = linears[i].bias->empty() ? nullptr : linears[i].bias->data();
    encoded->push_back(std::move(from.encoded));
  }
  return true;
}

}  // namespace sdq::converter
