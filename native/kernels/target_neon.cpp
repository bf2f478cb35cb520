// Every kernel template, compiled for one instruction set.
#include "kernels/bytes_neon.h"
#include "kernels/simd_neon.h"
#include "kernels/targets.h"

namespace activsparse {
namespace {

struct Types {
  using f32 = VecNeon;
  using f16 = NoKernels;  // ARMv8.2's: target_fp16.cpp
  using u8 = BytesNeon;
};

}  // namespace

constexpr Kernels kTable = make_kernels<Types>("neon", kArmCaches);
const Kernels kNeonKernels = kTable;

}  // namespace activsparse
