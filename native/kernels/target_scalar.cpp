// Every kernel template, compiled for one instruction set.
#include "kernels/bytes_scalar.h"
#include "kernels/halved.h"
#include "kernels/halves_scalar.h"
#include "kernels/simd_scalar.h"
#include "kernels/targets.h"

namespace activsparse {
namespace {

struct Types {
  using f32 = VecScalar;
  using f16 = Halved<VecScalar, HalvesScalar>;
  using u8 = BytesScalar;
};

}  // namespace

constexpr Kernels kTable = make_kernels<Types>("scalar", kX86Caches);
const Kernels kScalarKernels = kTable;

}  // namespace activsparse
