#include "converter/paired_calibration.h"

#include <algorithm>
#include <utility>

#include "kernels/dense.h"
#include "kernels/parallel.h"

namespace sdq::converter {
namespace {

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
void AddRows(const std::vector<float>& x, std::vector<double>* sums) {
  const size_t n = sums->size();
  for (size_t t = 0; t < x.size() / n; ++t) {
    for (size_t i = 0; i < n; ++i) (*sums)[i] += double(x[t * n + i]);
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
  return result;
}

// The group's inputs of one window, [window][columns].
void PairedCalibration::RunToGroup(Calibration& model, size_t window, LinearGroup group,
                                   const LayerWeights& layer, std::vector<float>* x) {
  const std::span<const float> states = model.WindowStates(window);
  scratch_.assign(states.begin(), states.end());
  const LinearTap tap = [&](const Linear& linear, const float* input, size_t tokens,
                            size_t stride) {
    if (GroupOf(layer, &linear) != group) return true;
    if (&linear != &Representative(layer, group)) return false;
    x->resize(tokens * linear.columns);
    for (size_t t = 0; t < tokens; ++t) {
      std::copy_n(input + t * stride, linear.columns, x->data() + t * linear.columns);
    }
    return false;
  };
  model.RunWindow(layer, PartOf(group), scratch_.data(), tap);
}

// On entry e holds x_f - x, on return alpha W (x_f - x) + rho (r_f - r).
void PairedCalibration::OutputErrors(size_t window, const Linear& original, std::vector<float>* e) {
  const size_t tokens = e->size() / original.columns;
  std::vector<float> outputs(tokens * original.rows);
  kernels::DenseMatrix matrix = original.dense;
  matrix.bias = nullptr;
  kernels::DenseProduct(matrix, e->data(), tokens, original.columns, outputs.data(), original.rows);
  const std::span<const float> wanted = teacher_->WindowStates(window);
  const std::span<const float> actual = student_->WindowStates(window);
  for (size_t i = 0; i < outputs.size(); ++i) {
    outputs[i] =
        float(options_.inputs) * outputs[i] + float(options_.residual) * (wanted[i] - actual[i]);
  }
  *e = std::move(outputs);
}

Result<GroupMoments> PairedCalibration::Collect(LinearGroup group, const LayerWeights& quantized,
                                                const LayerWeights& original,
                                                const Calibration::Tick& tick) {
  const Linear& linear = Representative(original, group);
  const size_t n = linear.columns;
  const size_t m = AddsToResidual(group) ? linear.rows : n;
  const bool correct = AddsToResidual(group) ? options_.any() : options_.inputs != 0;
  GroupMoments moments;
  moments.hessian.assign(n * n, 0.0);
  moments.input_mean.assign(n, 0.0);
  if (correct) {
    moments.cross.assign(m * n, 0.0);
    moments.cross_mean.assign(m, 0.0);
  }
  std::vector<float> x, e;
  for (size_t w = 0; w < student_->windows(); ++w) {
    RunToGroup(*student_, w, group, quantized, &x);
    kernels::AccumulateGramUpper(x.data(), student_->window(), n, n, moments.hessian.data(),
                                 linear.dense.precision);
    AddRows(x, &moments.input_mean);
    if (correct) {
      RunToGroup(*teacher_, w, group, original, &e);
      for (size_t i = 0; i < e.size(); ++i) e[i] -= x[i];
      if (AddsToResidual(group)) OutputErrors(w, linear, &e);
      kernels::AccumulateCross(e.data(), m, x.data(), n, student_->window(), moments.cross.data(),
                               linear.dense.precision);
      AddRows(e, &moments.cross_mean);
    }
    if (tick && !tick(w + 1, student_->windows())) return Status::Cancelled("interrupted");
  }
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

Status PairedCalibration::Advance(BlockPart part, const LayerWeights& quantized,
                                  const LayerWeights& original, const Calibration::Tick& tick) {
  for (size_t w = 0; w < student_->windows(); ++w) {
    student_->RunWindow(quantized, part, student_->WindowStates(w).data(), LinearTap());
    if (teacher_ != nullptr) {
      teacher_->RunWindow(original, part, teacher_->WindowStates(w).data(), LinearTap());
    }
    if (tick && !tick(w + 1, student_->windows())) return Status::Cancelled("interrupted");
  }
  return Status::Ok();
}

}  // namespace sdq::converter
