// The kernels as plain code: what every vector version must equal, bit for bit. Runs as the target
// "SCALAR", and where Highway has no vectors to offer.
#ifndef SDQ_KERNELS_REFERENCE_H_
#define SDQ_KERNELS_REFERENCE_H_

#include "kernels/stream_kernels.h"
#include "kernels/transform_kernels.h"

namespace sdq::kernels {

const TransformKernels& ReferenceTransformKernels();
const StreamKernels& ReferenceStreamKernels();

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_REFERENCE_H_
