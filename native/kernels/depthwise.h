// Depthwise convolution of a few positions: lanes are channels, rows are positions; see
// DepthwiseArgs in kernels.h.
//
// A tile loads one input vector per multiply-add, so it runs at the load ports' pace. Row pointers
// are loads too: several vectors per pointer halve their share.
#pragma once
#include "kernels/activate.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

namespace activsparse {

template <class V, int R, int N, bool kPartial>
inline void depthwise_vectors(const DepthwiseArgs& args, int64_t c, int lanes) {
  constexpr int W = V::kWidth;
  static_assert(N == 1 || !kPartial);
  auto load = [&](const float* p) { return kPartial ? V::load_partial(p, lanes) : V::load(p); };
  V sums[R][N];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sums[r][v] = V::load(args.start + c + v * W);
  const float* const* rows = args.rows;
  for (int t = 0; t < args.taps; ++t, rows += R) {
    V weight[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) weight[v] = V::load(args.weights[t] + c + v * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const float* row = rows[r] + c;
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = fma(load(row + v * W), weight[v], sums[r][v]);
    }
  }
  const bool clips = args.epilogue->activation == Activation::kClip;
  const V lo = V::set1(args.epilogue->lo), hi = V::set1(args.epilogue->hi);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      V sum = sums[r][v];
      if (args.residual != nullptr) sum = sum + load(args.residual[r] + c + v * W);
      if (clips) sum = clip(sum, lo, hi);
      if (kPartial)
        sum.store_partial(args.out[r] + c, lanes);
      else
        sum.store(args.out[r] + c + v * W);
    }
}

template <class V, int R>
void depthwise_tile(const DepthwiseArgs& args) {
  const int whole = args.whole_vectors ? (args.channels + V::kWidth - 1) / V::kWidth * V::kWidth
                                       : args.channels / V::kWidth * V::kWidth;
  constexpr int kVectors = tile_sizes(Family::depthwise_f32, V::kIsa).max_vectors;
  int c = 0;
  for (; c + kVectors * V::kWidth <= whole; c += kVectors * V::kWidth)
    depthwise_vectors<V, R, kVectors, false>(args, c, V::kWidth);
  for (; c < whole; c += V::kWidth) depthwise_vectors<V, R, 1, false>(args, c, V::kWidth);
  if (whole < args.channels) depthwise_vectors<V, R, 1, true>(args, whole, args.channels - whole);
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
  DepthwiseKernels kernels{tile_sizes(Family::depthwise_f32, V::kIsa), {}};
  fill_depthwise<V, kDepthwiseRows>(kernels);
  return kernels;
}

}  // namespace activsparse
