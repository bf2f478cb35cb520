// The matrix product behind convolutions in float16; see ProductF16Args in halves.h for the maths.
//
// As in gemm.h a tile of R rows by N vectors stays in registers; a channel takes N loads of weights
// and R of inputs for R * N multiply-adds of 8 lanes. Sums of kMostHalfTerms products go to float32
// sums on the stack.
#pragma once
#include "kernels/finish_f16.h"
#include "kernels/table.h"

namespace activsparse {

template <class P, int R, int N>
void product_f16_tile(const ProductF16Args& args) {
  constexpr int W = P::kWidth;
  alignas(16) float room[R * N * W];
  WideSums so_far{args.start, 0};
  P sums[R][N];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sums[r][v] = P::zero();
  const Half* const* rows = args.rows;
  int left = kMostHalfTerms;
  for (int t = 0; t < args.taps; ++t, rows += R) {
    const Half* w = args.weights[t];
    const Half* x[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) x[r] = rows[r];
    for (int first = 0; first < args.channels;) {
      if (left == 0) {
        widen_sums(sums, room, so_far);
        left = kMostHalfTerms;
      }
      const int end = args.channels - first < left ? args.channels : first + left;
      left -= end - first;
      for (int c = first; c < end; ++c, w += N * W) {
        P weight[N];
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) weight[v] = P::load(w + v * W);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
          for (int v = 0; v < N; ++v) sums[r][v] = fma(x[r] + c, weight[v], sums[r][v]);
      }
      first = end;
    }
  }
  finish_sums(sums, so_far, room,
              {args.out, args.residual, 0, args.epilogue, args.lanes, args.store_lanes});
}

template <class P, int N, int R>
constexpr void fill_halves(ProductF16Kernels& kernels) {
  if constexpr (R > 0) {
    kernels.tile[N - 1][R - 1] = product_f16_tile<P, R, N>;
    fill_halves<P, N, R - 1>(kernels);
  }
}

template <class V>
constexpr ProductF16Kernels halves_kernels() {
  using P = typename V::Products;
  constexpr TileSizes sizes = tile_sizes(Family::halves_f16, P::kIsa);
  ProductF16Kernels kernels{sizes, {}};
  fill_halves<P, 1, sizes.max_rows[0]>(kernels);
  fill_halves<P, 2, sizes.max_rows[1]>(kernels);
  fill_halves<P, 3, sizes.max_rows[2]>(kernels);
  fill_halves<P, 4, sizes.max_rows[3]>(kernels);
  return kernels;
}

}  // namespace activsparse
