#include "converter/paired_calibration.h"

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "kernels/dense.h"
#include "kernels/tile_product.h"
#include "kernels/vector_math.h"

namespace sdq::converter {
namespace {

// Tokens whose moments are added up together: sums of H are read and written once for them.
constexpr size_t kBatchTokens = 2048;

// The linear whose tap stands for its group.
const Linear& Representative(const LayerWeights& layer, LinearGroup group) {
  switch (group) {
    case LinearGroup::kAttnIn:
      return layer.q;
    case LinearGroup::kAttnOut:
      return layer.o;
    case LinearGroup::kFfnIn:
      return layer.up;
    case LinearGroup::kFfnMid:
      return layer.down;
  }
  return layer.q;
}

BlockPart PartOf(LinearGroup group) {
  const bool attention = group == LinearGroup::kAttnIn || group == LinearGroup::kAttnOut;
  return attention ? BlockPart::kAttention : BlockPart::kFeedForward;
}

bool AddsToResidual(LinearGroup group) {
  return group == LinearGroup::kAttnOut || group == LinearGroup::kFfnMid;
}

void Scale(std::vector<double>* values, double factor) {
  for (double& value : *values) value *= factor;
}

// sums[n] += rows of x[tokens][n], tokens ascending.
void AddRows(const std::vector<float>& x, size_t tokens, std::vector<double>* sums) {
  const size_t n = sums->size();
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t i = 0; i < n; ++i) (*sums)[i] += double(x[t * n + i]);
  }
}

// to[tokens][linear.columns] from rows `stride` apart.
void CopyRows(const float* from, size_t tokens, size_t stride, const Linear& linear, float* to) {
  for (size_t t = 0; t < tokens; ++t) {
    std::copy_n(from + t * stride, linear.columns, to + t * linear.columns);
  }
}

// To bfloat16, to nearest even.
void Round(const float* from, size_t count, uint16_t* to) {
  for (size_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<uint32_t>(from[i]);
    to[i] = uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
}

void RoundInPlace(std::vector<float>* values) {
  for (float& value : *values) {
    uint16_t rounded = 0;
    Round(&value, 1, &rounded);
    value = std::bit_cast<float>(uint32_t{rounded} << 16);
  }
}

// matrix[rows][columns] -= a b^T
void SubtractOuter(const std::vector<double>& a, const std::vector<double>& b,
                   std::vector<double>* matrix) {
  for (size_t i = 0; i < a.size(); ++i) {
    double* row = matrix->data() + i * b.size();
    for (size_t j = 0; j < b.size(); ++j) row[j] -= a[i] * b[j];
  }
}

double Dot(const float* a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < b.size(); ++i) sum += double(a[i]) * b[i];
  return sum;
}

}  // namespace

void GroupMoments::Center() {
  SubtractOuter(input_mean, input_mean, &hessian);
  // Rounding may leave less than nothing of an input that never changes.
  const size_t n = input_mean.size();
  for (size_t i = 0; i < n; ++i) hessian[i * n + i] = std::max(hessian[i * n + i], 0.0);
  if (!cross.empty()) SubtractOuter(cross_mean, input_mean, &cross);
}

LinearGroup GroupOf(const LayerWeights& weights, const Linear* linear) {
  if (linear == &weights.o) return LinearGroup::kAttnOut;
  if (linear == &weights.gate || linear == &weights.up) return LinearGroup::kFfnIn;
  if (linear == &weights.down) return LinearGroup::kFfnMid;
  return LinearGroup::kAttnIn;
}

Result<std::unique_ptr<PairedCalibration>> PairedCalibration::Create(
    const Checkpoint& checkpoint, const Checkpoint& embedding, const std::vector<TokenId>& tokens,
    size_t window, const CorrectionOptions& options, bool teacher) {
  std::unique_ptr<PairedCalibration> result(new PairedCalibration());
  SDQ_ASSIGN_OR_RETURN(result->student_, Calibration::Create(embedding, tokens, window));
  if (teacher || options.any()) {
    SDQ_ASSIGN_OR_RETURN(result->teacher_, Calibration::Create(checkpoint, tokens, window));
  }
  result->options_ = options;
  result->pre_norm_ = checkpoint.config().pre_norm;
  return result;
}

// The group's inputs of one window, [window][columns].
void PairedCalibration::RunToGroup(Calibration& model, size_t window, LinearGroup group,
                                   const LayerWeights& layer, float* x) {
  const std::span<const float> states = model.WindowStates(window);
  scratch_.assign(states.begin(), states.end());
  const LinearTap tap = [&](const Linear& linear, const float* input, size_t tokens,
                            size_t stride) {
    if (GroupOf(layer, &linear) != group) return true;
    if (&linear == &Representative(layer, group)) CopyRows(input, tokens, stride, linear, x);
    return false;
  };
  model.RunWindow(layer, PartOf(group), scratch_.data(), tap);
}

// The same for the float model, whose states go through the sub-block.
void PairedCalibration::RunThroughGroup(size_t window, LinearGroup group, const LayerWeights& layer,
                                        float* x) {
  const LinearTap tap = [&](const Linear& linear, const float* input, size_t tokens,
                            size_t stride) {
    if (&linear == &Representative(layer, group)) CopyRows(input, tokens, stride, linear, x);
    return true;
  };
  teacher_->RunWindow(layer, PartOf(group), teacher_->WindowStates(window).data(), tap);
}

// Of one window, from the inputs x of the quantized model: e = x_f - x, or for groups that add to
// the residual stream e = alpha W (x_f - x) + rho (r_f - r).
void PairedCalibration::CollectErrors(size_t window, LinearGroup group,
                                      const LayerWeights& original, const float* x, float* e) {
  const Linear& linear = Representative(original, group);
  const size_t count = student_->window() * linear.columns;
  if (!AddsToResidual(group)) {
    RunToGroup(*teacher_, window, group, original, e);
    for (size_t i = 0; i < count; ++i) e[i] -= x[i];
    return;
  }
  const std::span<const float> wanted = teacher_->WindowStates(window);
  const std::span<const float> actual = student_->WindowStates(window);
  for (size_t i = 0; i < wanted.size(); ++i) {
    e[i] = float(options_.residual) * (wanted[i] - actual[i]);
  }
  std::vector<float>& inputs = inputs_of_window_;
  inputs.resize(count);
  RunThroughGroup(window, group, original, inputs.data());
  for (size_t i = 0; i < count; ++i) inputs[i] -= x[i];
  outputs_.resize(wanted.size());
  kernels::DenseMatrix matrix = linear.dense;
  matrix.bias = nullptr;
  kernels::DenseProduct(matrix, inputs.data(), student_->window(), linear.columns, outputs_.data(),
                        linear.rows);
  for (size_t i = 0; i < outputs_.size(); ++i) e[i] += float(options_.inputs) * outputs_[i];
}

bool PairedCalibration::BeginKeeping(LinearGroup group, const Linear& linear) {
  // What a rounded product will round anyway may be kept rounded.
  const bool keep =
      AddsToResidual(group) && pre_norm_ && linear.dense.precision == kernels::Precision::kRounded;
  kept_ = keep ? std::optional(PartOf(group)) : std::nullopt;
  kept_inputs_.resize(keep ? tokens() * linear.columns : 0);
  return keep;
}

Status PairedCalibration::Replay(LinearGroup group, const LayerWeights& quantized) {
  const Linear& linear = Representative(quantized, group);
  if (!BeginKeeping(group, linear)) return Status::Ok();
  const size_t count = student_->window() * linear.columns;
  inputs_of_window_.resize(count);
  for (size_t w = 0; w < student_->windows(); ++w) {
    RunToGroup(*student_, w, group, quantized, inputs_of_window_.data());
    Round(inputs_of_window_.data(), count, &kept_inputs_[w * count]);
  }
  return Status::Ok();
}

Result<GroupMoments> PairedCalibration::Collect(LinearGroup group, const LayerWeights& quantized,
                                                const LayerWeights& original,
                                                const Calibration::Tick& tick) {
  const Linear& linear = Representative(original, group);
  const kernels::Precision precision = linear.dense.precision;
  const size_t n = linear.columns;
  const bool leaves = AddsToResidual(group);
  const size_t m = leaves ? linear.rows : n;
  const bool correct = leaves ? options_.any() : options_.inputs != 0;
  if (leaves && teacher_ahead_) {
    return Status::InvalidArgument("calibration: a group's moments are collected once");
  }
  GroupMoments moments;
  moments.hessian.assign(n * n, 0.0);
  moments.input_mean.assign(n, 0.0);
  if (correct) {
    moments.cross.assign(m * n, 0.0);
    moments.cross_mean.assign(m, 0.0);
  }
  const size_t window = student_->window();
  const size_t windows = student_->windows();
  const bool keep = BeginKeeping(group, linear);
  const size_t batch = std::min(windows, std::max<size_t>(1, kBatchTokens / window));
  std::vector<float> x(batch * window * n), e(correct ? batch * window * m : 0);
  for (size_t first = 0; first < windows; first += batch) {
    const size_t count = std::min(batch, windows - first);
    for (size_t i = 0; i < count; ++i) {
      float* inputs = &x[i * window * n];
      RunToGroup(*student_, first + i, group, quantized, inputs);
      if (keep) Round(inputs, window * n, &kept_inputs_[(first + i) * window * n]);
      if (correct) {
        CollectErrors(first + i, group, original, inputs, &e[i * window * m]);
      } else if (leaves && teacher_ != nullptr) {
        teacher_->RunWindow(original, PartOf(group), teacher_->WindowStates(first + i).data(),
                            LinearTap());
      }
      if (tick && !tick(first + i + 1, windows)) return Status::Cancelled("interrupted");
    }
    const size_t rows = count * window;
    if (precision == kernels::Precision::kRounded && kernels::TileProductsAvailable()) {
      // Covariances are those of what is multiplied: with means of anything else, an input that
      // hardly varies leaves a matrix that is not positive definite.
      RoundInPlace(&x);
      RoundInPlace(&e);
    }
    kernels::AccumulateGramUpper(x.data(), rows, n, n, moments.hessian.data(), precision);
    AddRows(x, rows, &moments.input_mean);
    if (!correct) continue;
    kernels::AccumulateCross(e.data(), m, x.data(), n, rows, moments.cross.data(), precision);
    AddRows(e, rows, &moments.cross_mean);
  }
  if (leaves) teacher_ahead_ = PartOf(group);
  kernels::MirrorUpper(n, moments.hessian.data());
  for (auto* sums : {&moments.hessian, &moments.cross, &moments.input_mean, &moments.cross_mean}) {
    Scale(sums, 1.0 / double(tokens()));
  }
  return moments;
}

std::vector<float> PairedCalibration::Shift(const GroupMoments& moments, LinearGroup group,
                                            const Linear& original) const {
  if (moments.cross.empty()) return {};
  std::vector<float> cross(moments.cross.begin(), moments.cross.end());
  if (AddsToResidual(group)) return cross;
  const size_t n = original.columns;
  for (float& value : cross) value *= float(options_.inputs);
  std::vector<float> shift(original.rows * n);
  kernels::MatMul(static_cast<const float*>(original.dense.data), n, cross.data(), n, shift.data(),
                  n, original.rows, n, n, false, original.dense.precision);
  return shift;
}

std::vector<float> PairedCalibration::BiasShift(const GroupMoments& moments, LinearGroup group,
                                                const Linear& original,
                                                const std::vector<float>& reconstructed) const {
  const size_t n = original.columns;
  const auto* weights = static_cast<const float*>(original.dense.data);
  std::vector<float> shift(original.rows);
  for (size_t r = 0; r < original.rows; ++r) {
    double sum = Dot(weights + r * n, moments.input_mean) -
                 Dot(reconstructed.data() + r * n, moments.input_mean);
    if (!moments.cross_mean.empty()) {
      sum += AddsToResidual(group) ? moments.cross_mean[r]
                                   : options_.inputs * Dot(weights + r * n, moments.cross_mean);
    }
    shift[r] = float(sum);
  }
  return shift;
}

void PairedCalibration::AdvanceStudent(size_t window, BlockPart part,
                                       const LayerWeights& quantized) {
  const std::span<float> states = student_->WindowStates(window);
  if (kept_ != part) {
    student_->RunWindow(quantized, part, states.data(), LinearTap());
    return;
  }
  const Linear& linear = part == BlockPart::kAttention ? quantized.o : quantized.down;
  const size_t count = student_->window() * linear.columns;
  std::vector<float>& inputs = inputs_of_window_;
  inputs.resize(count);
  for (size_t i = 0; i < count; ++i) {
    inputs[i] = std::bit_cast<float>(uint32_t(kept_inputs_[window * count + i]) << 16);
  }
  outputs_.resize(states.size());
  kernels::DenseProduct(linear.dense, inputs.data(), student_->window(), linear.columns,
                        outputs_.data(), linear.rows);
  kernels::AddInPlace(states.data(), outputs_.data(), states.size());
}

Status PairedCalibration::Advance(BlockPart part, const LayerWeights& quantized,
                                  const LayerWeights& original, const Calibration::Tick& tick) {
  const bool run_teacher = teacher_ != nullptr && teacher_ahead_ != part;
  for (size_t w = 0; w < student_->windows(); ++w) {
    AdvanceStudent(w, part, quantized);
    if (run_teacher) {
      teacher_->RunWindow(original, part, teacher_->WindowStates(w).data(), LinearTap());
    }
    if (tick && !tick(w + 1, student_->windows())) return Status::Cancelled("interrupted");
  }
  teacher_ahead_.reset();
  kept_.reset();
  kept_inputs_ = {};
  return Status::Ok();
}

}  // namespace sdq::converter
