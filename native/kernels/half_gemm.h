// The tiles of gemm.h for panels whose last vector would be half empty, as that of 24 channels:
// there two rows share a vector. Its lower half belongs to the first of them, its upper half to the
// second, and both halves of the weights are the same.
//
// A pair of rows costs one blend per channel, and saves one multiply-add.
#pragma once
#include "kernels/gemm.h"

namespace activsparse {

// N whole vectors, and half of one. An odd last row has a vector to itself.
template <class V, int R, int N>
void half_gemm_tile(const GemmArgs& args) {
  constexpr int W = V::kWidth, kPairs = (R + 1) / 2;
  const int lanes = args.lanes, store_lanes = args.store_lanes;
  V sums[R][N + 1], shared[kPairs];  // not sums[r][N]
  // What rows 2 p and 2 p + 1 have behind their whole vectors.
  const auto load_shared = [](const float* const* rows, int p, int count) {
    const V lower = V::load_partial(rows[2 * p] + N * W, count);
    const int second = 2 * p + 1 < R ? 2 * p + 1 : 2 * p;
    return join_halves(lower, swap_halves(V::load_partial(rows[second] + N * W, count)));
  };
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v)
      sums[r][v] = V::load((args.start != nullptr ? args.start : args.out[r]) + v * W);
#pragma GCC unroll 16
  for (int p = 0; p < kPairs; ++p)
    shared[p] =
        args.start != nullptr ? V::load(args.start + N * W) : load_shared(args.out, p, store_lanes);

  const float* const* rows = args.rows;
  const int channels = args.channels;
  const int64_t fetch = args.fetch[0], also_fetch = args.fetch[1];
  for (int t = 0; t < args.taps; ++t, rows += R) {
    const float* w = args.weights[t];
    const float* x[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) x[r] = rows[r];
    for (int c = 0; c < channels; ++c, w += (N + 1) * W) {
      V weight[N + 1];
#pragma GCC unroll 4
      for (int v = 0; v <= N; ++v) weight[v] = V::load(w + v * W);
      if constexpr (R <= kFetchRows) {
        __builtin_prefetch(w + fetch, 0, 2);
        __builtin_prefetch(w + also_fetch, 0, 2);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; r += 2) {
        const V first = V::broadcast(x[r] + c);
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) sums[r][v] = fma(first, weight[v], sums[r][v]);
        V both = first;
        if (r + 1 < R) {
          const V second = V::broadcast(x[r + 1] + c);
#pragma GCC unroll 4
          for (int v = 0; v < N; ++v) sums[r + 1][v] = fma(second, weight[v], sums[r + 1][v]);
          both = join_halves(first, second);
        }
        shared[r / 2] = fma(both, weight[N], shared[r / 2]);
      }
    }
  }

  const Epilogue* epilogue = args.epilogue;
  if (epilogue != nullptr && args.residual != nullptr) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = sums[r][v] + V::load(args.residual[r] + v * W);
#pragma GCC unroll 16
    for (int p = 0; p < kPairs; ++p) shared[p] = shared[p] + load_shared(args.residual, p, lanes);
  }
  if (epilogue != nullptr && clips_positive(*epilogue)) {
    const V lo = V::set1(epilogue->lo), hi = V::set1(epilogue->hi);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = clip_positive(sums[r][v], lo, hi);
#pragma GCC unroll 16
    for (int p = 0; p < kPairs; ++p) shared[p] = clip_positive(shared[p], lo, hi);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    float* out = args.out[r];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sums[r][v].store(out + v * W);
    const V last = r % 2 == 0 ? shared[r / 2] : swap_halves(shared[r / 2]);
    if (store_lanes == W / 2)
      last.store_half(out + N * W);
    else
      last.store_partial(out + N * W, store_lanes);
  }
  if (epilogue != nullptr && epilogue->activation != Activation::kNone &&
      !clips_positive(*epilogue))
    for (int r = 0; r < R; ++r) activate_run<V>(args.out[r], args.out[r], N * W + lanes, *epilogue);
}

template <class V, int N, int R>
constexpr void fill_half_tiles(GemmKernels& kernels) {
  if constexpr (R > 0) {
    kernels.max_vectors = N + 1;
    kernels.max_rows[N] = kernels.max_rows[N] > R ? kernels.max_rows[N] : R;
    kernels.tile[N][R - 1] = half_gemm_tile<V, R, N>;
    fill_half_tiles<V, N, R - 1>(kernels);
  }
}

template <class V>
constexpr GemmKernels half_gemm_kernels() {
  GemmKernels kernels{};
  if constexpr (V::kHalves) {
    fill_half_tiles<V, 0, tile_rows<V>(1)>(kernels);
    fill_half_tiles<V, 1, tile_rows<V>(2)>(kernels);
    fill_half_tiles<V, 2, tile_rows<V>(3)>(kernels);
    fill_half_tiles<V, 3, tile_rows<V>(4)>(kernels);
  }
  return kernels;
}

}  // namespace activsparse
