#include "kernels/kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include <cstdlib>
#include <cstring>

#include "common/isa.h"

namespace activsparse {
namespace {

// The kernels on bytes that this processor can run in place of an instruction set's, or nullptr.
const BytesTable* present([[maybe_unused]] Isa isa) {
#if defined(ACTIVSPARSE_BYTES_VNNI)
  if (isa == Isa::kAvx512 && __builtin_cpu_supports("avx512vnni")) return &kAvx512VnniKernels;
  if (isa == Isa::kAvx2 && __builtin_cpu_supports("avxvnni")) return &kAvxVnniKernels;
#elif defined(ACTIVSPARSE_BYTES_DOTPROD) && defined(__linux__)
  constexpr unsigned long kDotprod = 1ul << 20;  // HWCAP_ASIMDDP, which older headers lack
  if (isa == Isa::kNeon && (getauxval(AT_HWCAP) & kDotprod) != 0) return &kDotprodKernels;
#endif
  return nullptr;
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

Kernels with(Kernels kernels, const BytesTable& bytes) {
  kernels.product_u8 = bytes.product_u8;
  kernels.words_u8 = {};  // the former need none
  kernels.maps_u8 = bytes.maps_u8;
  return kernels;
}

Kernels with_lookup(Kernels kernels) {
#if defined(ACTIVSPARSE_BYTES_VNNI)
  if (__builtin_cpu_supports("avx512vbmi")) kernels.maps_u8.lookup = kAvx512VbmiLookup;
#endif
  return kernels;
}

}  // namespace

const char* feature_of(Isa isa) {
  const BytesTable* bytes = present(isa);
  return bytes != nullptr && !unused() ? bytes->feature : "";
}

const Kernels& kernels_for(Isa isa) {
  const BytesTable* bytes = present(isa);
  if (bytes == nullptr || unused()) return plain_kernels(isa);
  if (isa == Isa::kAvx512) {
    static const Kernels avx512 = with_lookup(with(kAvx512Kernels, *bytes));
    return avx512;
  }
  // Of the others a processor has one at most.
  static const Kernels other = with(plain_kernels(isa), *bytes);
  return other;
}

}  // namespace activsparse
