// Weights that are kept as float16, on their way to a product: out[i] = in[i] * scale.
//
// `scale` is a power of two, so that the product is exact. `count` is a multiple of a vector's
// lanes; nothing beyond is read or written. `out` is 64-byte aligned and in a cache when the
// product reads it: that no product needs a form for float16, in any tile, costs a load, a
// conversion and a store for each vector of weights.
#pragma once
#include "kernels/kernels.h"

namespace activsparse {

template <class V>
void widen(const uint16_t* in, float* out, int64_t count, float scale) {
  const V factor = V::set1(scale);
  for (int64_t i = 0; i < count; i += V::kWidth) (V::load_half(in + i) * factor).store(out + i);
}

template <class V>
constexpr WidenKernels widen_kernels() {
  return {widen<V>};
}

}  // namespace activsparse
