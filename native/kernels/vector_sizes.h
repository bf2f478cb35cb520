// Sizes of each instruction set's vectors. They decide how weights are packed, on any machine.
#pragma once

namespace activsparse {

// Whether a library that has to be small is being built. It has no scalar target, no shared
// halves of vectors, no blocks of 5x5 depthwise kernels, no Winograd tiles on chequerboards, and
// one output transform per shape of the others, with a residual or without.
#ifdef ACTIVSPARSE_COMPACT
inline constexpr bool kCompact = true;
#else
inline constexpr bool kCompact = false;
#endif

// kHalves: whether half_gemm (kernels/half_gemm.h) exists. Where vectors are short there is little
// to gain.
struct NeonSizes {
  static constexpr int kWidth = 4, kRegisters = 32;
  static constexpr bool kHalves = false;
};
struct Avx2Sizes {
  static constexpr int kWidth = 8, kRegisters = 16;
  static constexpr bool kHalves = false;
};
struct Avx512Sizes {
  static constexpr int kWidth = 16, kRegisters = 32;
  static constexpr bool kHalves = !kCompact;
};

}  // namespace activsparse
