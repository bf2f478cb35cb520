// Every kernel template, compiled for one instruction set.
#include "kernels/simd_scalar.h"
#include "kernels/targets.h"

namespace activsparse {

constexpr Kernels kTable = make_kernels<VecScalar>("scalar", kX86Caches);
const Kernels kScalarKernels = kTable;

}  // namespace activsparse
