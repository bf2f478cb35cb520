// Kernel tables of the instruction sets that this library is not compiled for: sizes without code,
// for packing a plan on another machine than the one that will run it.
#include "kernels/table.h"

namespace activsparse {
namespace {

constexpr Kernels foreign_kernels(const char* name, Isa isa, int width, const CacheSizes& caches) {
  Kernels kernels{};
  kernels.isa = name;
  kernels.width = width;
  kernels.caches = caches;
#define FAMILY(type, family, Interface) \
  set_sizes(kernels.family##_##type, Family::family##_##type, isa);
#include "kernels/table.inc"
  return kernels;
}

}  // namespace

#ifdef ACTIVSPARSE_COMPACT
const Kernels kScalarKernels = {};  // such a library does without a scalar target
#endif
#if !defined(__aarch64__)
constexpr Kernels kNeonTable = foreign_kernels("neon", Isa::kNeon, kNeonWidth, kArmCaches);
const Kernels kNeonKernels = kNeonTable;
#endif
#if !defined(__x86_64__)
constexpr Kernels kAvx2Table = foreign_kernels("avx2", Isa::kAvx2, kAvx2Width, kX86Caches);
const Kernels kAvx2Kernels = kAvx2Table;
#endif
#if !defined(__x86_64__) || defined(ACTIVSPARSE_NO_AVX512)  // one target shows what sanitizers find
constexpr Kernels kAvx512Table = foreign_kernels("avx512", Isa::kAvx512, kAvx512Width, kX86Caches);
const Kernels kAvx512Kernels = kAvx512Table;
#endif

}  // namespace activsparse
