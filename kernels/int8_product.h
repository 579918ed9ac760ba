// y = W x by 8-bit weights made from the bitstream: for batches of many tokens, which share them.
//
// Rounds differently from StreamProduct (weights and activations to 8 bits, instead of sums of four
// samples), equally on every target and for every thread count. kernels/README.md, "Int8 products".
#ifndef SDQ_KERNELS_INT8_PRODUCT_H_
#define SDQ_KERNELS_INT8_PRODUCT_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/activation.h"
#include "kernels/stream_product.h"

namespace sdq::kernels {

// From this many tokens on, int8 products are faster than look-up ones.
inline constexpr size_t kInt8LeastTokens = 32;

// Whether the target in use has kernels for int8 products (x86-64 with AVX-512 VBMI and VNNI; the
// target SCALAR, which is their oracle).
bool Int8ProductsAvailable();

// Whether products of matrices with this map can be computed so: Int8Plan::usable, and no means.
bool Int8Usable(const ActivationMap& map);

// Bytes of the prepared activations of `tokens` tokens, and of scratch per thread to prepare and to
// multiply them; multiples of 64.
size_t Int8PreparedBytes(const ActivationMap& map, size_t tokens);
size_t Int8ScratchBytes(const ActivationMap& map, size_t tokens);

// Rotates, rounds to 8 bits with one scale for kInt8Block columns. x: rows of `columns` floats at
// x_stride. prepared, scratch (Threads() * Int8ScratchBytes): 64-byte aligned. In parallel over
// tokens. Needs Int8ProductsAvailable() and Int8Usable(map).
void PrepareInt8(const ActivationMap& map, const float* x, size_t tokens, size_t x_stride,
                 uint8_t* prepared, uint8_t* scratch);

// As StreamProducts: in parallel over panels of rows.
void Int8Products(std::span<const StreamOutput> outputs, const ActivationMap& map,
                  const uint8_t* prepared, size_t tokens, uint8_t* scratch);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_INT8_PRODUCT_H_
