// What tile_product.cc is made of: packing of factors into tiles, the product of two panels, and
// what is done with its sums. All need TileProductsAvailable().
//
// A tile of L holds 16 rows x 32 values of depth; a tile of R holds 16 pairs of depth x 16 columns
// of two values. Seen as 16 x 16 pairs of values, one is the transpose of the other. A panel is 32
// rows (columns), padded with zeros: [step of 32 in depth][2 tiles].
#ifndef SDQ_KERNELS_TILE_PACK_H_
#define SDQ_KERNELS_TILE_PACK_H_

#include <cstddef>
#include <cstdint>

namespace sdq::kernels::tiles {

using Bf16 = uint16_t;

inline constexpr size_t kPairColumns = 32;
inline constexpr size_t kStepDepth = 32;
inline constexpr size_t kTileValues = 512;
inline constexpr size_t kPairValues = 2 * kTileValues;

struct Source {
  const float* data = nullptr;
  size_t stride = 0;  // between rows
};

// A panel of L from rows [count][depth] of a row-major matrix.
void PackRows(const Source& from, size_t count, size_t depth, Bf16* to);
// The same from f16 or bf16.
void PackHalfRows(const uint16_t* from, bool f16, size_t stride, size_t count, size_t depth,
                  Bf16* to);
// A panel of R from columns [depth][count] of a row-major matrix.
void PackColumns(const Source& from, size_t count, size_t depth, Bf16* to);
// Makes a panel of R of one of L, and back.
void TransposeTiles(size_t depth, Bf16* panel);

// 32 x 32 sums: [half of rows][half of columns][16][16].
struct alignas(64) Sums {
  float values[2][2][16][16];
};

// Needs a TileSession.
void Multiply(const Bf16* left, const Bf16* right, size_t steps, Sums* sums);

// The part of the sums that exists.
struct Extent {
  size_t rows = 0;
  size_t columns = 0;
};

// to[i][j] (+)= sums[i][j]
void Store(const Sums& sums, Extent extent, bool accumulate, float* to, size_t stride);
// to[j][i] = sums[i][j] + bias[i]; bias may be null.
void StoreTransposed(const Sums& sums, Extent extent, const float* bias, float* to, size_t stride);
// to[i][j] += sums[i][j], with `upper` only where j >= i.
void AddToDoubles(const Sums& sums, Extent extent, bool upper, double* to, size_t stride);

}  // namespace sdq::kernels::tiles

#endif  // SDQ_KERNELS_TILE_PACK_H_
