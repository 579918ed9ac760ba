// What a tensor of an .sdq file is: descriptions shared by reader and writer, and read-only views.
#ifndef SDQ_FORMAT_TENSOR_H_
#define SDQ_FORMAT_TENSOR_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/layout.h"
#include "format/status.h"

namespace sdq::format {

// The fixed linear map from samples to (rotated) weights. OSR = osr_num / osr_den = P/Q.
//
// kPolyphase: weight i of the row, phase p = i mod Q, is
//     w_i = sum_{k<window} taps[p*T + k] * q[e_i - 1 - k],   e_i = lead + floor((i+1) P / Q),
//   where samples before the stream's start (negative index) count as zero.
//   T = PhaseTaps = L without a derived stream. Samples per row: M = lead + floor(n P / Q) for n
//   columns. With a derived stream, d[j] = the product of the q[j - b] for all bits b of `derived`
//   (zero where one of them lies before the start), there are taps for both: the sum over q and
//   then
//     sum_{k<L-r} taps[p*T + L + k] * d[e_i - 1 - k],   r = DerivedReach: all within the same L
//     samples.
//   Binary samples only; an exclusive or of bits makes it, and nothing of it is stored.
// kIdealLowPass: columns are cut into blocks of `block` (the last may be shorter); a block of len
//   columns has floor(len P / Q) samples; FORMAT.md gives the resampling kernel.
// kIdentity: w_i = q[i]; P = Q = 1.
struct DecimatorSpec {
  DecimatorKind kind = DecimatorKind::kIdentity;
  uint32_t osr_num = 1;
  uint32_t osr_den = 1;
  uint32_t window = 0;      // L; polyphase only
  uint32_t lead = 0;        // polyphase only
  uint32_t block = 0;       // columns per block; 0 = the whole row (polyphase, identity)
  uint32_t derived = 0;     // polyphase only: bits of the samples that a derived one multiplies
  std::vector<float> taps;  // [Q][PhaseTaps]; polyphase only

  double osr() const { return double(osr_num) / double(osr_den); }
  bool operator==(const DecimatorSpec&) const = default;
};

struct RotationSpec {
  RotationKind kind = RotationKind::kNone;
  uint32_t block = 0;      // columns per rotation block; = columns for a full-width rotation
  uint64_t sign_seed = 0;  // FORMAT.md: sign of column i = bit of splitmix64(seed, i)
  bool operator==(const RotationSpec&) const = default;
};

// How far back a derived sample reaches (0: none), and the taps of one phase: L, and L - reach more
// where there is a derived stream. For valid decimators.
uint32_t DerivedReach(const DecimatorSpec& decimator);
uint32_t PhaseTaps(const DecimatorSpec& decimator);

// Geometry. All of these ask for a decimator and columns that ValidateDecimator accepts.
// Number of decimator blocks of a row, and samples of block b. Every block starts on a new byte.
uint32_t BlockCount(const DecimatorSpec& decimator, uint32_t columns);
uint32_t BlockColumns(const DecimatorSpec& decimator, uint32_t columns, uint32_t block_index);
uint32_t BlockSamples(const DecimatorSpec& decimator, uint32_t columns, uint32_t block_index);
uint64_t RowSamples(const DecimatorSpec& decimator, uint32_t columns);  // sum over blocks
// Bytes of one row in one plane: sum over blocks of BytesForSamples.
uint64_t RowBytes(const DecimatorSpec& decimator, Alphabet alphabet, uint32_t columns);
// Bytes of the whole bitstream section: tiles x planes x RowBytes x 16. A tile holds, for planes,
// the plus plane's 16*RowBytes bytes and then the minus plane's.
uint64_t BitstreamBytes(const DecimatorSpec& decimator, Alphabet alphabet, uint32_t rows,
                        uint32_t columns);

// Is this a legal decimator / rotation for n columns? Checked by reader and writer alike.
// kInvalidArgument, or kUnsupported for a kind that this build does not know. A rotation block (and
// the shorter last one) is m 2^k with m odd and at most kMaxHartley.
Status ValidateDecimator(const DecimatorSpec& decimator, uint32_t columns);
Status ValidateRotation(const RotationSpec& rotation, uint32_t columns);

struct DenseView {
  std::string name;
  DenseType type = DenseType::kF32;
  uint32_t rows = 0;  // a vector has rows = 1
  uint32_t columns = 0;
  std::span<const uint8_t> data;         // rows*columns elements, row-major, no padding
  std::span<const uint16_t> scales_f16;  // kQ8: rows scales
  float scale_base = 1.0f;               // kQ8: multiplies every scale
  std::span<const float> bias;           // rows entries, or empty
};

struct StreamView {
  std::string name;
  uint32_t rows = 0;
  uint32_t columns = 0;
  RotationSpec rotation;
  DecimatorSpec decimator;
  Alphabet alphabet = Alphabet::kBinary;
  ScaleGranularity granularity = ScaleGranularity::kRow;
  // f16, scale = scale_base * f16. kRow: [rows]; kBlock: [rows][blocks]. Each is +0 (a row of
  // zeros) or a finite, positive, normal f16; the base lies in [kMinScaleBase, kMaxScaleBase].
  std::span<const uint16_t> scales_f16;
  float scale_base = 1.0f;
  std::span<const uint16_t> means_f16;  // shaped like scales, finite, or empty; x mean_base
  float mean_base = 1.0f;
  std::span<const float> bias;    // rows, or empty
  std::span<const uint8_t> bits;  // BitstreamBytes(...) bytes; 64 readable bytes follow
};

const std::string& NameOf(const DenseView& view);
const std::string& NameOf(const StreamView& view);

// Bytes of the elements of a dense matrix. Dimensions are at most kMaxDimension.
uint64_t DenseElementBytes(DenseType type);
uint64_t DenseBytes(DenseType type, uint32_t rows, uint32_t columns);

// Names are 1 to 63 bytes of UTF-8 without control characters.
Status ValidateTensorName(const std::string& name);
// Everything about a view but the contents of `data` and `bits`: name, dimensions, sizes, scales,
// means, bias. kInvalidArgument (or kUnsupported: unknown enumeration value) if it is not legal.
Status ValidateView(const DenseView& view);
Status ValidateView(const StreamView& view);
// All bytes of a packed ternary bitstream stand for trits; ok for the other alphabets.
Status ValidateTrits(const StreamView& view);

// IEEE binary16 / bfloat16 <-> binary32 (round to nearest even).
float F16ToF32(uint16_t h);
uint16_t F32ToF16(float f);
float BF16ToF32(uint16_t h);
uint16_t F32ToBF16(float f);

}  // namespace sdq::format

#endif  // SDQ_FORMAT_TENSOR_H_
