// The bitstream's geometry and the fixed linear map, as the kernels see them.
//
// A row's samples q (+-1 or -1, 0, +1) reconstruct the rotated weights by a linear map D (the
// decimator): w = D q. Hence w . x = q . u with u = D^T T(x): the activation is rotated and
// interpolated once per token, and every row's product is a sum of +-u (see quantization identity
// in converter/README.md and FORMAT.md "Product").
#ifndef SDQ_KERNELS_STREAM_LAYOUT_H_
#define SDQ_KERNELS_STREAM_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sdq::kernels {

inline constexpr size_t kTileRows = 16;
// Samples per segment at most. A segment has one activation scale; 256 table entries of at most
// 127 sum to less than 2^15, so that 16-bit accumulators never overflow inside a segment.
inline constexpr size_t kSegmentSamples = 1024;
inline constexpr size_t kSegmentSamplesPacked = 1000;

enum class Packing : uint8_t { kBinary = 1, kTernaryPlanes = 2, kTernaryPacked = 3 };
enum class Decimator : uint8_t { kIdentity = 1, kPolyphase = 2, kIdealLowPass = 3 };

// The linear map D of one row, in the terms of format::DecimatorSpec (kernels and format are
// siblings; the runtime translates one into the other).
struct MapSpec {
  size_t columns = 0;
  size_t rotation_block = 0;  // 0 = none
  uint64_t sign_seed = 0;
  Decimator decimator = Decimator::kIdentity;
  uint32_t osr_num = 1;  // P
  uint32_t osr_den = 1;  // Q
  uint32_t window = 0;   // L
  uint32_t lead = 0;
  uint32_t block = 0;       // columns per decimator block, 0 = whole row
  uint32_t derived = 0;     // polyphase, binary: samples (bits) whose product a derived one is
  std::vector<float> taps;  // [Q][L], newest sample first; of a derived stream [Q][L + L - reach]
  Packing packing = Packing::kBinary;
  bool block_sums = true;  // whether a matrix with this map has means, which need the sums of u
  bool operator==(const MapSpec&) const = default;
};

// A run of samples of one decimator block with one activation scale.
struct Segment {
  uint32_t block;         // decimator block
  uint32_t first_sample;  // index into the row's u (blocks concatenated, no padding)
  uint32_t position;      // of that sample in its block's stream, stored or derived
  uint32_t samples;
  uint32_t first_byte;  // index k into the row's bytes (blocks start on new bytes)
  uint32_t bytes;       // BytesForSamples(samples)
  bool derived;         // samples made from those of these bytes (MapSpec::derived)
};

// Everything that follows from a MapSpec: block and segment lists, bytes per row.
struct StreamLayout {
  explicit StreamLayout(const MapSpec& spec);
  size_t row_samples = 0;  // stored
  size_t u_samples = 0;    // the length of u: stored samples, then derived ones if there are any
  size_t row_bytes = 0;    // one plane
  size_t planes = 1;       // 2 for kTernaryPlanes
  size_t blocks = 1;
  std::vector<Segment> segments;  // a derived one behind the stored one of the same bytes
  // Tile t starts at t * tile_bytes(); plane p of it at + p * 16 * row_bytes; byte k of row r at
  // + k * 16 + r.
  size_t tile_bytes() const { return planes * row_bytes * kTileRows; }
};

// How many samples back a derived sample reaches; 0 without a derived stream.
size_t DerivedReach(const MapSpec& spec);
// The decimators of the stored and of the derived samples alone, both over the same positions.
MapSpec StoredPart(const MapSpec& spec);
MapSpec DerivedPart(const MapSpec& spec);

// D as a dense matrix [columns][u_samples], for the ideal low-pass and for tests.
// FFT-rule resampling (scipy.signal.resample): see FORMAT.md, "Ideal low-pass".
std::vector<float> DecimatorMatrix(const MapSpec& spec);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_STREAM_LAYOUT_H_
