// Sizes of each instruction set's vectors. They decide how weights are packed, on any machine.
#pragma once

namespace activsparse {

struct NeonSizes {
  static constexpr int kWidth = 4, kRegisters = 32;
};
struct Avx2Sizes {
  static constexpr int kWidth = 8, kRegisters = 16;
};
struct Avx512Sizes {
  static constexpr int kWidth = 16, kRegisters = 32;
};

}  // namespace activsparse
