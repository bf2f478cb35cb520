#include "kernels/kernels.h"

#include "common/error.h"
#include "common/isa.h"

namespace activsparse {

extern const Kernels kScalarKernels, kNeonKernels, kAvx2Kernels, kAvx512Kernels;

const Kernels& kernels_for(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return kScalarKernels;
#if defined(__aarch64__)
    case Isa::kNeon:
      return kNeonKernels;
#endif
#if defined(__x86_64__)
    case Isa::kAvx2:
      return kAvx2Kernels;
    case Isa::kAvx512:
      return kAvx512Kernels;
#endif
    default:
      throw Error(std::string("no kernels were compiled for instruction set '") + isa_name(isa) +
                  "'");
  }
}

}  // namespace activsparse
