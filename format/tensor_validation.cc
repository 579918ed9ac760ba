// What makes a tensor legal: the rules of FORMAT.md, "Tensors", for reader and writer alike.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "format/tensor.h"
#include "format/utf8.h"

namespace sdq::format {
namespace {

Status ValidateDimensions(uint32_t rows, uint32_t columns) {
  if (rows < 1 || rows > kMaxDimension || columns < 1 || columns > kMaxDimension) {
    return Status::InvalidArgument(
        fmt::format("shape {} x {}: dimensions go from 1 to {}", rows, columns, kMaxDimension));
  }
  return Status::Ok();
}

// Shared part: OSR = P/Q between 1 and kMaxOsr.
Status ValidateRate(const DecimatorSpec& decimator) {
  const uint64_t p = decimator.osr_num;
  const uint64_t q = decimator.osr_den;
  if (q < 1 || q > kMaxRateDenominator || p < q || p > q * kMaxOsr) {
    return Status::InvalidArgument(fmt::format(
        "over-sampling ratio {}/{}: must be from 1 to {}, with a denominator from 1 to {}", p, q,
        kMaxOsr, kMaxRateDenominator));
  }
  return Status::Ok();
}

// A product of the newest sample and at least one older one, of this byte and the one before.
Status ValidateDerived(const DecimatorSpec& decimator) {
  const uint32_t derived = decimator.derived;
  if (derived == 0) return Status::Ok();
  if ((derived & 1) == 0 || derived == 1 || DerivedReach(decimator) > kMaxDerivedReach ||
      DerivedReach(decimator) >= decimator.window) {
    return Status::InvalidArgument(fmt::format(
        "a derived stream of the samples {:#x}: must have bit 0 and others, up to {} and "
        "less than the window of {}",
        derived, kMaxDerivedReach, decimator.window));
  }
  return Status::Ok();
}

Status ValidatePolyphase(const DecimatorSpec& decimator) {
  if (decimator.window < 1 || decimator.window > kMaxWindow) {
    return Status::InvalidArgument(
        fmt::format("window of {} taps: must be from 1 to {}", decimator.window, kMaxWindow));
  }
  if (decimator.osr_den > kMaxPhases) {
    return Status::InvalidArgument(
        fmt::format("{} phases, at most {} are allowed", decimator.osr_den, kMaxPhases));
  }
  if (decimator.lead > decimator.window) {
    return Status::InvalidArgument(fmt::format("lead of {} samples exceeds the window of {}",
                                               decimator.lead, decimator.window));
  }
  if (decimator.block != 0) {
    return Status::InvalidArgument("a polyphase decimator spans whole rows: block must be 0");
  }
  SDQ_RETURN_IF_ERROR(ValidateDerived(decimator));
  if (decimator.taps.size() != size_t{decimator.osr_den} * PhaseTaps(decimator)) {
    return Status::InvalidArgument(fmt::format("{} taps for {} phases of {}", decimator.taps.size(),
                                               decimator.osr_den, PhaseTaps(decimator)));
  }
  for (size_t i = 0; i < decimator.taps.size(); ++i) {
    if (!std::isfinite(decimator.taps[i])) {
      return Status::InvalidArgument(fmt::format("tap {} is not finite", i));
    }
  }
  return Status::Ok();
}

Status ValidateLowPass(const DecimatorSpec& decimator, uint32_t columns) {
  if (decimator.window != 0 || decimator.lead != 0 || !decimator.taps.empty()) {
    return Status::InvalidArgument("an ideal low-pass has neither window nor lead nor taps");
  }
  if (decimator.block < 1 || decimator.block > kMaxLowPassBlock) {
    return Status::InvalidArgument(fmt::format("low-pass block of {} columns: must be from 1 to {}",
                                               decimator.block, kMaxLowPassBlock));
  }
  const uint64_t length = BlockColumns(decimator, columns, 0);
  if (length * BlockSamples(decimator, columns, 0) > kMaxLowPassElements) {
    return Status::InvalidArgument(
        fmt::format("low-pass block of {} columns by {} samples: the product must not exceed {}",
                    length, BlockSamples(decimator, columns, 0), kMaxLowPassElements));
  }
  return Status::Ok();
}

// The odd factor of a rotation block's length is the order of a dense Hartley matrix.
Status ValidateRotationLength(uint32_t length) {
  const uint32_t odd = length >> std::countr_zero(length);
  if (odd > kMaxHartley) {
    return Status::InvalidArgument(
        fmt::format("rotation block of {} columns has the odd factor {}, at most {} is allowed",
                    length, odd, kMaxHartley));
  }
  return Status::Ok();
}

Status ValidateBase(float base, const char* what) {
  if (base >= kMinScaleBase && base <= kMaxScaleBase) return Status::Ok();  // false for NaN
  return Status::InvalidArgument(
      fmt::format("{} base {} is not within 2^-112 .. 2^111", what, base));
}

// +0 or a positive, normal, finite f16.
bool IsLegalScale(uint16_t f16) { return f16 == 0 || (f16 >= 0x0400 && f16 < 0x7c00); }

Status ValidateScales(std::span<const uint16_t> scales, uint64_t expected, float base) {
  if (scales.size() != expected) {
    return Status::InvalidArgument(fmt::format("{} scales, expected {}", scales.size(), expected));
  }
  SDQ_RETURN_IF_ERROR(ValidateBase(base, "scale"));
  const auto bad = std::find_if_not(scales.begin(), scales.end(), IsLegalScale);
  if (bad != scales.end()) {
    return Status::InvalidArgument(
        fmt::format("scale {} is f16 {:#06x} ({}): must be zero or positive, finite and normal",
                    bad - scales.begin(), *bad, F16ToF32(*bad)));
  }
  return Status::Ok();
}

Status ValidateMeans(std::span<const uint16_t> means, uint64_t expected, float base) {
  if (means.empty()) return Status::Ok();
  if (means.size() != expected) {
    return Status::InvalidArgument(fmt::format("{} means, expected {}", means.size(), expected));
  }
  SDQ_RETURN_IF_ERROR(ValidateBase(base, "mean"));
  for (size_t i = 0; i < means.size(); ++i) {
    if ((means[i] & 0x7c00) == 0x7c00) {
      return Status::InvalidArgument(fmt::format("mean {} is not finite", i));
    }
  }
  return Status::Ok();
}

Status ValidateBias(std::span<const float> bias, uint32_t rows) {
  if (bias.empty()) return Status::Ok();
  if (bias.size() != rows) {
    return Status::InvalidArgument(
        fmt::format("bias has {} values for {} rows", bias.size(), rows));
  }
  for (size_t i = 0; i < bias.size(); ++i) {
    if (!std::isfinite(bias[i])) {
      return Status::InvalidArgument(fmt::format("bias {} is not finite", i));
    }
  }
  return Status::Ok();
}

Status ValidateDataSize(uint64_t found, uint64_t expected) {
  if (found == expected) return Status::Ok();
  return Status::InvalidArgument(
      fmt::format("the data has {} bytes, the description implies {}", found, expected));
}

}  // namespace

Status ValidateTensorName(const std::string& name) {
  if (name.empty() || name.size() >= kTensorNameBytes) {
    return Status::InvalidArgument(fmt::format("a tensor name has {} bytes, allowed are 1 to {}",
                                               name.size(), kTensorNameBytes - 1));
  }
  const bool printable = std::all_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<uint8_t>(c);
    return byte >= 0x20 && byte != 0x7f;
  });
  if (!printable || !IsUtf8(name)) {
    return Status::InvalidArgument("a tensor name is not printable UTF-8");
  }
  return Status::Ok();
}

Status ValidateDecimator(const DecimatorSpec& decimator, uint32_t columns) {
  SDQ_RETURN_IF_ERROR(ValidateDimensions(1, columns));
  SDQ_RETURN_IF_ERROR(ValidateRate(decimator));
  if (decimator.derived != 0 && decimator.kind != DecimatorKind::kPolyphase) {
    return Status::InvalidArgument("only a polyphase decimator has a derived stream");
  }
  switch (decimator.kind) {
    case DecimatorKind::kIdentity:
      if (decimator.osr_num != 1 || decimator.osr_den != 1 || decimator.window != 0 ||
          decimator.lead != 0 || decimator.block != 0 || !decimator.taps.empty()) {
        return Status::InvalidArgument(
            "an identity decimator has P = Q = 1 and no window, lead, block or taps");
      }
      return Status::Ok();
    case DecimatorKind::kPolyphase:
      return ValidatePolyphase(decimator);
    case DecimatorKind::kIdealLowPass:
      return ValidateLowPass(decimator, columns);
  }
  return Status::Unsupported(
      fmt::format("unknown decimator kind {}", static_cast<unsigned>(decimator.kind)));
}

Status ValidateRotation(const RotationSpec& rotation, uint32_t columns) {
  SDQ_RETURN_IF_ERROR(ValidateDimensions(1, columns));
  switch (rotation.kind) {
    case RotationKind::kNone:
      if (rotation.block != 0 || rotation.sign_seed != 0) {
        return Status::InvalidArgument("no rotation, but a rotation block or seed is given");
      }
      return Status::Ok();
    case RotationKind::kHadamard:
      if (rotation.block < 1 || rotation.block > columns) {
        return Status::InvalidArgument(
            fmt::format("rotation block of {} columns in rows of {}", rotation.block, columns));
      }
      SDQ_RETURN_IF_ERROR(ValidateRotationLength(rotation.block));
      if (const uint32_t tail = columns % rotation.block; tail != 0) {
        return ValidateRotationLength(tail);
      }
      return Status::Ok();
  }
  return Status::Unsupported(
      fmt::format("unknown rotation kind {}", static_cast<unsigned>(rotation.kind)));
}

Status ValidateView(const DenseView& view) {
  SDQ_RETURN_IF_ERROR(ValidateTensorName(view.name));
  SDQ_RETURN_IF_ERROR(ValidateDimensions(view.rows, view.columns));
  if (DenseElementBytes(view.type) == 0) {
    return Status::Unsupported(
        fmt::format("unknown dense type {}", static_cast<unsigned>(view.type)));
  }
  SDQ_RETURN_IF_ERROR(
      ValidateDataSize(view.data.size(), DenseBytes(view.type, view.rows, view.columns)));
  if (view.type == DenseType::kQ8) {
    SDQ_RETURN_IF_ERROR(ValidateScales(view.scales_f16, view.rows, view.scale_base));
  } else if (!view.scales_f16.empty() || view.scale_base != 1.0f) {
    return Status::InvalidArgument("scales belong to 8-bit rows only");
  }
  return ValidateBias(view.bias, view.rows);
}

Status ValidateView(const StreamView& view) {
  SDQ_RETURN_IF_ERROR(ValidateTensorName(view.name));
  SDQ_RETURN_IF_ERROR(ValidateDimensions(view.rows, view.columns));
  if (view.alphabet == kRetiredPackedAlphabet) {
    return Status::Unsupported(
        "alphabet 3, trits packed by a code that is no longer read: convert the model again");
  }
  if (!IsKnown(view.alphabet)) {
    return Status::Unsupported(
        fmt::format("unknown alphabet {}", static_cast<unsigned>(view.alphabet)));
  }
  if (view.granularity < ScaleGranularity::kRow || view.granularity > ScaleGranularity::kBlock) {
    return Status::Unsupported(
        fmt::format("unknown scale granularity {}", static_cast<unsigned>(view.granularity)));
  }
  SDQ_RETURN_IF_ERROR(ValidateDecimator(view.decimator, view.columns));
  if (view.decimator.derived != 0 &&
      (view.alphabet != Alphabet::kBinary || !view.means_f16.empty())) {
    return Status::InvalidArgument("a derived stream needs binary samples without means");
  }
  SDQ_RETURN_IF_ERROR(ValidateRotation(view.rotation, view.columns));
  SDQ_RETURN_IF_ERROR(ValidateDataSize(
      view.bits.size(), BitstreamBytes(view.decimator, view.alphabet, view.rows, view.columns)));
  const uint64_t per_row =
      view.granularity == ScaleGranularity::kRow ? 1 : BlockCount(view.decimator, view.columns);
  SDQ_RETURN_IF_ERROR(ValidateScales(view.scales_f16, view.rows * per_row, view.scale_base));
  SDQ_RETURN_IF_ERROR(ValidateMeans(view.means_f16, view.rows * per_row, view.mean_base));
  return ValidateBias(view.bias, view.rows);
}

Status ValidateTrits(const StreamView& view) {
  if (view.alphabet != Alphabet::kTernaryPacked) return Status::Ok();
  const auto bad = std::find_if_not(view.bits.begin(), view.bits.end(), IsPackedByte);
  if (bad == view.bits.end()) return Status::Ok();
  return Status::InvalidArgument(fmt::format(
      "byte {} of the packed trits is {}, which stands for none", bad - view.bits.begin(), *bad));
}

}  // namespace sdq::format
