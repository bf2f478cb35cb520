// The products of one tap of conv/active_taps: a few rows times a part of the tap's weights, added
// to sums that wait in memory; see TapProductArgs in kernels.h.
//
// On small maps a tap has few rows, so that weights arrive from memory no faster than they are
// used. What a tile is told to fetch goes evenly between its multiply-adds.
#pragma once
#include "kernels/kernels.h"
#include "kernels/table.h"

namespace activsparse {

template <class V, int R, int N>
void tap_product(const TapProductArgs& args) {
  constexpr int W = V::kWidth;
  constexpr int64_t kLine = 64 / sizeof(float);
  const int store_lanes = args.store_lanes;
  V sums[R][N];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < N - 1; ++j) sums[r][j] = V::load(args.out[r] + j * W);
    sums[r][N - 1] = V::load_partial(args.out[r] + (N - 1) * W, store_lanes);
  }
  const float* x[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) x[r] = args.rows[r] + args.first;
  const float *u = args.weights, *next = args.next;
  const int channels = args.channels;
  const int64_t share = args.fetch_floats, line = channels * kLine;
  for (int64_t c = 0, due = 0; c < channels; ++c, u += N * W) {
    V row[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) row[j] = V::load(u + j * W);
    // Whole lines, evenly over the channels.
    for (due += share; due > 0; due -= line, next += kLine) __builtin_prefetch(next);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V value = V::broadcast(x[r] + c);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sums[r][j] = fma(value, row[j], sums[r][j]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    float* out = args.out[r];
#pragma GCC unroll 4
    for (int j = 0; j < N - 1; ++j) sums[r][j].store(out + j * W);
    if (store_lanes == W)
      sums[r][N - 1].store(out + (N - 1) * W);
    else
      sums[r][N - 1].store_partial(out + (N - 1) * W, store_lanes);
  }
}

template <class V, int N, int R>
constexpr void fill_tap_products(TapProductKernels& kernels) {
  if constexpr (R > 0) {
    kernels.tile[N - 1][R - 1] = tap_product<V, R, N>;
    fill_tap_products<V, N, R - 1>(kernels);
  }
}

template <class V>
constexpr TapProductKernels tap_product_kernels() {
  constexpr TileSizes sizes = tile_sizes(Family::tap_product_f32, V::kIsa);
  TapProductKernels kernels{sizes, {}};
  fill_tap_products<V, 1, sizes.max_rows[0]>(kernels);
  fill_tap_products<V, 2, sizes.max_rows[1]>(kernels);
  fill_tap_products<V, 3, sizes.max_rows[2]>(kernels);
  fill_tap_products<V, 4, sizes.max_rows[3]>(kernels);
  return kernels;
}

}  // namespace activsparse
