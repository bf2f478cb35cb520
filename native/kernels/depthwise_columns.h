// A depthwise block by columns of inputs; see DepthwiseBlockArgs in kernels.h.
#pragma once
#include "kernels/depthwise_finish.h"
#include "kernels/kernels.h"

namespace activsparse {

// Goes through the columns of inputs from left to right, with the weights and the sums of the
// outputs that see the current column in registers. Four rows of outputs do 36 multiply-adds per
// column for 6 loads.
template <class V, int K, int S, int H, bool kPartial, bool kPlain>
inline void depthwise_columns(const DepthwiseBlockArgs& args, int64_t c, int lanes) {
  constexpr int kLines = (H - 1) * S + K;
  constexpr int kLive = (K - 1) / S + 1;  // outputs of a row that see one column
  V weights[K][K];
#pragma GCC unroll 16
  for (int ky = 0; ky < K; ++ky)
#pragma GCC unroll 16
    for (int kx = 0; kx < K; ++kx)
      weights[ky][kx] = V::load(args.weights + (ky * K + kx) * args.weight_stride + c);
  const V start = V::load(args.start + c);
  const float* const* lines[kLines];
#pragma GCC unroll 16
  for (int i = 0; i < kLines; ++i) lines[i] = args.lines[i];
  const int columns = args.columns;
  const DepthwiseFinish<V, kPartial, kPlain> finish(args, c, lanes);
  V sums[kLive][H];  // of output columns x, x + 1, ...
  // Adds what input column `column` gives, the tap `kx` of output column x.
  const auto add = [&](int column, int kx) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int i = 0; i < kLines; ++i) {
      const float* p = lines[i][column] + c;
      const V in = kPartial ? V::load_partial(p, lanes) : V::load(p);
#pragma GCC unroll 16
      for (int y = 0; y < H; ++y) {
        const int ky = i - y * S;
        if (ky < 0 || ky >= K) continue;
#pragma GCC unroll 16
        for (int d = 0; d <= kx / S; ++d)
          sums[d][y] =
              fma(in, weights[ky][kx - d * S], kx == d * S && ky == 0 ? start : sums[d][y]);
      }
    }
  };
#pragma GCC unroll 16
  for (int kx = 0; kx < K - S; ++kx) add(kx, kx);
  for (int x = 0; x < columns; ++x) {
#pragma GCC unroll 16
    for (int kx = K - S; kx < K; ++kx) add(x * S + kx, kx);
#pragma GCC unroll 16
    for (int y = 0; y < H; ++y) {
      finish.store(sums[0][y], y, x);
#pragma GCC unroll 16
      for (int d = 0; d + 1 < kLive; ++d) sums[d][y] = sums[d + 1][y];
    }
  }
}

}  // namespace activsparse
