#include "kernels/kernels.h"

#include "common/isa.h"

namespace activsparse {

const Kernels& kernels_for(Isa isa) {
  switch (isa) {
    case Isa::kNeon:
      return kNeonKernels;
    case Isa::kAvx2:
      return kAvx2Kernels;
    case Isa::kAvx512:
      return kAvx512Kernels;
    case Isa::kScalar:
      break;
  }
  return kScalarKernels;
}

}  // namespace activsparse
