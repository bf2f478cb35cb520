// Kernels on bytes for AVX-512 with VNNI.
#include "kernels/bytes_avx512.h"
#include "kernels/maps_u8.h"

namespace activsparse {

constexpr BytesTable kTable = {"vnni", product_kernels<BytesAvx512Vnni>(),
                               maps_kernels<BytesAvx512Vnni>()};
const BytesTable kAvx512VnniKernels = kTable;

}  // namespace activsparse
