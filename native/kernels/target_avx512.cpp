// Every kernel template, compiled for one instruction set.
#include "kernels/simd_avx512.h"
#include "kernels/targets.h"

namespace activsparse {

constexpr Kernels kTable = make_kernels<VecAvx512>("avx512", kX86Caches);
const Kernels kAvx512Kernels = kTable;

}  // namespace activsparse
