// One token's products with AVX2 and GFNI: many processors have both that lack AVX-512.
//
// As the kernels without GFNI, but affine maps of bytes over GF(2) make derived bytes of stored
// ones, and move upper nibbles down, each in one instruction.
#if defined(SDQ_KERNELS_GFNI_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SDQ_KERNELS_GFNI_KERNELS_INL_H_
#undef SDQ_KERNELS_GFNI_KERNELS_INL_H_
#else
#define SDQ_KERNELS_GFNI_KERNELS_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/derived_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sdq::kernels::HWY_NAMESPACE {
#if HWY_TARGET == HWY_AVX2

// A matrix's product with the bits of each byte of x over GF(2), plus kConstant: row 7 - i of the
// matrix, a byte, names the bits whose sum is bit i. (In assembler, since this is code for AVX2.)
template <int kConstant = 0>
HWY_INLINE ByteVec Affine(ByteVec x, uint64_t matrix) {
  const __m256i rows = _mm256_set1_epi64x(static_cast<int64_t>(matrix));
  ByteVec product;
  asm("vgf2p8affineqb %3, %2, %1, %0" : "=x"(product.raw) : "x"(x.raw), "x"(rows), "i"(kConstant));
  return product;
}

// The upper nibbles, plus kConstant: bit i of the result is bit i + 4.
template <int kConstant = 0>
HWY_INLINE ByteVec UpperNibbles(ByteVec x) {
  return Affine<kConstant>(x, 0x1020408000000000);
}

struct AffineNibbleStep : NibbleStep {
  explicit HWY_INLINE AffineNibbleStep(const uint8_t* tables) : NibbleStep(tables) {}
  static HWY_INLINE void Index(ByteVec x, ByteVec* indices) {
    indices[0] = hn::And(x, hn::Set(Bytes(), uint8_t{15}));
    indices[1] = UpperNibbles(x);
  }
};

// As ShuffleDeriver. kComplement: of DerivedMaps::complement.
template <bool kComplement>
class AffineDeriver {
 public:
  explicit AffineDeriver(const DerivedMaps& maps)
      : of_byte_(maps.of_byte), of_before_(maps.of_before) {}

  static HWY_INLINE Nibbles OfStored(ByteVec x) { return NibblesOf<AffineNibbleStep>(x); }
  HWY_INLINE Nibbles OfDerived(ByteVec x, const Nibbles& /*stored*/, ByteVec* carry) const {
    constexpr int kFlip = kComplement ? 15 : 0;
    const ByteVec low = hn::Set(Bytes(), uint8_t{15});
    const ByteVec before = BlocksBefore(*carry, x);
    *carry = x;
    const ByteVec d = hn::Xor(Affine(x, of_byte_), Affine(before, of_before_));
    return {kComplement ? hn::AndNot(d, low) : hn::And(d, low), UpperNibbles<kFlip>(d)};
  }

 private:
  uint64_t of_byte_, of_before_;
};

void DerivedTokenGfni(const TokenArgs& args) {
  args.derived->complement != 0 ? RunDerivedToken(args, AffineDeriver<true>(*args.derived))
                                : RunDerivedToken(args, AffineDeriver<false>(*args.derived));
}

#endif  // HWY_TARGET == HWY_AVX2
}  // namespace sdq::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SDQ_KERNELS_GFNI_KERNELS_INL_H_
