// Every kernel template, compiled for one instruction set.
#include "kernels/bytes_avx2.h"
#include "kernels/simd_avx2.h"
#include "kernels/targets.h"

namespace activsparse {
namespace {

struct Types {
  using f32 = VecAvx2;
  using f16 = NoKernels;
  using u8 = BytesAvx2;
};

}  // namespace

constexpr Kernels kTable = make_kernels<Types>("avx2", kX86Caches);
const Kernels kAvx2Kernels = kTable;

}  // namespace activsparse
