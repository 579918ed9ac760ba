// Products of one token with bitstreams: what decode spends its time on.
#ifndef SDQ_KERNELS_TOKEN_PRODUCT_H_
#define SDQ_KERNELS_TOKEN_PRODUCT_H_

#include <cstdint>
#include <span>

#include "kernels/activation.h"
#include "kernels/stream_kernels.h"
#include "kernels/stream_product.h"

namespace sdq::kernels {

// StreamProducts of one token, by a kernel that takes all segments of some tiles at once. tables:
// from map.PrepareTables, for any form.
void TokenProducts(std::span<const StreamOutput> outputs, const ActivationMap& map,
                   const TokenProduct& product, const uint8_t* tables);

// AnnounceProducts by such a kernel.
void AnnounceTokenProducts(std::span<const StreamOutput> outputs, const ActivationMap& map,
                           const TokenProduct& product);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_TOKEN_PRODUCT_H_
