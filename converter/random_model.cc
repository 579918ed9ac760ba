#include "converter/random_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <utility>

#include "converter/conversion_metadata.h"
#include "converter/dense_tensor.h"
#include "converter/random_bits.h"
#include "converter/stored_shape.h"
#include "format/byte_codec.h"
#include "format/writer.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

constexpr size_t kTile = format::kTileRows;

// How many samples each byte of a row holds: fewer than the most only where a block ends.
std::vector<uint8_t> SamplesPerByte(const EncodedLinear& linear) {
  const uint32_t most = linear.alphabet == format::Alphabet::kTernaryPacked ? 5 : 8;
  std::vector<uint8_t> counts;
  for (uint32_t b = 0; b < format::BlockCount(linear.decimator, linear.columns); ++b) {
    uint32_t left = format::BlockSamples(linear.decimator, linear.columns, b);
    for (; left > 0; left -= std::min(left, most)) counts.push_back(uint8_t(std::min(left, most)));
  }
  return counts;
}

// The same `samples` low bits in each byte of a word.
uint64_t BitMask(unsigned samples) { return ((1u << samples) - 1) * 0x0101010101010101u; }

void BinaryBytes(SplitMix64& random, unsigned samples, uint8_t* out) {
  for (size_t r = 0; r < kTile; r += 8) format::StoreLe(random.Next() & BitMask(samples), out + r);
}

// A quarter plus, a quarter minus, no sample both.
void PlaneBytes(SplitMix64& random, unsigned samples, uint8_t* plus, uint8_t* minus) {
  for (size_t r = 0; r < kTile; r += 8) {
    const uint64_t sign = random.Next();
    const uint64_t used = random.Next() & BitMask(samples);
    format::StoreLe(sign & used, plus + r);
    format::StoreLe(~sign & used, minus + r);
  }
}

// Uniform over the 3^samples values.
void PackedBytes(SplitMix64& random, unsigned samples, uint8_t* out) {
  constexpr unsigned kPowers[] = {1, 3, 9, 27, 81, 243};
  for (size_t r = 0; r < kTile; r += 4) {
    uint64_t word = random.Next();
    for (size_t i = 0; i < 4; ++i, word >>= 16) {
      out[r + i] = format::PackedByte(unsigned((word & 0xffff) * kPowers[samples] >> 16));
    }
  }
}

void FillTile(format::Alphabet alphabet, const std::vector<uint8_t>& samples_per_byte,
              SplitMix64 random, uint8_t* tile) {
  const size_t plane = samples_per_byte.size() * kTile;
  for (size_t k = 0; k < samples_per_byte.size(); ++k) {
    uint8_t* at = tile + k * kTile;
    switch (alphabet) {
      case format::Alphabet::kBinary:
        BinaryBytes(random, samples_per_byte[k], at);
        break;
      case format::Alphabet::kTernaryPlanes:
        PlaneBytes(random, samples_per_byte[k], at, at + plane);
        break;
      case format::Alphabet::kTernaryPacked:
        PackedBytes(random, samples_per_byte[k], at);
        break;
    }
  }
}

void FillBits(uint64_t seed, EncodedLinear* linear) {
  const std::vector<uint8_t> samples_per_byte = SamplesPerByte(*linear);
  const size_t planes = linear->alphabet == format::Alphabet::kTernaryPlanes ? 2 : 1;
  const size_t tile_bytes = planes * samples_per_byte.size() * kTile;
  const size_t tiles = (linear->rows + kTile - 1) / kTile;
  linear->bits.assign(tiles * tile_bytes + format::kReadSlack, uint8_t{0});
  kernels::ParallelFor(tiles, 1, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      uint8_t* tile = linear->bits.data() + t * tile_bytes;
      const SplitMix64 random(SplitMix64(seed + t).Next());
      FillTile(linear->alphabet, samples_per_byte, random, tile);
      const size_t rows = std::min(kTile, linear->rows - t * kTile);
      for (size_t k = 0; k < planes * samples_per_byte.size(); ++k) {
        std::fill(tile + k * kTile + rows, tile + (k + 1) * kTile, uint8_t{0});
      }
    }
  });
}

// Mean square of a weight decoded from random samples, before its scale.
double DecodedPower(const EncodedLinear& linear) {
  double power = 1.0;  // mean square of a sample
  if (linear.alphabet == format::Alphabet::kTernaryPlanes) power = 1.0 / 2;
  if (linear.alphabet == format::Alphabet::kTernaryPacked) power = 2.0 / 3;
  const format::DecimatorSpec& decimator = linear.decimator;
  if (decimator.kind == format::DecimatorKind::kIdealLowPass) return power / decimator.osr();
  const std::vector<float>& taps = decimator.taps;
  const float squares = std::inner_product(taps.begin(), taps.end(), taps.begin(), 0.0f);
  return power * double(squares) / decimator.osr_den;
}

// Uniform in [-1, 1).
float Symmetric(SplitMix64& random) { return float(random.Next() >> 40) * 0x1p-23f - 1.0f; }

// Scales of every row (and block) within a quarter of what keeps a product's power; means, where
// the method has them, of the size that a block's mean has by chance.
void FillScales(uint64_t seed, EncodedLinear* linear, bool with_means) {
  const bool per_block = linear->granularity == format::ScaleGranularity::kBlock;
  const size_t blocks =
      per_block ? format::BlockCount(linear->decimator, linear->columns) : size_t{1};
  const float typical = float(std::sqrt(1.0 / (linear->columns * DecodedPower(*linear))));
  SplitMix64 random(seed);
  std::vector<float> values(linear->rows * blocks);
  for (float& scale : values) scale = typical * (1.0f + 0.25f * Symmetric(random));
  PackScales(values, &linear->scales_f16, &linear->scale_base);
  if (!with_means) return;
  for (float& mean : values) mean = 0.1f * typical * Symmetric(random);
  PackScales(values, &linear->means_f16, &linear->mean_base);
}

class RandomModel {
 public:
  RandomModel(const Checkpoint& shape, const ConvertOptions& options,
              const ProgressCallback& progress)
      : shape_(shape), options_(options), progress_(progress) {}

  Result<ConvertReport> Write(const std::string& path) {
    for (const NamedRate& named : options_.rates) rates_[named.name] = named.rate;
    SDQ_ASSIGN_OR_RETURN(writer_, format::SdqWriter::Create(path));
    const std::vector<TensorShape> tensors = ExpectedTensors(shape_.config());
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (progress_ && !progress_({tensors[i].name, double(i) / double(tensors.size())})) {
        return Status::Cancelled("interrupted");
      }
      SDQ_RETURN_IF_ERROR(Add(tensors[i]));
    }
    FinishReport();
    SDQ_ASSIGN_OR_RETURN(const format::Metadata metadata, MakeMetadata());
    SDQ_RETURN_IF_ERROR(writer_->Finish(metadata));
    report_.file_bytes = writer_->bytes_written();
    return std::move(report_);
  }

 private:
  Status Add(const TensorShape& tensor) {
    if (tensor.optional && !shape_.Has(tensor.name)) return Status::Ok();
    std::vector<float> bias;
    if (tensor.is_linear && shape_.Has(tensor.name + ".bias")) {
      SDQ_RETURN_IF_ERROR(shape_.Read(tensor.name + ".bias", &bias));
    }
    if (tensor.is_linear && tensor.name.starts_with("layers.")) {
      const auto found = rates_.find(tensor.name);
      return AddStream(tensor,
                       found != rates_.end() ? found->second : NearestRate(options_.osr, 16), bias,
                       &report_.linears);
    }
    const TableStorage* table = TableStorageOf(options_, tensor.name);
    if (table != nullptr && table->type == TableType::kStream) {
      return AddStream(tensor, table->rate, {}, &report_.tables);
    }
    std::vector<float> values;
    SDQ_RETURN_IF_ERROR(shape_.Read(tensor.name, &values));
    return WriteDense(*writer_, tensor.name, uint32_t(tensor.rows), uint32_t(tensor.columns),
                      values, StoredDenseType(shape_, options_, tensor), bias);
  }

  Status AddStream(const TensorShape& tensor, Rate rate, const std::vector<float>& bias,
                   std::vector<LinearReport>* reports) {
    EncodedLinear linear;
    linear.rows = uint32_t(tensor.rows);
    linear.columns = uint32_t(tensor.columns);
    linear.alphabet = options_.alphabet;
    Result<StreamShape> stream = DescribeStream(options_, linear.columns, rate);
    if (!stream.ok()) return std::move(stream).status().Annotate(tensor.name);
    linear.rotation = stream->rotation;
    linear.decimator = stream->decimator;
    linear.granularity = stream->granularity;
    const uint64_t seed = HashName(tensor.name) ^ options_.seed;
    try {
      FillBits(seed, &linear);
    } catch (const std::bad_alloc&) {
      return Status::ResourceExhausted("no memory for the bitstream of " + tensor.name);
    }
    FillScales(~seed, &linear, stream->has_means);
    format::StreamView view = linear.View(tensor.name);
    view.bias = bias;
    SDQ_RETURN_IF_ERROR(writer_->Add(view));
    reports->push_back({tensor.name, linear.rows, linear.columns, linear.decimator.osr(),
                        linear.BitsPerWeight(), 0.0});
    return Status::Ok();
  }

  void FinishReport() {
    double weights = 0;
    for (const LinearReport& linear : report_.linears) {
      const double n = double(linear.rows) * double(linear.columns);
      weights += n;
      report_.mean_osr += n * linear.osr;
      report_.bits_per_weight += n * linear.bits_per_weight;
    }
    report_.mean_osr /= weights;
    report_.bits_per_weight /= weights;
  }

  Result<format::Metadata> MakeMetadata() const {
    SDQ_ASSIGN_OR_RETURN(format::Metadata metadata, CheckpointMetadata(shape_));
    metadata.Set("quantization.method", std::string(MethodName(options_.method)));
    metadata.Set("quantization.alphabet", std::string(AlphabetName(options_.alphabet)));
    metadata.Set("quantization.target_osr", options_.osr);
    metadata.Set("quantization.mean_osr", report_.mean_osr);
    metadata.Set("quantization.bits_per_weight", report_.bits_per_weight);
    metadata.Set("quantization.seed", int64_t(options_.seed));
    if (options_.method == Method::kTrellis) {
      if (options_.window != kWindowByRate) {
        metadata.Set("quantization.window", int64_t(options_.window));
      }
      if (!options_.derived) metadata.Set("quantization.derived", false);
    } else {
      metadata.Set("quantization.block", int64_t(options_.published.block));
    }
    return metadata;
  }

  const Checkpoint& shape_;
  const ConvertOptions& options_;
  const ProgressCallback& progress_;
  std::map<std::string, Rate> rates_;
  std::unique_ptr<format::SdqWriter> writer_;
  ConvertReport report_;
};

}  // namespace

Result<ConvertReport> WriteRandomModel(const Checkpoint& shape, const ConvertOptions& options,
                                       const std::string& path, const ProgressCallback& progress) {
  if (options.method == Method::kFloat) {
    return Status::InvalidArgument("a float model has no bitstreams to make up");
  }
  return RandomModel(shape, options, progress).Write(path);
}

}  // namespace sdq::converter
