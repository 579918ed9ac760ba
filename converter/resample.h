// Ideal low-pass resampling of one block, as matrices (the rule of scipy.signal.resample: the
// real spectrum is cut or padded with zeros and scaled by to/from; a Nyquist bin is halved when it
// becomes two bins and doubled when two become one).
#ifndef SDQ_CONVERTER_RESAMPLE_H_
#define SDQ_CONVERTER_RESAMPLE_H_

#include <cstddef>
#include <vector>

namespace sdq::converter {

// A block of `columns` weights as `samples` samples and back; samples >= columns >= 1.
// Both are transposed, for products with row vectors: x = v * up, v = q * down.
struct BlockResampler {
  BlockResampler(size_t columns, size_t samples);

  size_t columns;
  size_t samples;
  std::vector<float> up;    // [columns][samples]
  std::vector<float> down;  // [samples][columns]: kernels::DecimatorMatrix, transposed
};

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_RESAMPLE_H_
