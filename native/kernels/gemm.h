// The matrix product behind every convolution but the depthwise ones; see GemmArgs in kernels.h for
// the maths.
//
// A tile of R rows by N vectors stays in registers over the whole reduction. Per input channel it
// loads N weight vectors and broadcasts R inputs for R*N multiply-adds, so the taller and wider the
// tile, the fewer loads. table.inc says which tiles there are.
//
// One call computes several tiles one below the other: out of order, a core starts the next one's
// products while it still clips and stores the last one's sums.
#pragma once
#include "kernels/activate.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

namespace activsparse {

// Whether tiles that fetch nothing have a loop of their own, without any prefetch unless they are a
// single row, which runs at the pace of memory. In AVX-512 on a Zen 5 it takes 2 to 4 % off
// products whose weights lie in the first two caches, and 20 % off a matrix by a vector, both
// alone.
template <class V>
inline constexpr bool kPlainTiles = V::kWidth == 16 && !kCompact;

// Adds the products of one tap's channels to the sums. kFetch: and brings args.fetch, and what lies
// further ahead in the weights, closer meanwhile.
template <class V, bool kGather, bool kFetch, int R, int N>
__attribute__((always_inline)) inline void add_products(const GemmArgs& args, const float* w,
                                                        const float* const* rows, V (&sums)[R][N]) {
  constexpr int W = V::kWidth;
  // Weights stream from the second-level cache; this many floats ahead covers its latency.
  constexpr int kAhead = 512;
  const int channels = args.channels;
  const int32_t* const distances = args.distances;
  const int64_t fetch = args.fetch[0], also_fetch = args.fetch[1];
  const float* x[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) x[r] = rows[r];
  for (int c = 0; c < channels; ++c, w += N * W) {
    V weight[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      weight[v] = V::load(w + v * W);
      if ((kFetch || R == 1) && v * W % 16 == 0) __builtin_prefetch(w + kAhead + v * W);
    }
    // Without a branch, or the loop would lose more by it than by fetching what is there.
    if constexpr (kFetch && R <= kFetchRows && !kGather) {
      __builtin_prefetch(w + fetch, 0, 2);
      __builtin_prefetch(w + also_fetch, 0, 2);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V value = V::broadcast(x[r] + (kGather ? distances[c] : c));
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = fma(value, weight[v], sums[r][v]);
    }
  }
}

// relu, the most frequent one, has no upper bound to pay for.
template <class V, int R, int N>
__attribute__((always_inline)) inline void clip_sums(V (&sums)[R][N], const Epilogue& epilogue) {
  const V lo = V::set1(epilogue.lo), hi = V::set1(epilogue.hi);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sums[r][v] = max(lo, sums[r][v]);
  if (epilogue.hi == __builtin_inff()) return;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sums[r][v] = min(hi, sums[r][v]);
}

template <class V, int R, int N, bool kGather>
void gemm_tile(const GemmArgs& args) {
  constexpr int W = V::kWidth;
  const int lanes = args.lanes, store_lanes = args.store_lanes;
  const int64_t column = args.column;
  const float* const* rows = args.rows;
  float* const* outs = args.out;
  const float* const* residuals = args.residual;
  for (int tile = 0; tile <= args.more; ++tile, outs += R) {
    V sums[R][N];
    if (args.start != nullptr) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) sums[r][v] = V::load(args.start + v * W);
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const float* out = outs[r] + column;
#pragma GCC unroll 4
        for (int v = 0; v < N - 1; ++v) sums[r][v] = V::load(out + v * W);
        sums[r][N - 1] = V::load_partial(out + (N - 1) * W, store_lanes);
      }
    }
    for (int t = 0; t < args.taps; ++t, rows += R) {
      const float* w = args.weights[t];
      if constexpr (kPlainTiles<V>)
        if (R > kFetchRows || kGather || args.fetch[0] == 0) {
          add_products<V, kGather, false>(args, w, rows, sums);
          continue;
        }
      add_products<V, kGather, true>(args, w, rows, sums);
    }

    const Epilogue* epilogue = args.epilogue;
    if (epilogue != nullptr) {
      if (residuals != nullptr) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const float* residual = residuals[r] + column;
#pragma GCC unroll 4
          for (int v = 0; v < N - 1; ++v) sums[r][v] = sums[r][v] + V::load(residual + v * W);
          sums[r][N - 1] = sums[r][N - 1] + V::load_partial(residual + (N - 1) * W, lanes);
        }
        residuals += R;
      }
      if (epilogue->activation == Activation::kClip) clip_sums(sums, *epilogue);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      float* out = outs[r] + column;
#pragma GCC unroll 4
      for (int v = 0; v < N - 1; ++v) sums[r][v].store(out + v * W);
      if (store_lanes == W)
        sums[r][N - 1].store(out + (N - 1) * W);
      else
        sums[r][N - 1].store_partial(out + (N - 1) * W, store_lanes);
    }
    // Other activations take a second pass over rows still in the first-level cache: their code
    // in every tile shape would be most of the library.
    if (epilogue != nullptr && epilogue->activation > Activation::kClip)
      for (int r = 0; r < R; ++r)
        activate_run<V>(outs[r] + column, outs[r] + column, (N - 1) * W + lanes, *epilogue);
  }
}

template <class V, bool kGather, int N, int R>
constexpr void fill_tiles(GemmKernels& kernels) {
  if constexpr (R > 0) {
    kernels.tile[N - 1][R - 1] = gemm_tile<V, R, N, kGather>;
    fill_tiles<V, kGather, N, R - 1>(kernels);
  }
}

template <class V, bool kGather = false>
constexpr GemmKernels gemm_kernels() {
  constexpr TileSizes sizes =
      tile_sizes(kGather ? Family::gather_gemm_f32 : Family::gemm_f32, V::kIsa);
  GemmKernels kernels{sizes, {}};
  fill_tiles<V, kGather, 1, sizes.max_rows[0]>(kernels);
  fill_tiles<V, kGather, 2, sizes.max_rows[1]>(kernels);
  fill_tiles<V, kGather, 3, sizes.max_rows[2]>(kernels);
  fill_tiles<V, kGather, 4, sizes.max_rows[3]>(kernels);
  return kernels;
}

template <class V>
constexpr GemmKernels gather_gemm_kernels() {
  return gemm_kernels<V, true>();
}

}  // namespace activsparse
