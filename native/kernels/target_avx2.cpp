// Every kernel template, compiled for one instruction set.
#include "kernels/simd_avx2.h"
#include "kernels/targets.h"

namespace activsparse {

constexpr Kernels kTable = make_kernels<VecAvx2>("avx2", kX86Caches);
const Kernels kAvx2Kernels = kTable;

}  // namespace activsparse
