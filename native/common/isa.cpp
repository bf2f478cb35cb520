#include "common/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "common/error.h"

namespace activsparse {
namespace {

bool compiled(Isa isa) {
#if defined(__x86_64__) && defined(ACTIVSPARSE_NO_AVX512)
  return isa == Isa::kScalar || isa == Isa::kAvx2;
#elif defined(__x86_64__)
  return isa == Isa::kScalar || isa == Isa::kAvx2 || isa == Isa::kAvx512;
#elif defined(__aarch64__)
  return isa == Isa::kScalar || isa == Isa::kNeon;
#else
  return isa == Isa::kScalar;
#endif
}

#if defined(__x86_64__)
// Not every compiler's probe knows it. Whoever has AVX2 has it, unless a virtual machine hides it.
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

// The compiler's probe reads CPUID and XGETBV, so a set the operating system does not save is
// reported as missing.
bool present(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kNeon:
#if defined(__aarch64__)
      return true;
#else
      return false;
#endif
    case Isa::kAvx2:
#if defined(__x86_64__)
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#else
      return false;
#endif
    case Isa::kAvx512:
#if defined(__x86_64__)
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
      return false;
#endif
  }
  return false;
}

constexpr Isa kAll[] = {Isa::kScalar, Isa::kNeon, Isa::kAvx2, Isa::kAvx512};

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kNeon:
      return "neon";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found;
  for (Isa isa : kAll)
    if (compiled(isa) && present(isa)) found.push_back(isa);
  return found;
}

Isa best_isa() { return available_isas().back(); }

void require_available(Isa isa) {
  std::string available;
  for (Isa have : available_isas()) {
    if (have == isa) return;
    available += std::string(available.empty() ? "" : ", ") + isa_name(have);
  }
  throw Error(std::string("instruction set '") + isa_name(isa) +
              "' is not available on this machine; use one of: " + available);
}

Isa isa_from_name(const std::string& name) {
  const Isa isa = any_isa_from_name(name);
  require_available(isa);
  return isa;
}

Isa any_isa_from_name(const std::string& name) {
  std::string known;
  for (Isa isa : kAll) {
    if (name == isa_name(isa)) return isa;
    known += std::string(known.empty() ? "" : ", ") + isa_name(isa);
  }
  throw Error("unknown instruction set '" + name + "'; use one of: " + known);
}

}  // namespace activsparse
