// The steps of an int8 product that are worth vectors: what each instruction set implements.
//
// Integers are exact and the float steps are plain operations in a stated order, so that every
// implementation gives the same bits.
#ifndef SDQ_KERNELS_INT8_KERNELS_H_
#define SDQ_KERNELS_INT8_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/int8_plan.h"
#include "kernels/stream_layout.h"

namespace sdq::kernels {

// Columns with one activation scale. 127 * 127 * this is an exact float.
inline constexpr size_t kInt8Block = 1024;
inline constexpr size_t kInt8Tiles = 4;                      // of a panel
inline constexpr size_t kInt8Rows = kInt8Tiles * kTileRows;  // of a panel
inline constexpr size_t kInt8DepthStep = 64;                 // blocks are padded to whole steps
inline constexpr size_t kInt8TokenStep = 16;                 // tokens are padded to whole steps
inline constexpr size_t kInt8GroupBytes = kTileRows * Int8Plan::kGroup;

// The integer weights of some columns of a panel.
struct Int8WeightsArgs {
  const Int8Plan* plan = nullptr;
  const uint8_t* bits = nullptr;  // of the panel's first tile
  size_t tile_stride = 0;         // bytes
  size_t tiles = 0;
  size_t first_group = 0;
  size_t groups = 0;
  size_t padded_groups = 0;  // a multiple of kInt8DepthStep / Int8Plan::kGroup
  // [tile][padded_groups][row][weight of the group]; zeros behind `groups`. 64-byte aligned.
  int8_t* weights = nullptr;
  // [tile][row]: minus 128 times the row's sum of the weights.
  int32_t* bias = nullptr;
};

// acc[token][tile * 16 + row] (+)= scale[token] * float(sum over columns of (x - 128) * weight).
struct Int8MultiplyArgs {
  const int8_t* weights = nullptr;  // and bias, as above
  const int32_t* bias = nullptr;
  size_t tiles = 0;
  size_t groups = 0;           // padded
  const uint8_t* x = nullptr;  // [token][4 * groups]; tokens padded to whole kInt8TokenStep
  const float* scale = nullptr;
  size_t tokens = 0;
  float* acc = nullptr;  // [tokens padded to whole kInt8TokenStep][kInt8Rows], 64-byte aligned
  bool add = false;      // to what acc holds; else it is overwritten
};

struct Int8Kernels {
  const char* name;
  void (*weights)(const Int8WeightsArgs& args);
  void (*multiply)(const Int8MultiplyArgs& args);
  // Largest magnitude's bits, as LargestMagnitude orders them.
  uint32_t (*largest)(const float* v, size_t n);
  // round_half_even(v * inverse) + 128; |v * inverse| < 128.
  void (*round)(const float* v, size_t n, float inverse, uint8_t* out);
};

// Plain code: the oracle.
const Int8Kernels& ReferenceInt8Kernels();
// With AVX-512 VBMI and VNNI; x86-64 only.
const Int8Kernels& VnniInt8Kernels();
// These with products on the tile unit; needs TileUnitGranted() (tile_session.h).
const Int8Kernels& AmxInt8Kernels();

// Of the target in use; null where none is faster than the look-up kernels.
const Int8Kernels* ActiveInt8Kernels();

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_INT8_KERNELS_H_
