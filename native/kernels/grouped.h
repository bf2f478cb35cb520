// Convolution of a few positions whose groups are so small that a vector holds several; see
// GroupedArgs in kernels.h. G, the channels of a group, is a power of two, in and out alike.
//
// Lanes are channels, of inputs as of outputs. What an output needs of another channel of its group
// lies in another lane, and to move every input there would cost as much as to multiply it. So sums
// are kept by distance: sum r of lane l is for the output of lane l ^ r, which lies in the same
// group, and its weights are packed in this order (operators/conv_grouped.cpp):
//
//   sums[r][l]  = sum over taps of x[l] * w[l ^ r][l]        w[output][input]
//   y[l]        = sum over r < G of sums[r][l ^ r]
//
// Each input is loaded once for G products, and lanes are moved once per output:
// (l ^ r) ^ (l ^ s) = r ^ s makes it G - 1 exchanges in log G rounds.
#pragma once
#include "kernels/activate.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

namespace activsparse {

// The sums of R rows of G: from the left, those of the upper half of distances are moved by K lanes
// to those they belong to.
template <class V, int R, int G, int K>
__attribute__((always_inline)) inline void join_distances(V (&sums)[R][G]) {
  if constexpr (K > 0) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int g = 0; g < K; ++g) sums[r][g] = sums[r][g] + sums[r][g + K].template exchanged<K>();
    join_distances<V, R, G, K / 2>(sums);
  }
}

template <class V, int R, int G, bool kPartial>
inline void grouped_rows(const GroupedArgs& args, const float* const* rows, float* const* outs,
                         const float* const* residuals) {
  constexpr int W = V::kWidth;
  const int64_t column = args.column;
  const int lanes = args.lanes;
  const auto load = [&](const float* p) __attribute__((always_inline)) {
    return kPartial ? V::load_partial(p + column, lanes) : V::load(p + column);
  };
  V sums[R][G];
  const V start = V::load(args.start);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    sums[r][0] = start;
#pragma GCC unroll 8
    for (int g = 1; g < G; ++g) sums[r][g] = V::zero();
  }
  const int32_t* const taps = args.tap_list;
  for (int t = 0; t < args.taps; ++t, rows += R) {
    const float* w = args.weights + int64_t{taps[t]} * (G * W);
    // What is used oftener stays in a register.
    if constexpr (R > G) {
      V weight[G];
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) weight[g] = V::load(w + g * W);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const V x = load(rows[r]);
#pragma GCC unroll 8
        for (int g = 0; g < G; ++g) sums[r][g] = fma(x, weight[g], sums[r][g]);
      }
    } else {
      V x[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) x[r] = load(rows[r]);
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) {
        const V weight = V::load(w + g * W);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) sums[r][g] = fma(x[r], weight, sums[r][g]);
      }
    }
  }
  join_distances<V, R, G, G / 2>(sums);

  const bool clips = args.epilogue->activation == Activation::kClip;
  const V lo = V::set1(args.epilogue->lo), hi = V::set1(args.epilogue->hi);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    V sum = sums[r][0];
    if (residuals != nullptr) sum = sum + load(residuals[r]);
    if (clips) sum = clip(sum, lo, hi);
    if (kPartial)
      sum.store_partial(outs[r] + column, lanes);
    else
      sum.store(outs[r] + column);
  }
  if (args.epilogue->activation > Activation::kClip)
    for (int r = 0; r < R; ++r)
      activate_run<V>(outs[r] + column, outs[r] + column, lanes, *args.epilogue);
}

template <class V, int R, int G>
void grouped_tile(const GroupedArgs& args) {
  const float* const* rows = args.rows;
  float* const* outs = args.out;
  const float* const* residuals = args.residual;
  for (int tile = 0; tile < args.tiles; ++tile) {
    if (args.lanes == V::kWidth)
      grouped_rows<V, R, G, false>(args, rows, outs, residuals);
    else
      grouped_rows<V, R, G, true>(args, rows, outs, residuals);
    rows += args.taps * R;
    outs += R;
    if (residuals != nullptr) residuals += R;
  }
}

template <class V, int kLog, int R>
constexpr void fill_grouped(GroupedKernels& kernels) {
  if constexpr (R > 0) {
    kernels.tile[kLog - 1][R - 1] = grouped_tile<V, R, 1 << kLog>;
    fill_grouped<V, kLog, R - 1>(kernels);
  }
}

template <class V>
constexpr GroupedKernels grouped_kernels() {
  constexpr TileSizes sizes = tile_sizes(Family::grouped_f32, V::kIsa);
  GroupedKernels kernels{sizes, {}};
  fill_grouped<V, 1, sizes.max_rows[0]>(kernels);
  fill_grouped<V, 2, sizes.max_rows[1]>(kernels);
  fill_grouped<V, 3, sizes.max_rows[2]>(kernels);
  return kernels;
}

}  // namespace activsparse
