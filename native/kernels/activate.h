// out = activation(in) over a run of floats.
#pragma once
#include "kernels/kernels.h"
#include "kernels/vec_math.h"

namespace activsparse {

template <class V>
__attribute__((noinline)) void activate_run(const float* in, float* out, int64_t count,
                                            const Epilogue& epilogue) {
  const auto each = [&](auto activate) {
    int64_t i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) activate(V::load(in + i)).store(out + i);
    const int rest = static_cast<int>(count - i);
    if (rest > 0) activate(V::load_partial(in + i, rest)).store_partial(out + i, rest);
  };
  // The two dearest get loops of their own, so that their constants stay in registers.
  const Epilogue e = epilogue;
  if (e.activation == Activation::kSilu)
    each([](V x) { return x * vec_sigmoid(x); });
  else if (e.activation == Activation::kSigmoid)
    each([](V x) { return vec_sigmoid(x); });
  else
    each([&](V x) { return vec_activate(x, e); });
}

template <class V>
constexpr ActivateKernels activate_kernels() {
  return {activate_run<V>};
}

}  // namespace activsparse
