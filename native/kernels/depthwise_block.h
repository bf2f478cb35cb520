// Depthwise convolution of a block of neighbouring positions; see DepthwiseBlockArgs in kernels.h.
//
// Lanes are channels. Every input vector of a block is loaded once and serves all the outputs that
// see it: what limits these layers is how fast inputs and outputs pass between the caches.
#pragma once
#include "kernels/activate.h"
#include "kernels/depthwise_columns.h"
#include "kernels/depthwise_outputs.h"
#include "kernels/kernels.h"
#include "kernels/vector_sizes.h"

namespace activsparse {

// Whether a kernel goes through columns of inputs: where registers hold the weights of all taps and
// more sums than a window has.
template <class V, int K>
constexpr bool kByColumns = K == 3 && V::kRegisters >= 32;

// Whether it goes output by output: where they hold the inputs of a column of outputs as well. Not
// with vectors of 4, as small cores would wait for one chain of multiply-adds after the other.
template <class V, int K, int S>
constexpr bool kByOutputs = kByColumns<V, K> && S == 1 && V::kWidth > 4;

// W columns of outputs from x on at once, whose sums all stay in registers: where weights do not,
// each load of one then serves H * W outputs.
template <class V, int K, int S, int H, int W, bool kPartial>
inline void depthwise_window(const DepthwiseBlockArgs& args, int x, int64_t c, int lanes) {
  constexpr int kInputH = (H - 1) * S + K, kInputW = (W - 1) * S + K;
  const DepthwiseFinish<V, kPartial> finish(args, c, lanes);
  V sums[H][W];
  const V start = V::load(args.start + c);
#pragma GCC unroll 16
  for (int y = 0; y < H; ++y)
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) sums[y][i] = start;
#pragma GCC unroll 16
  for (int iy = 0; iy < kInputH; ++iy) {
    V in[kInputW];
    const float* const* const line = args.lines[iy] + x * S;
#pragma GCC unroll 16
    for (int i = 0; i < kInputW; ++i)
      in[i] = kPartial ? V::load_partial(line[i] + c, lanes) : V::load(line[i] + c);
#pragma GCC unroll 16
    for (int y = 0; y < H; ++y) {
      const int ky = iy - y * S;
      if (ky < 0 || ky >= K) continue;
#pragma GCC unroll 16
      for (int kx = 0; kx < K; ++kx) {
        const V weight = V::load(args.weights + (ky * K + kx) * args.weight_stride + c);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) sums[y][i] = fma(in[i * S + kx], weight, sums[y][i]);
      }
    }
  }
#pragma GCC unroll 16
  for (int y = 0; y < H; ++y)
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) finish.store(sums[y][i], y, x + i);
}

template <class V, int K, int S, int H, int W, bool kPartial>
inline void depthwise_windows(const DepthwiseBlockArgs& args, int x, int width, int64_t c,
                              int lanes) {
  if (width == W)
    depthwise_window<V, K, S, H, W, kPartial>(args, x, c, lanes);
  else if constexpr (W > 1)
    depthwise_windows<V, K, S, H, W - 1, kPartial>(args, x, width, c, lanes);
}

template <class V, int K, int S, int H, bool kPartial>
inline void depthwise_vector(const DepthwiseBlockArgs& args, int64_t c, int lanes) {
  if constexpr (kByOutputs<V, K, S>) {
    depthwise_outputs<V, K, S, H, kPartial>(args, c, lanes);
  } else if constexpr (kByColumns<V, K>) {
    depthwise_columns<V, K, S, H, kPartial>(args, c, lanes);
  } else {
    constexpr int kWidest = 4;
    const int columns = args.columns, windows = (columns + kWidest - 1) / kWidest;
    for (int i = 0; i < windows; ++i) {
      const int x = columns * i / windows;
      depthwise_windows<V, K, S, H, kWidest, kPartial>(args, x, columns * (i + 1) / windows - x, c,
                                                       lanes);
    }
  }
}

template <class V, int K, int S, int H>
void depthwise_block(const DepthwiseBlockArgs& args) {
  const int channels = args.channels;
  const int whole = args.whole_vectors ? (channels + V::kWidth - 1) / V::kWidth * V::kWidth
                                       : channels / V::kWidth * V::kWidth;
  for (int c = 0; c < whole; c += V::kWidth)
    depthwise_vector<V, K, S, H, false>(args, c, V::kWidth);
  if (whole < channels) depthwise_vector<V, K, S, H, true>(args, whole, channels - whole);
  if (args.epilogue->activation <= Activation::kClip) return;
  for (int y = 0; y < H; ++y)
    for (int x = 0; x < args.columns; ++x) {
      const int64_t at = y * args.mask_row + x;
      if (args.keep != nullptr && args.skipped == nullptr && !args.keep[at]) continue;
      float* out = args.out + y * args.out_row + x * args.out_column;
      activate_run<V>(out, out, channels, *args.epilogue);
    }
}

template <class V, int K, int S, int H>
constexpr void fill_blocks(DepthwiseBlockKernels& kernels) {
  kernels.skips[K == 5][S - 1] = kByOutputs<V, K, S>;
  kernels.block[K == 5][S - 1][H - 1] = depthwise_block<V, K, S, H>;
  if constexpr (H > 1) fill_blocks<V, K, S, H - 1>(kernels);
}

template <class V>
constexpr DepthwiseBlockKernels depthwise_block_kernels() {
  constexpr int kRows3 = kByColumns<V, 3> ? 4 : 2, kRows5 = 2;
  DepthwiseBlockKernels kernels{};
  kernels.rows[0] = kRows3;
  kernels.rows[1] = kRows5;
  // Each vector of channels is a pass through the block. Where it takes a part of a cache line, the
  // block must still be in the first-level cache when the next part is due.
  kernels.columns = V::kWidth >= 16 ? kMaxBlockColumns : 14;
  fill_blocks<V, 3, 1, kRows3>(kernels);
  fill_blocks<V, 3, 2, kRows3>(kernels);
  if constexpr (!kCompact) {
    fill_blocks<V, 5, 1, kRows5>(kernels);
    fill_blocks<V, 5, 2, kRows5>(kernels);
  }
  return kernels;
}

}  // namespace activsparse
