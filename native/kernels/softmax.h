// out[i] = exp(in[i] - max) / sum over j of exp(in[j] - max): three passes over one row that stays
// in cache. Reads and writes exactly `count` >= 1 floats; `out` may equal `in`.
#pragma once
#include "kernels/kernels.h"
#include "kernels/vec_math.h"

namespace activsparse {

template <class V>
void softmax_run(const float* in, float* out, int64_t count) {
  float lanes[V::kWidth];
  const int64_t whole = count / V::kWidth * V::kWidth;
  V largest = V::set1(in[0]);
  for (int64_t i = 0; i < whole; i += V::kWidth) largest = max(largest, V::load(in + i));
  largest.store(lanes);
  float top = lanes[0];
  for (int i = 1; i < V::kWidth; ++i) top = lanes[i] > top ? lanes[i] : top;
  for (int64_t i = whole; i < count; ++i) top = in[i] > top ? in[i] : top;

  const V shift = V::set1(top);
  V sums = V::zero();
  for (int64_t i = 0; i < whole; i += V::kWidth) {
    const V e = vec_exp(V::load(in + i) - shift);
    e.store(out + i);
    sums = sums + e;
  }
  const int rest = static_cast<int>(count - whole);
  sums.store(lanes);
  float sum = 0;
  for (float lane : lanes) sum += lane;
  if (rest > 0) {
    vec_exp(V::load_partial(in + whole, rest) - shift).store_partial(out + whole, rest);
    for (int64_t i = whole; i < count; ++i) sum += out[i];
  }

  const V factor = V::set1(1.0f / sum);
  for (int64_t i = 0; i < whole; i += V::kWidth) (V::load(out + i) * factor).store(out + i);
  if (rest > 0) (V::load_partial(out + whole, rest) * factor).store_partial(out + whole, rest);
}

template <class V>
constexpr SoftmaxKernels softmax_kernels() {
  if constexpr (kCompact) return {};
  return {softmax_run<V>};
}

}  // namespace activsparse
