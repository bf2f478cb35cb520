// Kernels on float16 for NEON with ARMv8.2's arithmetic.
#include "kernels/convert_f16.h"
#include "kernels/depthwise_f16.h"
#include "kernels/elementwise.h"
#include "kernels/halved.h"
#include "kernels/halves_fp16.h"
#include "kernels/pool.h"
#include "kernels/product_f16.h"

namespace activsparse {
namespace {

using Fp16 = Halved<VecNeonOf<ProcessorWithFp16>, HalvesFp16>;

}  // namespace

constexpr HalvesTable kTable = {halves_kernels<Fp16>(),      channels_kernels<Fp16>(),
                                convert_kernels<Fp16>(),     activate_kernels<Fp16>(),
                                elementwise_kernels<Fp16>(), pool_kernels<Fp16>()};
const HalvesTable kFp16Kernels = kTable;

}  // namespace activsparse
