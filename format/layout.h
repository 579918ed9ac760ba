// The numbers of the .sdq container, version 1: constants and enumerations that stand in files.
//
// FORMAT.md is the normative text; this header is its transcription. Everything on disk is little
// endian. Values are pinned: append, never renumber. A reader refuses values it does not know.
#ifndef SDQ_FORMAT_LAYOUT_H_
#define SDQ_FORMAT_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace sdq::format {

inline constexpr uint8_t kMagic[8] = {'S', 'D', 'Q', '\r', '\n', 0x1a, '\n', 0};
inline constexpr uint16_t kVersionMajor = 1;
inline constexpr uint16_t kVersionMinor = 0;
inline constexpr size_t kHeaderBytes = 128;
inline constexpr size_t kSectionEntryBytes = 32;
inline constexpr size_t kTensorRecordBytes = 160;
inline constexpr size_t kDecimatorRecordBytes = 64;
inline constexpr size_t kTensorNameBytes = 64;           // UTF-8, NUL padded, at least one NUL
inline constexpr uint32_t kNoSection = 0xffffffffu;      // "there is none", sections and decimators
inline constexpr uint32_t kByteOrderMark = 0x04030201u;  // bytes 01 02 03 04 in the file
inline constexpr uint32_t kMinAlignment = 64;
inline constexpr uint32_t kDefaultAlignment = 64;
inline constexpr uint32_t kMaxAlignment = 1u << 21;
// Readable bytes behind every bitstream: kernels may over-read one vector.
inline constexpr size_t kReadSlack = 64;

// Caps: limits on counts that keep every product in 64 bits and every allocation small.
inline constexpr uint32_t kMaxDimension = 1u << 24;
inline constexpr uint32_t kMaxTensors = 1u << 16;
inline constexpr uint32_t kMaxDecimators = 1u << 16;
inline constexpr uint32_t kMaxWindow = 16;                 // L, taps per phase
inline constexpr uint32_t kMaxDerivedReach = 7;            // samples back, of a derived sample
inline constexpr uint32_t kMaxPhases = 64;                 // Q of a polyphase decimator
inline constexpr uint32_t kMaxOsr = 16;                    // P/Q
inline constexpr uint32_t kMaxRateDenominator = 1u << 16;  // Q of an ideal low-pass
inline constexpr uint32_t kMaxLowPassBlock = 4096;
inline constexpr uint64_t kMaxLowPassElements = 1u << 22;  // columns x samples of one block
inline constexpr uint32_t kMaxHartley = 1024;              // odd factor m of a rotation block
inline constexpr uint32_t kMaxSections = 4 * kMaxTensors + kMaxDecimators + 3;
inline constexpr size_t kMaxKeyBytes = 255;  // of a metadata key
// Bases of scales and means: within these, base x any normal f16 is a finite, normal f32.
inline constexpr float kMinScaleBase = 0x1p-112f;
inline constexpr float kMaxScaleBase = 0x1p111f;

inline constexpr uint32_t kTileRows = 16;  // rows of a bitstream tile, bytes interleaved by row

// Flags a reader must understand to use the file. None is defined in version 1.0.
inline constexpr uint32_t kKnownRequiredFlags = 0;

enum class SectionKind : uint32_t {
  kMetadata = 1,
  kTensorTable = 2,
  kDecimatorTable = 3,
  kTaps = 4,       // f32[Q][taps per phase], newest sample first
  kDense = 5,      // row-major matrix or vector
  kBitstream = 6,  // tiles of 16 rows
  kScales = 7,     // f16
  kMeans = 8,      // f16
  kBias = 9,       // f32[rows]
};

enum class TensorKind : uint16_t {
  kDense = 1,   // dtype elements, row-major
  kStream = 2,  // sigma-delta bitstream with scales
};

enum class DenseType : uint16_t {
  kF32 = 1,
  kF16 = 2,
  kBF16 = 3,
  kQ8 = 4,  // int8, one f16 scale per row: w = scale_base * scale[r] * q
};

// Alphabet and packing of the modulator's output.
enum class Alphabet : uint8_t {
  kBinary = 1,         // 8 samples per byte, bit i of byte k = sample 8k+i, 1 means +1, 0 means -1
  kTernaryPlanes = 2,  // two binary planes, plus then minus: sample = plus bit - minus bit
  kTernaryPacked = 4,  // 5 trits per byte: PackedByte of sum (q_i + 1) 3^i
};

// Trits packed by a code that is no longer read.
inline constexpr Alphabet kRetiredPackedAlphabet{3};

constexpr bool IsKnown(Alphabet alphabet) {
  return alphabet == Alphabet::kBinary || alphabet == Alphabet::kTernaryPlanes ||
         alphabet == Alphabet::kTernaryPacked;
}

// The byte of five trits whose digits make `number`, 0 to 242: 28 floor(number / 27) + number mod
// 27, so that the upper six bits give the two high trits.
constexpr uint8_t PackedByte(unsigned number) { return static_cast<uint8_t>(number + number / 27); }
constexpr unsigned PackedNumber(uint8_t byte) { return byte - byte / 28u; }
constexpr bool IsPackedByte(uint8_t byte) { return byte % 28 != 27 && byte <= 250; }

enum class DecimatorKind : uint8_t {
  kIdentity = 1,      // one sample per weight
  kPolyphase = 2,     // rational P/Q FIR, L taps per phase
  kIdealLowPass = 3,  // FFT-rule resampling of blocks of `block` columns
};

enum class RotationKind : uint8_t {
  kNone = 1,
  // v = K (s o w) per block of `rotation_block` columns (the last block may be shorter):
  // s are +-1 signs from the seed, K is Hartley(m) x Hadamard(2^k), len = m 2^k, m odd.
  kHadamard = 2,
};

enum class ScaleGranularity : uint8_t {
  kRow = 1,    // one scale per row
  kBlock = 2,  // one scale per row and decimator block
};

// Round up to a multiple of a power of two. The caller has bounded x.
constexpr uint64_t AlignUp(uint64_t x, uint64_t alignment) {
  return (x + alignment - 1) & ~(alignment - 1);
}

// Bytes that hold `samples` samples of one row in one plane.
constexpr uint64_t BytesForSamples(Alphabet alphabet, uint64_t samples) {
  return alphabet == Alphabet::kTernaryPacked ? (samples + 4) / 5 : (samples + 7) / 8;
}

}  // namespace sdq::format

#endif  // SDQ_FORMAT_LAYOUT_H_
