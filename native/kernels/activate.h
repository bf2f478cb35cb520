// out = activation(in) over a run of numbers.
#pragma once
#include "kernels/kernels.h"
#include "kernels/vec_math.h"

namespace activsparse {

template <class V>
__attribute__((noinline)) void activate_run(const typename V::Element* in, typename V::Element* out,
                                            int64_t count, const Epilogue& epilogue) {
  // A loop for each, so that constants stay in registers.
  with_activation<typename V::Arithmetic>(epilogue, [&](auto activation) {
    int64_t i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) V(activation(V::load(in + i))).store(out + i);
    const int rest = static_cast<int>(count - i);
    if (rest > 0) V(activation(V::load_partial(in + i, rest))).store_partial(out + i, rest);
  });
}

template <class V>
constexpr ActivateKernelsOf<typename V::Element> activate_kernels() {
  return {activate_run<V>};
}

}  // namespace activsparse
