// The published method (SDQ-LLM, arXiv 2510.03275): block Hadamard, upsampling, greedy sigma-delta
// modulator, ideal low-pass, error feedback from block to block.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>

#include "converter/block_coder.h"
#include "converter/block_feedback.h"
#include "converter/encoder.h"
#include "converter/objective.h"
#include "converter/parameter_search.h"
#include "converter/reconstruct.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

constexpr size_t kSearchRows = 256;  // rows' blocks that the grid search tries
constexpr size_t kChunkRows = 32;    // rows that share a resampling product

bool InUnitInterval(double p) { return p >= 0 && p <= 1; }

Status ValidateOptions(const PublishedOptions& options) {
  if (options.order != 1 && options.order != 2) {
    return Status::InvalidArgument("modulator order must be 1 or 2, not " +
                                   std::to_string(options.order));
  }
  if (options.osr_den == 0 || options.osr_num < options.osr_den) {
    return Status::InvalidArgument("over-sampling ratio " + std::to_string(options.osr_num) + "/" +
                                   std::to_string(options.osr_den) + " is below 1");
  }
  if (options.block == 0) return Status::InvalidArgument("block of 0 columns");
  if (options.grid_search) return Status::Ok();
  if (!(options.scale > 0) || !std::isfinite(options.scale) ||
      !InUnitInterval(options.scale_quantile) || !InUnitInterval(options.cut_quantile)) {
    return Status::InvalidArgument("modulator scale must be positive, its quantiles in [0, 1]");
  }
  return Status::Ok();
}

Status ValidateInput(const EncodeInput& input) {
  if (input.weights == nullptr || input.rows == 0 || input.columns == 0 ||
      input.rows > format::kMaxDimension || input.columns > format::kMaxDimension) {
    return Status::InvalidArgument("matrix of " + std::to_string(input.rows) + " x " +
                                   std::to_string(input.columns) + " cannot be encoded");
  }
  const float* end = input.weights + input.rows * input.columns;
  if (!std::all_of(input.weights, end, [](float w) { return std::isfinite(w); })) {
    return Status::InvalidArgument("weights are not all finite");
  }
  return Status::Ok();
}

// The part of a row's rotation that turns columns [begin, begin + width): signs are a function of
// seed + (i + 1) * increment (kernels/rotation.h), so that a shifted seed shifts the column.
kernels::Rotation BlockRotation(size_t begin, size_t width, uint64_t seed) {
  constexpr uint64_t kIncrement = 0x9E3779B97F4A7C15u;
  return kernels::Rotation(width, width, seed + uint64_t(begin) * kIncrement);
}

class PublishedEncoder {
 public:
  PublishedEncoder(const EncodeInput& input, const PublishedOptions& options)
      : input_(input), options_(options) {
    const uint32_t columns = uint32_t(input.columns);
    const uint32_t divisor = std::gcd(options.osr_num, options.osr_den);
    out_.rows = uint32_t(input.rows);
    out_.columns = columns;
    out_.alphabet = options.alphabet;
    out_.granularity = format::ScaleGranularity::kBlock;
    out_.decimator.kind = format::DecimatorKind::kIdealLowPass;
    out_.decimator.osr_num = options.osr_num / divisor;
    out_.decimator.osr_den = options.osr_den / divisor;
    out_.decimator.block = std::min(options.block, columns);
    out_.rotation.kind = format::RotationKind::kHadamard;
    out_.rotation.block = out_.decimator.block;
    out_.rotation.sign_seed = input.seed;
  }

  Result<EncodedLinear> Run() {
    SDQ_RETURN_IF_ERROR(format::ValidateDecimator(out_.decimator, out_.columns));
    SDQ_RETURN_IF_ERROR(format::ValidateRotation(out_.rotation, out_.columns));
    std::optional<Feedback> feedback;
    if (input_.hessian != nullptr) {
      SDQ_ASSIGN_OR_RETURN(feedback,
                           FactorHessian(*input_.hessian, input_.columns, input_.damping));
    }
    Allocate();
    ChooseParameters();
    EncodeBlocks(feedback ? &*feedback : nullptr);
    Finish();
    return std::move(out_);
  }

 private:
  void Allocate() {
    blocks_ = format::BlockCount(out_.decimator, out_.columns);
    row_samples_ = format::RowSamples(out_.decimator, out_.columns);
    samples_.resize(input_.rows * row_samples_);
    scales_.resize(input_.rows * blocks_);
    means_.resize(input_.rows * blocks_);
    parameters_ = {options_.scale, options_.scale_quantile, options_.cut_quantile};
  }

  BlockCoder CoderOf(uint32_t block) const {
    const bool ternary = options_.alphabet != format::Alphabet::kBinary;
    return BlockCoder(format::BlockColumns(out_.decimator, out_.columns, block),
                      format::BlockSamples(out_.decimator, out_.columns, block),
                      Modulator{options_.order, ternary});
  }

  // On full blocks, evenly spread over rows and columns, before any error feedback.
  void ChooseParameters() {
    if (!options_.grid_search) return;
    const size_t width = out_.decimator.block;
    const size_t full_blocks = input_.columns / width;
    const size_t count = std::min(kSearchRows, input_.rows * full_blocks);
    std::vector<float> v(count * width);
    for (size_t i = 0; i < count; ++i) {
      const size_t row = i * input_.rows / count;
      const size_t begin = i % full_blocks * width;
      float* out = v.data() + i * width;
      std::copy_n(input_.weights + row * input_.columns + begin, width, out);
      BlockRotation(begin, width, input_.seed).Apply(out);
    }
    parameters_ = SearchParameters(CoderOf(0), v, count).parameters;
  }

  void EncodeBlocks(const Feedback* feedback) {
    std::optional<BlockFeedback> compensation;
    if (feedback != nullptr) {
      compensation.emplace(
          input_.weights, input_.rows, *feedback,
          options_.diagonal_compensation ? Compensation::kDiagonal : Compensation::kExact);
    }
    std::optional<BlockCoder> coder = CoderOf(0);
    for (uint32_t b = 0; b < blocks_; ++b) {
      const size_t begin = size_t(b) * out_.decimator.block;
      const size_t end = begin + format::BlockColumns(out_.decimator, out_.columns, b);
      if (end - begin != coder->columns()) coder = CoderOf(b);
      std::vector<float> targets(input_.rows * (end - begin));
      if (compensation) {
        compensation->Targets(begin, end, targets.data());
      } else {
        CopyColumns(begin, end, &targets);
      }
      std::vector<float> quantized = targets;
      EncodeBlock(*coder, b, &quantized);
      if (compensation) compensation->Store(begin, end, targets.data(), quantized.data());
    }
  }

  // v: targets of block b in, their reconstruction out, [rows][width] in the original basis.
  void EncodeBlock(const BlockCoder& coder, uint32_t b, std::vector<float>* v) {
    const size_t width = coder.columns();
    const size_t begin = size_t(b) * out_.decimator.block;
    const kernels::Rotation rotation = BlockRotation(begin, width, input_.seed);
    rotation.ApplyRows(v->data(), input_.rows, width);
    // All blocks before the last are full.
    const size_t first_sample = size_t(b) * format::BlockSamples(out_.decimator, out_.columns, 0);
    kernels::ParallelFor(input_.rows, kChunkRows, [&](size_t first, size_t last, size_t) {
      for (size_t r = first; r < last; r += kChunkRows) {
        EncodeRows(coder, b, first_sample, r, std::min(kChunkRows, last - r),
                   v->data() + r * width);
      }
    });
    rotation.InverseRows(v->data(), input_.rows, width);
  }

  void EncodeRows(const BlockCoder& coder, uint32_t b, size_t first_sample, size_t row, size_t rows,
                  float* v) {
    const size_t count = coder.samples();
    std::vector<BlockSamples> blocks;
    coder.Analyze(v, rows, &blocks);
    std::vector<int8_t> q(rows * count);
    std::vector<float> scales(rows);
    std::vector<float> means(rows);
    for (size_t r = 0; r < rows; ++r) {
      int8_t* q_row = q.data() + r * count;
      scales[r] = coder.Modulate(blocks[r], parameters_, q_row);
      means[r] = blocks[r].mean;
      std::copy_n(q_row, count, samples_.data() + (row + r) * row_samples_ + first_sample);
      scales_[(row + r) * blocks_ + b] = scales[r];
      means_[(row + r) * blocks_ + b] = means[r];
    }
    coder.Reconstruct(q.data(), scales.data(), means.data(), rows, v);
  }

  void CopyColumns(size_t begin, size_t end, std::vector<float>* block) const {
    const size_t width = end - begin;
    for (size_t r = 0; r < input_.rows; ++r) {
      std::copy_n(input_.weights + r * input_.columns + begin, width, block->data() + r * width);
    }
  }

  void Finish() {
    out_.bits = PackSamples(samples_, out_.rows, out_.columns, out_.decimator, out_.alphabet);
    PackScales(scales_, &out_.scales_f16, &out_.scale_base);
    PackScales(means_, &out_.means_f16, &out_.mean_base);
    out_.reconstructed = Reconstruct(out_);
    ObjectiveErrors errors = MeasureErrors(input_, out_.reconstructed);
    out_.relative_error = errors.relative;
    out_.row_errors = std::move(errors.rows);
  }

  const EncodeInput& input_;
  const PublishedOptions& options_;
  EncodedLinear out_;
  CodingParameters parameters_;
  size_t blocks_ = 0;
  size_t row_samples_ = 0;
  std::vector<int8_t> samples_;  // [rows][row_samples]
  std::vector<float> scales_;    // [rows][blocks], in f16 precision
  std::vector<float> means_;
};

}  // namespace

Result<EncodedLinear> EncodePublished(const EncodeInput& input, const PublishedOptions& options) {
  SDQ_RETURN_IF_ERROR(ValidateOptions(options));
  SDQ_RETURN_IF_ERROR(ValidateInput(input));
  return PublishedEncoder(input, options).Run();
}

}  // namespace sdq::converter
