// Kernels on bytes for NEON with dot products.
#include "kernels/bytes_neon.h"
#include "kernels/maps_u8.h"

namespace activsparse {

constexpr BytesTable kTable = {"dotprod", product_kernels<BytesDotprod>(),
                               maps_kernels<BytesDotprod>()};
const BytesTable kDotprodKernels = kTable;

}  // namespace activsparse
