// Every kernel template, compiled for one instruction set.
#include "kernels/bytes_avx512.h"
#include "kernels/simd_avx512.h"
#include "kernels/targets.h"

namespace activsparse {
namespace {

struct Types {
  using f32 = VecAvx512;
  using f16 = NoKernels;
  using u8 = BytesAvx512;
};

}  // namespace

constexpr Kernels kTable = make_kernels<Types>("avx512", kX86Caches);
const Kernels kAvx512Kernels = kTable;

}  // namespace activsparse
