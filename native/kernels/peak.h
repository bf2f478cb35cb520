// Fused multiply-adds on registers only. Enough independent chains to hide the latency of two
// units.
#pragma once
#include "kernels/kernels.h"

namespace activsparse {

inline constexpr int kPeakChains = 12;

template <class V>
float peak_run(int64_t rounds) {
  V chains[kPeakChains];
  for (V& chain : chains) chain = V::set1(1.0f);
  V factor = V::set1(0.999999f), term = V::set1(1e-6f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kPeakChains; ++j) chains[j] = fma(chains[j], factor, term);
  }
  V sum = chains[0];
  for (int j = 1; j < kPeakChains; ++j) sum = sum + chains[j];
  float lanes[V::kWidth];
  sum.store(lanes);
  return lanes[0];
}

template <class V>
constexpr PeakKernels peak_kernels() {
  return {int64_t{2} * kPeakChains * V::kWidth, peak_run<V>};
}

}  // namespace activsparse
