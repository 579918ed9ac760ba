#include "converter/pipeline.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "converter/calibration.h"
#include "converter/conversion_metadata.h"
#include "converter/dense_tensor.h"
#include "converter/float_layer.h"
#include "converter/layer_journal.h"
#include "converter/paired_calibration.h"
#include "converter/pending_layers.h"
#include "converter/stored_shape.h"
#include "converter/stored_tables.h"
#include "fmt/format.h"
#include "format/writer.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

// Shares of a layer's time, for the progress estimate only.
constexpr double kCollectShare = 0.35;
constexpr double kEncodeShare = 0.45;
constexpr double kLayersShareWithTuning = 0.4;

// One conversion; owns what lives as long as it.
class Conversion {
 public:
  Conversion(const Checkpoint& checkpoint, const ConvertOptions& options,
             const ProgressCallback& progress)
      : checkpoint_(checkpoint), options_(options), progress_(progress) {}

  Result<ConvertReport> Run(const std::string& path) {
    SDQ_RETURN_IF_ERROR(PlanRates());
    SDQ_ASSIGN_OR_RETURN(writer_, format::SdqWriter::Create(path));
    SDQ_RETURN_IF_ERROR(Report("embeddings", 0.0));
    SDQ_RETURN_IF_ERROR(EncodeTables());
    SDQ_RETURN_IF_ERROR(WriteModelTensors(/*before_layers=*/true));
    if (options_.method == Method::kFloat) {
      SDQ_RETURN_IF_ERROR(WriteFloatLayers());
    } else {
      SDQ_RETURN_IF_ERROR(QuantizeLayers());
    }
    SDQ_RETURN_IF_ERROR(WriteModelTensors(/*before_layers=*/false));
    FinishReport();
    SDQ_ASSIGN_OR_RETURN(const format::Metadata metadata,
                         MakeMetadata(checkpoint_, options_, report_));
    SDQ_RETURN_IF_ERROR(writer_->Finish(metadata));
    report_.file_bytes = writer_->bytes_written();
    if (progress_) progress_({"done", 1.0});  // too late to cancel: the file is in place
    return report_;
  }

 private:
  Status Report(const std::string& step, double fraction) {
    if (progress_ && !progress_({step, fraction})) return Status::Cancelled("interrupted");
    return Status::Ok();
  }

  Status PlanRates() {
    if (options_.method == Method::kFloat) return Status::Ok();
    for (const NamedRate& named : options_.rates) rates_[named.name] = named.rate;
    const Rate uniform = NearestRate(options_.osr, 100);
    for (const TensorShape& shape : ExpectedTensors(checkpoint_.config())) {
      if (!shape.is_linear || !shape.name.starts_with("layers.")) continue;
      if (options_.rates.empty()) rates_[shape.name] = uniform;
      if (!rates_.contains(shape.name)) {
        return Status::InvalidArgument(fmt::format("no rate was given for {}", shape.name));
      }
    }
    return Status::Ok();
  }

  // ---- tensors outside the layers ----

  Status EncodeTables() {
    const auto progress = [&](const std::string& name, double share) {
      return Report(fmt::format("encoding {}, {:.0f}%", name, 100 * share), 0.0).ok();
    };
    SDQ_RETURN_IF_ERROR(tables_.Encode(checkpoint_, options_, progress));
    report_.tables = tables_.reports();
    quantized_tables_ = tables_.Overlay(checkpoint_);
    return Status::Ok();
  }

  Status WriteTensor(const TensorShape& shape) {
    if (tables_.Contains(shape.name)) return tables_.Write(shape.name, *writer_);
    std::vector<float> values;
    SDQ_RETURN_IF_ERROR(checkpoint_.Read(shape.name, &values));
    if (tuned_ && shape.name == "final_norm.weight") values = tuned_->final_norm_weight;
    if (tuned_ && shape.name == "final_norm.bias") values = tuned_->final_norm_bias;
    std::vector<float> bias;
    if (checkpoint_.Has(shape.name + ".bias") && shape.is_linear) {
      SDQ_RETURN_IF_ERROR(checkpoint_.Read(shape.name + ".bias", &bias));
    }
    return WriteDense(*writer_, shape.name, uint32_t(shape.rows), uint32_t(shape.columns), values,
                      StoredDenseType(checkpoint_, options_, shape), bias);
  }

  Status WriteModelTensors(bool before_layers) {
    for (const TensorShape& shape : ExpectedTensors(checkpoint_.config())) {
      if (shape.name.starts_with("layers.")) continue;
      if (shape.name.starts_with("embed.") != before_layers) continue;
      if (shape.optional && !checkpoint_.Has(shape.name)) continue;
      SDQ_RETURN_IF_ERROR(WriteTensor(shape));
    }
    return Status::Ok();
  }

  Status WriteFloatLayers() {
    const int64_t layers = checkpoint_.config().layers;
    for (const TensorShape& shape : ExpectedTensors(checkpoint_.config())) {
      if (!shape.name.starts_with("layers.")) continue;
      if (shape.optional && !checkpoint_.Has(shape.name)) continue;
      const int64_t layer = std::stoll(shape.name.substr(7));
      SDQ_RETURN_IF_ERROR(
          Report(fmt::format("layer {}/{}", layer + 1, layers), double(layer) / double(layers)));
      SDQ_RETURN_IF_ERROR(WriteTensor(shape));
    }
    return Status::Ok();
  }

  // ---- quantized layers ----

  bool tuning() const { return options_.tuning_epochs > 0; }
  // Of layers that are run for statistics; tuning looks at much smaller differences.
  kernels::Precision precision() const {
    return tuning() ? kernels::Precision::kSingle : kernels::Precision::kRounded;
  }

  Status QuantizeLayers() {
    const int64_t layers = checkpoint_.config().layers;
    if (options_.calibration.empty()) {
      if (tuning()) return Status::InvalidArgument("tuning needs calibration text");
      for (int64_t layer = 0; layer < layers; ++layer) {
        SDQ_RETURN_IF_ERROR(QuantizeLayer(layer, nullptr, nullptr));
      }
      return Status::Ok();
    }
    return options_.method == Method::kTrellis ? QuantizeByGroups() : QuantizeByLayers();
  }

  // The published method: Hessians of a whole layer before any of its linears is quantized.
  Status QuantizeByLayers() {
    SDQ_ASSIGN_OR_RETURN(const auto calibration, MakeCalibration());
    std::unique_ptr<Calibration> teacher;
    if (tuning()) {
      SDQ_ASSIGN_OR_RETURN(teacher, MakeCalibration());
    }
    for (int64_t layer = 0; layer < checkpoint_.config().layers; ++layer) {
      SDQ_RETURN_IF_ERROR(QuantizeLayer(layer, calibration.get(), teacher.get()));
    }
    return tuning() ? TuneAndWrite(*teacher) : Status::Ok();
  }

  // The second method: every group of linears sees what the groups before it became.
  Status QuantizeByGroups() {
    SDQ_ASSIGN_OR_RETURN(
        const auto calibration,
        PairedCalibration::Create(checkpoint_, *quantized_tables_, options_.calibration,
                                  options_.calibration_window, options_.correction, tuning()));
    for (int64_t layer = 0; layer < checkpoint_.config().layers; ++layer) {
      SDQ_RETURN_IF_ERROR(QuantizeLayerByGroups(layer, *calibration));
    }
    if (!tuning()) return Status::Ok();
    calibration->DropStudent();
    return TuneAndWrite(*calibration->teacher());
  }

  Result<std::unique_ptr<Calibration>> MakeCalibration() const {
    return Calibration::Create(checkpoint_, options_.calibration, options_.calibration_window);
  }

  Status TuneAndWrite(const Calibration& teacher) {
    SDQ_ASSIGN_OR_RETURN(OuterWeights outer, OuterWeights::Load(*quantized_tables_));
    std::optional<OuterWeights> teacher_outer;
    if (!tables_.empty()) {
      SDQ_ASSIGN_OR_RETURN(teacher_outer, OuterWeights::Load(checkpoint_));
    }
    TuningOptions tuning;
    tuning.window = teacher.window();
    tuning.epochs = options_.tuning_epochs;
    tuning.learning_rate = options_.tuning_rate;
    const auto progress = [&](const TuningProgress& p) {
      const double share = double(p.step + 1) / double(p.steps);
      return Report(fmt::format("tuning step {}/{}, KL {:.4f}", p.step + 1, p.steps, p.kl),
                    kLayersShareWithTuning + (1 - kLayersShareWithTuning) * share)
          .ok();
    };
    const std::span<const TokenId> tokens = std::span(options_.calibration).first(teacher.tokens());
    SDQ_RETURN_IF_ERROR(pending_.Tune(checkpoint_.config(), &outer,
                                      teacher_outer ? *teacher_outer : outer, tokens,
                                      teacher.states(), tuning, progress));
    tuned_ = std::move(outer);
    return pending_.Write(*writer_);
  }

  Status LayerReport(int64_t layer, const std::string& what, double share) {
    const int64_t layers = checkpoint_.config().layers;
    return Report(
        fmt::format("layer {}/{}: {}", layer + 1, layers, what),
        (tuning() ? kLayersShareWithTuning : 1.0) * (double(layer) + share) / double(layers));
  }

  // Progress over calibration windows, from share `from` to `to` of the layer.
  Calibration::Tick TickFor(int64_t layer, const std::string& what, double from, double to) {
    return [this, layer, what, from, to](size_t done, size_t total) {
      const double share = from + (to - from) * double(done) / double(total);
      return LayerReport(layer, what, share).ok();
    };
  }

  Status QuantizeLayer(int64_t layer, Calibration* calibration, Calibration* teacher) {
    SDQ_ASSIGN_OR_RETURN(auto weights, FloatLayer::Load(checkpoint_, layer));
    if (teacher != nullptr) {
      SDQ_RETURN_IF_ERROR(
          teacher->Advance(weights->weights(), TickFor(layer, "running the float layer", 0, 0)));
    }
    const double encode_to = calibration != nullptr ? kCollectShare + kEncodeShare : 1.0;
    std::vector<EncodedLinear> encoded;
    SDQ_ASSIGN_OR_RETURN(const bool restored, Restore(layer, *weights, &encoded));
    if (!restored) {
      SDQ_RETURN_IF_ERROR(EncodeLayer(layer, *weights, encode_to, calibration, &encoded));
      SDQ_RETURN_IF_ERROR(Record(layer, *weights, encoded));
    }
    if (calibration != nullptr && layer + 1 < checkpoint_.config().layers) {
      SDQ_RETURN_IF_ERROR(calibration->Advance(
          weights->weights(), TickFor(layer, "running the quantized layer", encode_to, 1.0)));
    }
    return Keep(std::move(weights), std::move(encoded));
  }

  Status EncodeLayer(int64_t layer, const FloatLayer& weights, double encode_to,
                     Calibration* calibration, std::vector<EncodedLinear>* encoded) {
    LayerHessians hessians;
    double encode_from = 0;
    if (calibration != nullptr) {
      SDQ_ASSIGN_OR_RETURN(
          hessians, calibration->Collect(weights.weights(),
                                         TickFor(layer, "reading calibration", 0, kCollectShare)));
      encode_from = kCollectShare;
    }
    for (const FloatLayer::NamedLinear& linear : weights.linears()) {
      const double share = double(encoded->size()) / double(weights.linears().size());
      SDQ_RETURN_IF_ERROR(LayerReport(layer, "encoding " + linear.name,
                                      encode_from + (encode_to - encode_from) * share));
      const std::vector<double>* hessian =
          calibration != nullptr ? &hessians.For(weights.weights(), linear.linear) : nullptr;
      SDQ_ASSIGN_OR_RETURN(EncodedLinear result, EncodeLinear(linear, hessian, nullptr));
      encoded->push_back(std::move(result));
    }
    return Status::Ok();
  }

  // A layer that an interrupted conversion has finished; false if there is none.
  Result<bool> Restore(int64_t layer, const FloatLayer& weights,
                       std::vector<EncodedLinear>* encoded) {
    if (options_.journal == nullptr) return false;
    SDQ_ASSIGN_OR_RETURN(const bool restored,
                         RestoreLayer(*options_.journal, layer, rates_, weights, encoded));
    for (size_t i = 0; i < encoded->size(); ++i) {
      AddReport(weights.linears()[i].name, (*encoded)[i]);
    }
    return restored;
  }

  Status Record(int64_t layer, const FloatLayer& weights,
                const std::vector<EncodedLinear>& encoded) const {
    if (options_.journal == nullptr) return Status::Ok();
    return RecordLayer(layer, weights, encoded, options_.journal);
  }

  // A finished layer waits for tuning, or is written.
  Status Keep(std::unique_ptr<FloatLayer> layer, std::vector<EncodedLinear> encoded) {
    if (tuning()) {
      pending_.Add(std::move(layer), std::move(encoded));
      return Status::Ok();
    }
    PendingLayers finished;
    finished.Add(std::move(layer), std::move(encoded));
    return finished.Write(*writer_);
  }

  Status QuantizeLayerByGroups(int64_t layer, PairedCalibration& calibration) {
    SDQ_ASSIGN_OR_RETURN(auto weights, FloatLayer::Load(checkpoint_, layer, precision()));
    SDQ_ASSIGN_OR_RETURN(const auto original, FloatLayer::Load(checkpoint_, layer, precision()));
    std::vector<EncodedLinear> encoded;
    SDQ_ASSIGN_OR_RETURN(const bool restored, Restore(layer, *weights, &encoded));
    const auto group = [&](LinearGroup which, double from, double to) {
      if (restored) return calibration.Replay(which, weights->weights());
      return QuantizeGroup(layer, which, from, to, *weights, *original, calibration, &encoded);
    };
    const bool last = layer + 1 == checkpoint_.config().layers;
    SDQ_RETURN_IF_ERROR(group(LinearGroup::kAttnIn, 0.0, 0.15));
    SDQ_RETURN_IF_ERROR(group(LinearGroup::kAttnOut, 0.15, 0.32));
    SDQ_RETURN_IF_ERROR(calibration.Advance(BlockPart::kAttention, weights->weights(),
                                            original->weights(),
                                            TickFor(layer, "running attention", 0.32, 0.45)));
    SDQ_RETURN_IF_ERROR(group(LinearGroup::kFfnIn, 0.45, 0.6));
    SDQ_RETURN_IF_ERROR(group(LinearGroup::kFfnMid, 0.6, 0.85));
    if (!restored) SDQ_RETURN_IF_ERROR(Record(layer, *weights, encoded));
    if (!last || tuning()) {
      SDQ_RETURN_IF_ERROR(calibration.Advance(BlockPart::kFeedForward, weights->weights(),
                                              original->weights(),
                                              TickFor(layer, "running feed-forward", 0.85, 1.0)));
    }
    return Keep(std::move(weights), std::move(encoded));
  }

  // Collects what the group's linears need to know and encodes them, within a share of the layer.
  Status QuantizeGroup(int64_t layer, LinearGroup group, double from, double to,
                       const FloatLayer& weights, const FloatLayer& original,
                       PairedCalibration& calibration, std::vector<EncodedLinear>* encoded) {
    const double middle = from + (to - from) * kCollectShare;
    SDQ_ASSIGN_OR_RETURN(GroupMoments moments,
                         calibration.Collect(group, weights.weights(), original.weights(),
                                             TickFor(layer, "reading calibration", from, middle)));
    const auto in_group = [&](const FloatLayer::NamedLinear& linear) {
      return GroupOf(weights.weights(), linear.linear) == group;
    };
    const bool biased =
        std::all_of(weights.linears().begin(), weights.linears().end(),
                    [&](const auto& linear) { return !in_group(linear) || !linear.bias->empty(); });
    if (biased) moments.Center();
    for (size_t i = 0; i < weights.linears().size(); ++i) {
      const FloatLayer::NamedLinear& linear = weights.linears()[i];
      if (!in_group(linear)) continue;
      SDQ_RETURN_IF_ERROR(LayerReport(layer, "encoding " + linear.name, middle));
      const std::vector<float> shift =
          calibration.Shift(moments, group, *original.linears()[i].linear);
      SDQ_ASSIGN_OR_RETURN(EncodedLinear result, EncodeLinear(linear, &moments.hessian, &shift));
      if (biased) {
        const std::vector<float> change =
            calibration.BiasShift(moments, group, *original.linears()[i].linear, *linear.values);
        kernels::AddInPlace(linear.bias->data(), change.data(), change.size());
      }
      encoded->push_back(std::move(result));
    }
    return Status::Ok();
  }

  // Encodes, and leaves the reconstruction in the float layer.
  Result<EncodedLinear> EncodeLinear(const FloatLayer::NamedLinear& linear,
                                     const std::vector<double>* hessian,
                                     const std::vector<float>* shift) {
    EncodeInput input;
    input.weights = linear.values->data();
    input.rows = linear.linear->rows;
    input.columns = linear.linear->columns;
    input.hessian = hessian;
    input.shift = shift;
    input.damping = options_.damping;
    input.seed = options_.seed;
    const auto start = std::chrono::steady_clock::now();
    Result<EncodedLinear> encoded = Encode(input, rates_.at(linear.name));
    if (!encoded.ok()) return std::move(encoded).status().Annotate(linear.name);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    report_.encoder_seconds += elapsed.count();
    report_.encoded_weights += uint64_t(input.rows) * input.columns;
    AddReport(linear.name, *encoded);
    *linear.values = std::exchange(encoded->reconstructed, {});
    linear.linear->dense.data = linear.values->data();
    return encoded;
  }

  void AddReport(const std::string& name, const EncodedLinear& encoded) {
    report_.linears.push_back({name, encoded.rows, encoded.columns, encoded.decimator.osr(),
                               encoded.BitsPerWeight(), encoded.relative_error,
                               LossOf(name, encoded.row_errors)});
  }

  std::optional<double> LossOf(const std::string& name, const std::vector<double>& errors) const {
    const auto costs = options_.row_costs.find(name);
    if (costs == options_.row_costs.end() || costs->second.size() != errors.size()) {
      return std::nullopt;
    }
    return std::inner_product(errors.begin(), errors.end(), costs->second.begin(), 0.0);
  }

  Result<EncodedLinear> Encode(const EncodeInput& input, Rate rate) const {
    if (options_.method == Method::kPublished) {
      PublishedOptions published = options_.published;
      published.alphabet = options_.alphabet;
      published.osr_num = rate.num;
      published.osr_den = rate.den;
      return EncodePublished(input, published);
    }
    return EncodeTrellis(input, TrellisOptionsOf(options_, rate));
  }

  // ---- the end ----

  void FinishReport() {
    double weights = 0, samples = 0, bits = 0;
    for (const LinearReport& linear : report_.linears) {
      const double n = double(linear.rows) * double(linear.columns);
      weights += n;
      samples += n * linear.osr;
      bits += n * linear.bits_per_weight;
    }
    if (weights == 0) return;
    report_.mean_osr = samples / weights;
    report_.bits_per_weight = bits / weights;
  }

  const Checkpoint& checkpoint_;
  const ConvertOptions& options_;
  const ProgressCallback& progress_;
  std::map<std::string, Rate> rates_;
  StoredTables tables_;
  std::unique_ptr<Checkpoint> quantized_tables_;  // the checkpoint with them
  PendingLayers pending_;                         // layers that wait for tuning
  std::optional<OuterWeights> tuned_;             // final norm after tuning
  std::unique_ptr<format::SdqWriter> writer_;
  ConvertReport report_;
};

}  // namespace

TrellisOptions TrellisOptionsOf(const ConvertOptions& options, Rate rate) {
  TrellisOptions trellis;
  trellis.alphabet = options.alphabet;
  trellis.osr_num = rate.num;
  trellis.osr_den = rate.den;
  trellis.window = options.window;
  trellis.derived = options.derived;
  trellis.scale_tries = options.scale_tries;
  return trellis;
}

const char* MethodName(Method method) {
  switch (method) {
    case Method::kFloat:
      return "float";
    case Method::kPublished:
      return "sdq";
    case Method::kTrellis:
      return "trellis";
  }
  return "";
}

const char* AlphabetName(format::Alphabet alphabet) {
  switch (alphabet) {
    case format::Alphabet::kBinary:
      return "binary";
    case format::Alphabet::kTernaryPlanes:
      return "ternary-planes";
    case format::Alphabet::kTernaryPacked:
      return "ternary";
  }
  return "";
}

Result<ConvertReport> Convert(const Checkpoint& checkpoint, const ConvertOptions& options,
                              const std::string& path, const ProgressCallback& progress) {
  if (options.method != Method::kFloat && !(options.osr >= 0.25 && options.osr <= 16)) {
    return Status::OutOfRange(fmt::format("OSR {}: must be between 0.25 and 16", options.osr));
  }
  return Conversion(checkpoint, options, progress).Run(path);
}

}  // namespace sdq::converter
