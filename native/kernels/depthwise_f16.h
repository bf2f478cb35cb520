// Depthwise convolution of a few positions in float16: lanes are channels, rows are positions; see
// DepthwiseF16Args in halves.h. As in depthwise.h, with 8 channels to a load.
#pragma once
#include "kernels/finish_f16.h"
#include "kernels/table.h"

namespace activsparse {

template <class P, int R, int N, bool kPartial>
inline void depthwise_f16_vectors(const DepthwiseF16Args& args, int64_t c, int lanes) {
  constexpr int W = P::kWidth;
  static_assert(N == 1 || !kPartial);
  const auto load = [&](const Half* p) {
    if (!kPartial) return P::load(p);
    Half some[W] = {};
    for (int i = 0; i < lanes; ++i) some[i] = p[i];
    return P::load(some);
  };
  alignas(16) float room[R * N * W];
  P sums[R][N];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sums[r][v] = P::zero();
  const Half* const* rows = args.rows;
  for (int t = 0; t < args.taps; ++t, rows += R) {
    P weight[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) weight[v] = P::load(args.weights[t] + c + v * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Half* row = rows[r] + c;
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = fma(load(row + v * W), weight[v], sums[r][v]);
    }
  }
  WideSums so_far{args.start + c, 0};
  finish_sums(sums, so_far, room, {args.out, args.residual, c, args.epilogue, lanes, lanes});
}

template <class P, int R>
void depthwise_f16_tile(const DepthwiseF16Args& args) {
  constexpr int W = P::kWidth;
  const int whole = args.whole_vectors ? (args.channels + W - 1) / W * W : args.channels / W * W;
  constexpr int kVectors = tile_sizes(Family::channels_f16, P::kIsa).max_vectors;
  int c = 0;
  for (; c + kVectors * W <= whole; c += kVectors * W)
    depthwise_f16_vectors<P, R, kVectors, false>(args, c, W);
  if constexpr (kVectors > 2)
    for (; c + 2 * W <= whole; c += 2 * W) depthwise_f16_vectors<P, R, 2, false>(args, c, W);
  for (; c < whole; c += W) depthwise_f16_vectors<P, R, 1, false>(args, c, W);
  if constexpr (W > 1)
    if (whole < args.channels)
      depthwise_f16_vectors<P, R, 1, true>(args, whole, args.channels - whole);
}

template <class P, int R>
constexpr void fill_channels(DepthwiseF16Kernels& kernels) {
  if constexpr (R > 0) {
    kernels.tile[R - 1] = depthwise_f16_tile<P, R>;
    fill_channels<P, R - 1>(kernels);
  }
}

template <class V>
constexpr DepthwiseF16Kernels channels_kernels() {
  using P = typename V::Products;
  DepthwiseF16Kernels kernels{tile_sizes(Family::channels_f16, P::kIsa), {}};
  fill_channels<P, kDepthwiseF16Rows>(kernels);
  return kernels;
}

}  // namespace activsparse
