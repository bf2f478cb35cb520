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

void use(Kernels& kernels, const BytesTable& bytes) {
  kernels.product_u8 = bytes.product_u8;
  kernels.words_u8 = {};  // the former need none
  kernels.maps_u8 = bytes.maps_u8;
#if defined(ACTIVSPARSE_BYTES_VNNI)
  if (&bytes == &kAvx512VnniKernels && __builtin_cpu_supports("avx512vbmi"))
    kernels.maps_u8.lookup = kAvx512VbmiLookup;
#endif
}

// The kernels on float16 that this processor can run, if any.
const HalvesTable* halves([[maybe_unused]] Isa isa) {
#if defined(ACTIVSPARSE_FP16) && defined(__linux__) && !defined(ACTIVSPARSE_COMPACT)
  constexpr unsigned long kArithmetic = 3ul << 9;  // HWCAP_FPHP, HWCAP_ASIMDHP
  if (isa == Isa::kNeon && (getauxval(AT_HWCAP) & kArithmetic) == kArithmetic) return &kFp16Kernels;
#endif
  return nullptr;
}

void use(Kernels& kernels, const HalvesTable& table) {
  kernels.halves_f16 = table.halves_f16;
  kernels.channels_f16 = table.channels_f16;
  kernels.convert_f16 = table.convert_f16;
  kernels.activate_f16 = table.activate_f16;
  kernels.elementwise_f16 = table.elementwise_f16;
  kernels.pool_f16 = table.pool_f16;
}

// An instruction set's kernels with all that this processor has beyond it, but for `bytes` false
// those on bytes.
Kernels all_kernels(Isa isa, bool bytes) {
  Kernels kernels = plain_kernels(isa);
  if (const BytesTable* table = present(isa); table != nullptr && bytes) use(kernels, *table);
  if (const HalvesTable* table = halves(isa)) use(kernels, *table);
  return kernels;
}

}  // namespace

const char* feature_of(Isa isa) {
  const BytesTable* bytes = present(isa);
  return bytes != nullptr && !unused() ? bytes->feature : "";
}

const Kernels& kernels_for(Isa isa) {
  if (present(isa) == nullptr && halves(isa) == nullptr) return plain_kernels(isa);
  const bool bytes = !unused();
  if (isa == Isa::kAvx512) {
    if (!bytes) return plain_kernels(isa);
    static const Kernels avx512 = all_kernels(Isa::kAvx512, true);
    return avx512;
  }
  // Of the others a processor has one at most.
  static const Kernels all = all_kernels(isa, true), without_bytes = all_kernels(isa, false);
  return bytes ? all : without_bytes;
}

}  // namespace activsparse
