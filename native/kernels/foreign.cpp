// Kernel tables of the instruction sets that this library is not compiled for: sizes without code,
// for packing a plan on another machine than the one that will run it.
#include "kernels/targets.h"
#include "kernels/vector_sizes.h"

namespace activsparse {
namespace {

// Stands for a vector type where no kernel is ever called. The templates are instantiated for the
// addresses that `sizes_only` drops again, so no code of them is left.
template <class Sizes>
struct VecForeign : Sizes {
  static constexpr bool kMaxKeepsNan = true;
  static constexpr float kVanishingExponent = 0;
  static VecForeign load(const float*);
  static VecForeign load_partial(const float*, int);
  static VecForeign broadcast(const float*);
  static VecForeign set1(float);
  static VecForeign zero();
  void store(float*) const;
  void store_partial(float*, int) const;
  void store_half(float*) const;
  static void transpose(VecForeign*);
  friend VecForeign join_halves(VecForeign a, VecForeign) { return a; }
  friend VecForeign swap_halves(VecForeign a) { return a; }
  friend VecForeign operator+(VecForeign a, VecForeign) { return a; }
  friend VecForeign operator-(VecForeign a, VecForeign) { return a; }
  friend VecForeign operator*(VecForeign a, VecForeign) { return a; }
  friend VecForeign operator/(VecForeign a, VecForeign) { return a; }
  friend VecForeign operator&(VecForeign a, VecForeign) { return a; }
  friend VecForeign fma(VecForeign, VecForeign, VecForeign c) { return c; }
  friend VecForeign max(VecForeign a, VecForeign) { return a; }
  friend VecForeign min(VecForeign a, VecForeign) { return a; }
  friend VecForeign limit_number(VecForeign x, VecForeign, VecForeign) { return x; }
  friend VecForeign round_nearest(VecForeign a) { return a; }
  friend VecForeign scale_by_power(VecForeign a, VecForeign) { return a; }
  friend VecForeign reciprocal(VecForeign a) { return a; }
};

template <class Family>
constexpr Family sizes_only(Family) {
  return {};
}
constexpr GemmKernels sizes_only(const GemmKernels& kernels) {
  GemmKernels sizes{};
  sizes.max_vectors = kernels.max_vectors;
  for (int i = 0; i < kMaxTileVectors; ++i) {
    sizes.max_rows[i] = kernels.max_rows[i];
    sizes.best_rows[i] = kernels.best_rows[i];
  }
  return sizes;
}
constexpr WinogradKernels sizes_only(const WinogradKernels& kernels) {
  WinogradKernels sizes{};
  sizes.max_vecs = kernels.max_vecs;
  return sizes;
}

constexpr DepthwiseBlockKernels sizes_only(const DepthwiseBlockKernels& kernels) {
  DepthwiseBlockKernels sizes = kernels;
  for (auto& kernel : sizes.block)
    for (auto& stride : kernel)
      for (auto& rows : stride) rows = nullptr;
  return sizes;
}

template <class V>
constexpr Kernels foreign_kernels(const char* isa, const CacheSizes& caches) {
  return {
      isa,
      V::kWidth,
      caches,
#define KERNEL(dtype, family, Interface, factory) sizes_only(factory<V>()),
#include "kernels/kernels.inc"
#undef KERNEL
  };
}

}  // namespace

#ifdef ACTIVSPARSE_COMPACT
const Kernels kScalarKernels = {};  // such a library does without a scalar target
#endif
#if !defined(__aarch64__)
constexpr Kernels kNeonTable = foreign_kernels<VecForeign<NeonSizes>>("neon", kArmCaches);
const Kernels kNeonKernels = kNeonTable;
#endif
#if !defined(__x86_64__)
constexpr Kernels kAvx2Table = foreign_kernels<VecForeign<Avx2Sizes>>("avx2", kX86Caches);
const Kernels kAvx2Kernels = kAvx2Table;
#endif
#if !defined(__x86_64__) || defined(ACTIVSPARSE_NO_AVX512)  // one target shows what sanitizers find
constexpr Kernels kAvx512Table = foreign_kernels<VecForeign<Avx512Sizes>>("avx512", kX86Caches);
const Kernels kAvx512Kernels = kAvx512Table;
#endif

}  // namespace activsparse
