// Where things lie in a token's prepared activation (tables or bit-planes): kernels/README.md.
#ifndef SDQ_KERNELS_TABLE_LAYOUT_H_
#define SDQ_KERNELS_TABLE_LAYOUT_H_

#include <cstddef>

#include "kernels/stream_layout.h"
#include "kernels/transform_kernels.h"

namespace sdq::kernels {

inline constexpr size_t kPlaneHeaderBytes = 16;  // int32 sum of the segment's 8-bit values

inline size_t Groups(size_t bytes) { return (bytes + 3) / 4; }

inline size_t SegmentTableBytes(Packing packing, size_t bytes) {
  return Groups(bytes) * (packing == Packing::kTernaryPacked ? kTritGroupBytes : kNibbleGroupBytes);
}

inline size_t SegmentPlaneBytes(size_t bytes) { return kPlaneHeaderBytes + 8 * bytes; }

// Scales of the segments, then sums of u over the blocks (floats), padded to 64 bytes.
inline size_t TableHeaderBytes(const StreamLayout& layout) {
  const size_t bytes = (layout.segments.size() + layout.blocks) * sizeof(float);
  return (bytes + 63) / 64 * 64;
}

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_TABLE_LAYOUT_H_
