// Depthwise convolution of a few positions: lanes are channels, rows are positions; see
// DepthwiseArgs in kernels.h.
//
// A tile loads one weight vector per tap and one input vector per tap and row, so it runs at the
// load ports' pace.
#pragma once
#include "kernels/activate.h"
#include "kernels/kernels.h"

namespace activsparse {

template <class V, int R, bool kPartial>
inline void depthwise_vector(const DepthwiseArgs& args, int64_t c, int lanes) {
  auto load = [&](const float* p) {
    return kPartial ? V::load_partial(p + c, lanes) : V::load(p + c);
  };
  V sums[R];
  const V start = V::load(args.start + c);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sums[r] = start;
  const float* const* rows = args.rows;
  for (int t = 0; t < args.taps; ++t, rows += R) {
    const V weight = V::load(args.weights[t] + c);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[r] = fma(load(rows[r]), weight, sums[r]);
  }
  if (args.residual != nullptr) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[r] = sums[r] + load(args.residual[r]);
  }
  if (args.epilogue->activation == Activation::kClip) {
    const V lo = V::set1(args.epilogue->lo), hi = V::set1(args.epilogue->hi);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[r] = min(max(sums[r], lo), hi);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    if (kPartial)
      sums[r].store_partial(args.out[r] + c, lanes);
    else
      sums[r].store(args.out[r] + c);
  }
}

template <class V, int R>
void depthwise_tile(const DepthwiseArgs& args) {
  const int whole = args.whole_vectors ? (args.channels + V::kWidth - 1) / V::kWidth * V::kWidth
                                       : args.channels / V::kWidth * V::kWidth;
  for (int c = 0; c < whole; c += V::kWidth) depthwise_vector<V, R, false>(args, c, V::kWidth);
  if (whole < args.channels) depthwise_vector<V, R, true>(args, whole, args.channels - whole);
  if (args.epilogue->activation > Activation::kClip)
    for (int r = 0; r < R; ++r)
      activate_run<V>(args.out[r], args.out[r], args.channels, *args.epilogue);
}

template <class V, int R>
constexpr void fill_depthwise(DepthwiseKernels& kernels) {
  if constexpr (R > 0) {
    kernels.tile[R - 1] = depthwise_tile<V, R>;
    fill_depthwise<V, R - 1>(kernels);
  }
}

template <class V>
constexpr DepthwiseKernels depthwise_kernels() {
  DepthwiseKernels kernels{};
  fill_depthwise<V, kDepthwiseRows>(kernels);
  return kernels;
}

}  // namespace activsparse
