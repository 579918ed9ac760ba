#include "converter/finished_work.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "format/byte_codec.h"

namespace sdq::converter {
namespace {

using format::ByteCursor;
using format::ByteSink;

template <typename T>
void AppendAll(std::span<const T> values, ByteSink* sink) {
  sink->Append(uint64_t(values.size()));
  for (const T value : values) sink->Append(value);
}

// A count, then as many numbers; false if the bytes end before.
template <typename T>
bool ReadAll(ByteCursor* cursor, std::vector<T>* values) {
  uint64_t count = 0;
  if (!cursor->Read(&count) || count > cursor->remaining() / sizeof(T)) return false;
  values->resize(size_t(count));
  for (T& value : *values) {
    if (!cursor->Read(&value)) return false;
  }
  return true;
}

bool ReadString(ByteCursor* cursor, std::string* text) {
  uint64_t size = 0;
  std::string_view view;
  if (!cursor->Read(&size) || !cursor->ReadText(size, &view)) return false;
  *text = view;
  return true;
}

void AppendString(const std::string& text, ByteSink* sink) {
  sink->Append(uint64_t(text.size()));
  sink->AppendText(text);
}

Status Damaged(const char* what) {
  return Status::Corrupt(fmt::format("the record of {} is damaged", what));
}

void AppendDecimator(const format::DecimatorSpec& decimator, ByteSink* sink) {
  sink->Append(uint8_t(decimator.kind));
  for (const uint32_t number : {decimator.osr_num, decimator.osr_den, decimator.window,
                                decimator.lead, decimator.block, decimator.derived}) {
    sink->Append(number);
  }
  AppendAll<float>(decimator.taps, sink);
}

bool ReadDecimator(ByteCursor* cursor, format::DecimatorSpec* decimator) {
  uint8_t kind = 0;
  if (!cursor->Read(&kind)) return false;
  decimator->kind = format::DecimatorKind(kind);
  for (uint32_t* number : {&decimator->osr_num, &decimator->osr_den, &decimator->window,
                           &decimator->lead, &decimator->block, &decimator->derived}) {
    if (!cursor->Read(number)) return false;
  }
  return ReadAll(cursor, &decimator->taps);
}

void AppendLinear(const FinishedLinearView& linear, ByteSink* sink) {
  const EncodedLinear& e = *linear.encoded;
  AppendString(*linear.name, sink);
  sink->Append(e.rows);
  sink->Append(e.columns);
  sink->Append(uint8_t(e.rotation.kind));
  sink->Append(e.rotation.block);
  sink->Append(e.rotation.sign_seed);
  AppendDecimator(e.decimator, sink);
  sink->Append(uint8_t(e.alphabet));
  sink->Append(uint8_t(e.granularity));
  AppendAll<uint16_t>(e.scales_f16, sink);
  sink->Append(e.scale_base);
  AppendAll<uint16_t>(e.means_f16, sink);
  sink->Append(e.mean_base);
  sink->Append(e.relative_error);
  AppendAll<double>(e.row_errors, sink);
  AppendAll<float>(*linear.bias, sink);
  sink->Append(uint64_t(e.bits.size()));
  sink->AppendBytes(e.bits);
}

bool ReadLinear(ByteCursor* cursor, FinishedLinear* linear) {
  EncodedLinear& e = linear->encoded;
  uint8_t rotation = 0, alphabet = 0, granularity = 0;
  if (!ReadString(cursor, &linear->name) || !cursor->Read(&e.rows) || !cursor->Read(&e.columns) ||
      !cursor->Read(&rotation) || !cursor->Read(&e.rotation.block) ||
      !cursor->Read(&e.rotation.sign_seed) || !ReadDecimator(cursor, &e.decimator) ||
      !cursor->Read(&alphabet) || !cursor->Read(&granularity) || !ReadAll(cursor, &e.scales_f16) ||
      !cursor->Read(&e.scale_base) || !ReadAll(cursor, &e.means_f16) ||
      !cursor->Read(&e.mean_base) || !cursor->Read(&e.relative_error) ||
      !ReadAll(cursor, &e.row_errors) || !ReadAll(cursor, &linear->bias) ||
      !ReadAll(cursor, &e.bits)) {
    return false;
  }
  e.rotation.kind = format::RotationKind(rotation);
  e.alphabet = format::Alphabet(alphabet);
  e.granularity = format::ScaleGranularity(granularity);
  return true;
}

// Everything that View() and Reconstruct() rely on.
Status ValidateLinear(const FinishedLinear& linear) {
  const EncodedLinear& e = linear.encoded;
  // View() needs a geometry that makes sense before it can be asked for.
  if (!format::IsKnown(e.alphabet)) {
    return Damaged("a layer");
  }
  SDQ_RETURN_IF_ERROR(format::ValidateDecimator(e.decimator, e.columns));
  const bool polyphase = e.decimator.kind == format::DecimatorKind::kPolyphase;
  if (e.decimator.kind == format::DecimatorKind::kIdentity || (polyphase && !e.means_f16.empty()) ||
      e.rows == 0 || e.rows > format::kMaxDimension) {
    return Damaged("a layer");
  }
  const uint64_t bytes = format::BitstreamBytes(e.decimator, e.alphabet, e.rows, e.columns);
  if (e.bits.size() != bytes + format::kReadSlack) return Damaged("a layer");
  format::StreamView view = e.View(linear.name);
  view.bias = linear.bias;
  SDQ_RETURN_IF_ERROR(format::ValidateView(view));
  return format::ValidateTrits(view);
}

}  // namespace

std::vector<uint8_t> EncodeFinished(std::span<const FinishedLinearView> linears) {
  ByteSink sink;
  for (const FinishedLinearView& linear : linears) AppendLinear(linear, &sink);
  return std::move(sink).Take();
}

Result<std::vector<FinishedLinear>> DecodeFinished(std::span<const uint8_t> bytes) {
  ByteCursor cursor(bytes);
  std::vector<FinishedLinear> linears;
  while (cursor.remaining() > 0) {
    FinishedLinear linear;
    if (!ReadLinear(&cursor, &linear)) return Damaged("a layer");
    if (const Status status = ValidateLinear(linear); !status.ok()) {
      return Status::Corrupt(status.message());
    }
    linears.push_back(std::move(linear));
  }
  return linears;
}

std::vector<uint8_t> EncodeTokens(std::span<const TokenId> tokens) {
  ByteSink sink;
  AppendAll(tokens, &sink);
  return std::move(sink).Take();
}

Result<std::vector<TokenId>> DecodeTokens(std::span<const uint8_t> bytes) {
  ByteCursor cursor(bytes);
  std::vector<TokenId> tokens;
  if (!ReadAll(&cursor, &tokens) || cursor.remaining() > 0) return Damaged("the calibration text");
  return tokens;
}

std::vector<uint8_t> EncodeSensitivities(std::span<const Sensitivity> sensitivities) {
  ByteSink sink;
  for (const Sensitivity& sensitivity : sensitivities) {
    AppendString(sensitivity.name, &sink);
    AppendAll<double>(sensitivity.losses, &sink);
    AppendAll<double>(sensitivity.row_costs, &sink);
  }
  return std::move(sink).Take();
}

Result<std::vector<Sensitivity>> DecodeSensitivities(std::span<const uint8_t> bytes) {
  ByteCursor cursor(bytes);
  std::vector<Sensitivity> sensitivities;
  while (cursor.remaining() > 0) {
    Sensitivity sensitivity;
    if (!ReadString(&cursor, &sensitivity.name) || !ReadAll(&cursor, &sensitivity.losses) ||
        !ReadAll(&cursor, &sensitivity.row_costs)) {
      return Damaged("the sensitivities");
    }
    for (const double loss : sensitivity.losses) {
      if (!std::isfinite(loss)) return Damaged("the sensitivities");
    }
    sensitivities.push_back(std::move(sensitivity));
  }
  return sensitivities;
}

std::vector<uint8_t> EncodeTableSensitivities(std::span<const TableSensitivity> tables) {
  ByteSink sink;
  for (const TableSensitivity& table : tables) {
    AppendString(table.name, &sink);
    AppendAll<double>(table.hessian, &sink);
    AppendAll<double>(table.losses, &sink);
    sink.Append(table.eight_bit_loss);
  }
  return std::move(sink).Take();
}

Result<std::vector<TableSensitivity>> DecodeTableSensitivities(std::span<const uint8_t> bytes) {
  ByteCursor cursor(bytes);
  std::vector<TableSensitivity> tables;
  while (cursor.remaining() > 0) {
    TableSensitivity table;
    if (!ReadString(&cursor, &table.name) || !ReadAll(&cursor, &table.hessian) ||
        !ReadAll(&cursor, &table.losses) || !cursor.Read(&table.eight_bit_loss)) {
      return Damaged("the sensitivities of embeddings and head");
    }
    const auto finite = [](double value) { return std::isfinite(value); };
    if (!std::all_of(table.hessian.begin(), table.hessian.end(), finite) ||
        !std::all_of(table.losses.begin(), table.losses.end(), finite) ||
        !finite(table.eight_bit_loss)) {
      return Damaged("the sensitivities of embeddings and head");
    }
    tables.push_back(std::move(table));
  }
  return tables;
}

}  // namespace sdq::converter
