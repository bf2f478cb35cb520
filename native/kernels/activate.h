// out = activation(in) over a run of floats.
#pragma once
#include "kernels/kernels.h"
#include "kernels/vec_math.h"

namespace activsparse {

template <class V>
__attribute__((noinline)) void activate_run(const float* in, float* out, int64_t count,
                                            const Epilogue& epilogue) {
  const Epilogue e = epilogue;
  int64_t i = 0;
  for (; i + V::kWidth <= count; i += V::kWidth) vec_activate(V::load(in + i), e).store(out + i);
  const int rest = static_cast<int>(count - i);
  if (rest > 0) vec_activate(V::load_partial(in + i, rest), e).store_partial(out + i, rest);
}

template <class V>
constexpr ActivateKernels activate_kernels() {
  return {activate_run<V>};
}

}  // namespace activsparse
