// Calibration of the float model and of the quantized one side by side, input group by input group.
//
// A linear's weights W are rounded for the inputs x that the quantized model will give it, while
// the outputs that it should give are those of the float model, W x_f. So W_q should minimize
//     mean |e + (W - W_q) x|^2,    e = alpha W (x_f - x)  (+ rho (r_f - r) at o and down),
// where r is the residual stream that the output is added to: what all earlier linears did to it is
// corrected where there is a chance. With H = mean x x^T and B = mean e x^T this is, up to a
// constant, the plain objective tr(E H E^T) around W' = W + B H^-1 (converter/encoder.h). Where the
// linear has a bias, that takes the mean of the error, and covariances replace H and B.
// alpha = 1 is the asymmetric calibration of GPTAQ (Li et al. 2025) and Qronos (Zhang et al. 2025);
// the residual term is that of output-adaptive methods such as LoaQ (Lin et al. 2025). Both are
// scaled down a little, because they fit the calibration text as well as the errors.
//
// Memory: the states of both models, H and B of one group of linears, inputs and errors of a batch
// of tokens, and where products are rounded the inputs of o or down of all tokens in bfloat16.
#ifndef SDQ_CONVERTER_PAIRED_CALIBRATION_H_
#define SDQ_CONVERTER_PAIRED_CALIBRATION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "converter/calibration.h"
#include "converter/checkpoint.h"
#include "converter/float_layer.h"
#include "format/status.h"

namespace sdq::converter {

// Linears with a common input, in the order in which a block runs them.
enum class LinearGroup { kAttnIn, kAttnOut, kFfnIn, kFfnMid };
// The group of one of the members of `weights`.
LinearGroup GroupOf(const LayerWeights& weights, const Linear* linear);

struct CorrectionOptions {
  double inputs = 0.75;   // alpha
  double residual = 1.0;  // rho
  bool any() const { return inputs != 0 || residual != 0; }
};

struct GroupMoments {
  std::vector<double> hessian;  // H [columns][columns]
  // What the corrections are made of: kAttnIn and kFfnIn mean (x_f - x) x^T [columns][columns], the
  // others B itself, [rows][columns]. Empty without corrections.
  std::vector<double> cross;
  std::vector<double> input_mean;  // of x, [columns]
  std::vector<double>
      cross_mean;  // of x_f - x [columns], or of e [rows]; empty without corrections
  // For linears with a bias, which takes care of the mean error (PairedCalibration::BiasShift):
  // what is left are covariances. H becomes that of x - mean x, and likewise `cross`.
  void Center();
};

class PairedCalibration {
 public:
  // As Calibration::Create. `embedding`: the checkpoint with the embeddings of the quantized model.
  // `teacher`: run the float model even if nothing is corrected.
  static Result<std::unique_ptr<PairedCalibration>> Create(
      const Checkpoint& checkpoint, const Checkpoint& embedding, const std::vector<TokenId>& tokens,
      size_t window, const CorrectionOptions& options, bool teacher);

  // quantized: linears of earlier groups hold their reconstruction, those of `group` and later ones
  // their float weights. original: float weights. kAttnOut and kFfnMid also take the float model's
  // states through their sub-block, which its next run would repeat: once each, then Advance.
  // kCancelled if `tick` returns false.
  Result<GroupMoments> Collect(LinearGroup group, const LayerWeights& quantized,
                               const LayerWeights& original, const Calibration::Tick& tick);
  // Of a group whose linears were encoded before (layer_journal.h): does to the states what Collect
  // did, so that Advance gives the same bits, and no more.
  Status Replay(LinearGroup group, const LayerWeights& quantized);
  // B of a linear of the group, [rows][columns]; empty without corrections.
  std::vector<float> Shift(const GroupMoments& moments, LinearGroup group,
                           const Linear& original) const;

  // What to add to the bias of a linear of the group so that the mean error over the calibration
  // text is zero: mean e + (W - W_q) mean x, [rows]. reconstructed: W_q, [rows][columns].
  std::vector<float> BiasShift(const GroupMoments& moments, LinearGroup group,
                               const Linear& original,
                               const std::vector<float>& reconstructed) const;

  // Takes both models' states through a sub-block whose linears are quantized, each as far as
  // Collect did not.
  Status Advance(BlockPart part, const LayerWeights& quantized, const LayerWeights& original,
                 const Calibration::Tick& tick);

  // The float model; null if it does not run.
  const Calibration* teacher() const { return teacher_.get(); }
  size_t tokens() const { return student_->tokens(); }
  // Frees what only the quantized model needs; then nothing but teacher() may be used.
  void DropStudent() { student_.reset(); }

 private:
  PairedCalibration() = default;
  void RunToGroup(Calibration& model, size_t window, LinearGroup group, const LayerWeights& layer,
                  float* x);
  void RunThroughGroup(size_t window, LinearGroup group, const LayerWeights& layer, float* x);
  void CollectErrors(size_t window, LinearGroup group, const LayerWeights& original, const float* x,
                     float* e);
  // Whether the inputs of this group are kept for Advance; makes room for them.
  bool BeginKeeping(LinearGroup group, const Linear& linear);
  void AdvanceStudent(size_t window, BlockPart part, const LayerWeights& quantized);

  CorrectionOptions options_;
  bool pre_norm_ = true;
  std::unique_ptr<Calibration> student_, teacher_;
  std::vector<float> scratch_;  // states of one window
  std::vector<float> inputs_of_window_, outputs_;
  // What Collect did of the next Advance.
  std::optional<BlockPart> teacher_ahead_;  // the float model's states are behind this sub-block
  std::optional<BlockPart> kept_;           // the sub-block's last inputs are in kept_inputs_
  std::vector<uint16_t> kept_inputs_;       // of the quantized model, [tokens][columns], bfloat16
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_PAIRED_CALIBRATION_H_
