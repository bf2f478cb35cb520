// Every kernel template, compiled for one instruction set.
#include "kernels/simd_neon.h"
#include "kernels/targets.h"

namespace activsparse {

constexpr Kernels kTable = make_kernels<VecNeon>("neon", kArmCaches);
const Kernels kNeonKernels = kTable;

}  // namespace activsparse
