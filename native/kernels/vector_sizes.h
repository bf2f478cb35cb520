// Sizes of each instruction set's vectors, and of its narrow ones (see simd_scalar.h). They decide
// how weights are packed, on any machine.
#pragma once

namespace activsparse {

// Whether a library that has to be small is being built. It has no scalar target, no narrow
// vectors, no blocks of 5x5 depthwise kernels, no Winograd tiles on chequerboards, and one output
// transform per shape of the others, with a residual or without.
#ifdef ACTIVSPARSE_COMPACT
inline constexpr bool kCompact = true;
#else
inline constexpr bool kCompact = false;
#endif

template <class V, bool compact = kCompact>
struct NarrowVector {
  using Type = typename V::Narrow;
};
template <class V>
struct NarrowVector<V, true> {
  using Type = V;
};

struct NeonSizes {
  static constexpr int kWidth = 4, kRegisters = 32;
  using Narrow = NeonSizes;
};
struct Avx2Sizes {
  static constexpr int kWidth = 8, kRegisters = 16;
  using Narrow = Avx2Sizes;
};
struct Avx512NarrowSizes {
  static constexpr int kWidth = 8, kRegisters = 32;
  using Narrow = Avx512NarrowSizes;
};
struct Avx512Sizes {
  static constexpr int kWidth = 16, kRegisters = 32;
  using Narrow = Avx512NarrowSizes;
};

}  // namespace activsparse
