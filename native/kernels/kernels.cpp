#include "kernels/kernels.h"

#include <cstdlib>
#include <cstring>

#include "common/isa.h"

namespace activsparse {
namespace {

bool present([[maybe_unused]] Isa isa) {
#if defined(ACTIVSPARSE_BYTES_VNNI) && !defined(ACTIVSPARSE_COMPACT)
  if (isa == Isa::kAvx512) return __builtin_cpu_supports("avx512vnni");
  if (isa == Isa::kAvx2) return __builtin_cpu_supports("avxvnni");
#endif
  return false;
}

bool unused() {
  const char* features = std::getenv("ACTIVSPARSE_FEATURES");
  return features != nullptr && std::strcmp(features, "none") == 0;
}

const Kernels& plain_kernels(Isa isa) {
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

#if defined(ACTIVSPARSE_BYTES_VNNI) && !defined(ACTIVSPARSE_COMPACT)
Kernels with(Kernels kernels, const BytesTable& bytes) {
  kernels.product_u8 = bytes.product_u8;
  kernels.maps_u8 = bytes.maps_u8;
  return kernels;
}
#endif

}  // namespace

const char* feature_of(Isa isa) { return present(isa) && !unused() ? "vnni" : ""; }

const Kernels& kernels_for(Isa isa) {
#if defined(ACTIVSPARSE_BYTES_VNNI) && !defined(ACTIVSPARSE_COMPACT)
  if (*feature_of(isa) != 0) {
    static const Kernels avx2 = with(kAvx2Kernels, kAvxVnniKernels);
    static const Kernels avx512 = with(kAvx512Kernels, kAvx512VnniKernels);
    return isa == Isa::kAvx2 ? avx2 : avx512;
  }
#endif
  return plain_kernels(isa);
}

}  // namespace activsparse
