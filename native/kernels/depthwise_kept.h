// The kept outputs of a depthwise block, those of a column together; see DepthwiseBlockArgs in
// kernels.h.
#pragma once
#include "kernels/depthwise_finish.h"
#include "kernels/kernels.h"

namespace activsparse {

// N sums of a column, whose first inputs are those at lines[0]; an input that two of them see is
// read once.
template <class V, int K, int S, int N, bool kPartial>
__attribute__((always_inline)) inline void depthwise_column_sums(const float* const* const* lines,
                                                                 int64_t column, int64_t c,
                                                                 int lanes, V start,
                                                                 const V (&weights)[K][K],
                                                                 V* sums) {
#pragma GCC unroll 16
  for (int y = 0; y < N; ++y) sums[y] = start;
#pragma GCC unroll 16
  for (int i = 0; i < (N - 1) * S + K; ++i) {
    const float* const* const line = lines[i] + column;
#pragma GCC unroll 16
    for (int kx = 0; kx < K; ++kx) {
      const float* p = line[kx] + c;
      V in;
      if constexpr (kPartial)
        in = V::load_partial(p, lanes);
      else
        in = V::load(p);
#pragma GCC unroll 16
      for (int y = 0; y < N; ++y)
        if (const int ky = i - y * S; ky >= 0 && ky < K)
          sums[y] = fma(in, weights[ky][kx], sums[y]);
    }
  }
}

// For one or two rows from kFirst on. The weights stay in registers, inputs are read where they are
// needed: a skipped output costs a branch and nothing else.
template <class V, int K, int S, int kFirst, int H, bool kPartial>
inline void depthwise_rows_kept(const DepthwiseBlockArgs& args, int64_t c, int lanes) {
  static_assert(H <= 2);
  constexpr int kLines = (H - 1) * S + K;
  V weights[K][K];
#pragma GCC unroll 16
  for (int ky = 0; ky < K; ++ky)
#pragma GCC unroll 16
    for (int kx = 0; kx < K; ++kx)
      weights[ky][kx] = V::load(args.weights + (ky * K + kx) * args.weight_stride + c);
  const V start = V::load(args.start + c);
  const float* const* lines[kLines];
#pragma GCC unroll 16
  for (int i = 0; i < kLines; ++i) lines[i] = args.lines[kFirst * S + i];
  const uint8_t* keep = args.keep + kFirst * args.mask_row;
  const uint8_t* keep_below = keep + args.mask_row;
  const DepthwiseFinish<V, kPartial> finish(args, c, lanes);
  const int columns = args.columns;
  for (int x = 0; x < columns; ++x) {
    const bool first = keep[x], second = H == 2 && keep_below[x];
    V sums[2];
    if (first && second) {
      depthwise_column_sums<V, K, S, H, kPartial>(lines, x * S, c, lanes, start, weights, sums);
      finish.store_kept(sums[0], kFirst, x);
      finish.store_kept(sums[1], kFirst + 1, x);
      continue;
    }
    if (first) {
      depthwise_column_sums<V, K, S, 1, kPartial>(lines, x * S, c, lanes, start, weights, sums);
      finish.store_kept(sums[0], kFirst, x);
    } else {
      finish.store_skipped(kFirst, x);
    }
    if (H == 1) continue;
    if (second) {
      depthwise_column_sums<V, K, S, 1, kPartial>(lines + (H - 1) * S, x * S, c, lanes, start,
                                                  weights, sums);
      finish.store_kept(sums[0], kFirst + 1, x);
    } else {
      finish.store_skipped(kFirst + 1, x);
    }
  }
}

template <class V, int K, int S, int H, bool kPartial>
inline void depthwise_kept(const DepthwiseBlockArgs& args, int64_t c, int lanes) {
  depthwise_rows_kept<V, K, S, 0, (H < 2 ? H : 2), kPartial>(args, c, lanes);
  if constexpr (H > 2) depthwise_rows_kept<V, K, S, 2, H - 2, kPartial>(args, c, lanes);
}

}  // namespace activsparse
