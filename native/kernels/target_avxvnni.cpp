// Kernels on bytes for AVX2 with AVX-VNNI.
#include "kernels/bytes_avx2.h"
#include "kernels/maps_u8.h"

namespace activsparse {

constexpr BytesTable kTable = {"vnni", product_kernels<BytesAvxVnni>(),
                               maps_kernels<BytesAvxVnni>()};
const BytesTable kAvxVnniKernels = kTable;

}  // namespace activsparse
