// Sizes of each instruction set's vectors, and of its narrow ones (see simd_scalar.h). They decide
// how weights are packed, on any machine.
#pragma once

namespace activsparse {

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
