// The tiles of gemm.h for panels whose last vector would be half empty, as that of 24 channels:
// there two rows share a vector. Its lower half belongs to the first of them, its upper half to the
// second, and both halves of the weights are the same.
//
// A pair of rows costs one blend per channel, and saves one multiply-add.
#pragma once
#include "kernels/gemm.h"

namespace activsparse {

template <class V, bool kFetch, int R, int N>
__attribute__((always_inline)) inline void add_half_products(const GemmArgs& args, const float* w,
                                                             const float* const* rows,
                                                             V (&sums)[R][N > 0 ? N : 1],
                                                             V (&shared)[(R + 1) / 2][1]) {
  constexpr int W = V::kWidth;
  const int channels = args.channels;
  const int64_t fetch = args.fetch[0], also_fetch = args.fetch[1];
  const float* x[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) x[r] = rows[r];
  for (int c = 0; c < channels; ++c, w += (N + 1) * W) {
    V weight[N + 1];
#pragma GCC unroll 4
    for (int v = 0; v <= N; ++v) weight[v] = V::load(w + v * W);
    if constexpr (kFetch) {
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
      shared[r / 2][0] = fma(both, weight[N], shared[r / 2][0]);
    }
  }
}

// N whole vectors, and half of one. An odd last row has a vector to itself.
template <class V, int R, int N>
void half_gemm_tile(const GemmArgs& args) {
  constexpr int W = V::kWidth, kPairs = (R + 1) / 2;
  const int lanes = args.lanes, store_lanes = args.store_lanes;
  const int64_t column = args.column;
  const float* const* rows = args.rows;
  float* const* outs = args.out;
  const float* const* residuals = args.residual;
  // What rows 2 p and 2 p + 1 have behind their whole vectors.
  const auto load_shared = [&](const float* const* from, int p, int count) {
    const int second = 2 * p + 1 < R ? 2 * p + 1 : 2 * p;
    const V lower = V::load_partial(from[2 * p] + column + N * W, count);
    const V upper = V::load_partial(from[second] + column + N * W, count);
    return join_halves(lower, swap_halves(upper));
  };
  for (int tile = 0; tile <= args.more; ++tile, outs += R) {
    V sums[R][N > 0 ? N : 1], shared[kPairs][1];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v)
        sums[r][v] = V::load((args.start != nullptr ? args.start : outs[r] + column) + v * W);
#pragma GCC unroll 16
    for (int p = 0; p < kPairs; ++p)
      shared[p][0] =
          args.start != nullptr ? V::load(args.start + N * W) : load_shared(outs, p, store_lanes);

    for (int t = 0; t < args.taps; ++t, rows += R) {
      const float* w = args.weights[t];
      if (R > kFetchRows || args.fetch[0] == 0)
        add_half_products<V, false, R, N>(args, w, rows, sums, shared);
      else
        add_half_products<V, true, R, N>(args, w, rows, sums, shared);
    }

    const Epilogue* epilogue = args.epilogue;
    if (epilogue != nullptr && residuals != nullptr) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v)
          sums[r][v] = sums[r][v] + V::load(residuals[r] + column + v * W);
#pragma GCC unroll 16
      for (int p = 0; p < kPairs; ++p)
        shared[p][0] = shared[p][0] + load_shared(residuals, p, lanes);
      residuals += R;
    }
    if (epilogue != nullptr && epilogue->activation == Activation::kClip) {
      if constexpr (N > 0) clip_sums(sums, *epilogue);
      clip_sums(shared, *epilogue);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      float* out = outs[r] + column;
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v].store(out + v * W);
      const V last = r % 2 == 0 ? shared[r / 2][0] : swap_halves(shared[r / 2][0]);
      if (store_lanes == W / 2)
        last.store_half(out + N * W);
      else
        last.store_partial(out + N * W, store_lanes);
    }
    if (epilogue != nullptr && epilogue->activation > Activation::kClip)
      for (int r = 0; r < R; ++r)
        activate_run<V>(outs[r] + column, outs[r] + column, N * W + lanes, *epilogue);
  }
}

template <class V, int N, int R>
constexpr void fill_half_tiles(GemmKernels& kernels) {
  if constexpr (R > 0) {
    kernels.tile[N - 1][R - 1] = half_gemm_tile<V, R, N - 1>;
    fill_half_tiles<V, N, R - 1>(kernels);
  }
}

template <class V>
constexpr GemmKernels half_gemm_kernels() {
  constexpr TileSizes sizes = tile_sizes(Family::half_gemm_f32, V::kIsa);
  GemmKernels kernels{sizes, {}};
  fill_half_tiles<V, 1, sizes.max_rows[0]>(kernels);
  fill_half_tiles<V, 2, sizes.max_rows[1]>(kernels);
  fill_half_tiles<V, 3, sizes.max_rows[2]>(kernels);
  fill_half_tiles<V, 4, sizes.max_rows[3]>(kernels);
  return kernels;
}

}  // namespace activsparse
