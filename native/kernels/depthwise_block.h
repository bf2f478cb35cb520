// Depthwise convolution of a small block of neighbouring positions; see DepthwiseBlockArgs in
// kernels.h.
//
// Lanes are channels. Every input vector is loaded once and serves all the outputs of the block
// that see it, so a 3x3 block of 2 by 4 does 72 multiply-adds for 33 loads, where single positions
// need 18 loads for 9.
#pragma once
#include "kernels/activate.h"
#include "kernels/kernels.h"
#include "kernels/vector_sizes.h"

namespace activsparse {

template <class V, int K, int S, int H, int W, bool kPartial>
inline void depthwise_block_vector(const DepthwiseBlockArgs& args, int64_t c, int lanes) {
  constexpr int kInputH = (H - 1) * S + K, kInputW = (W - 1) * S + K;
  auto load = [&](const float* p) {
    return kPartial ? V::load_partial(p + c, lanes) : V::load(p + c);
  };
  V sums[H][W];
  const V start = V::load(args.start + c);
#pragma GCC unroll 16
  for (int y = 0; y < H; ++y)
#pragma GCC unroll 16
    for (int x = 0; x < W; ++x) sums[y][x] = start;
#pragma GCC unroll 16
  for (int iy = 0; iy < kInputH; ++iy) {
    V in[kInputW];
    const float* const* const line = args.lines[iy];
#pragma GCC unroll 16
    for (int ix = 0; ix < kInputW; ++ix) in[ix] = load(line[ix]);
#pragma GCC unroll 16
    for (int y = 0; y < H; ++y) {
      const int ky = iy - y * S;
      if (ky < 0 || ky >= K) continue;
#pragma GCC unroll 16
      for (int kx = 0; kx < K; ++kx) {
        const V weight = V::load(args.weights + (ky * K + kx) * args.weight_stride + c);
#pragma GCC unroll 16
        for (int x = 0; x < W; ++x) sums[y][x] = fma(in[x * S + kx], weight, sums[y][x]);
      }
    }
  }
  const bool clip = args.epilogue->activation == Activation::kClip;
  const V lo = V::set1(args.epilogue->lo), hi = V::set1(args.epilogue->hi);
#pragma GCC unroll 16
  for (int y = 0; y < H; ++y)
#pragma GCC unroll 16
    for (int x = 0; x < W; ++x) {
      V sum = sums[y][x];
      if (args.keep != nullptr && !args.keep[y * W + x]) sum = V::load(args.skipped + c);
      if (args.residual != nullptr) sum = sum + load(args.residual[y * W + x]);
      if (clip) sum = min(max(sum, lo), hi);
      if (kPartial)
        sum.store_partial(args.out[y * W + x] + c, lanes);
      else
        sum.store(args.out[y * W + x] + c);
    }
}

template <class V, int K, int S, int H, int W>
void depthwise_block(const DepthwiseBlockArgs& args) {
  const int channels = args.channels;
  const int whole = args.whole_vectors ? (channels + V::kWidth - 1) / V::kWidth * V::kWidth
                                       : channels / V::kWidth * V::kWidth;
  for (int c = 0; c < whole; c += V::kWidth)
    depthwise_block_vector<V, K, S, H, W, false>(args, c, V::kWidth);
  if (whole < channels) depthwise_block_vector<V, K, S, H, W, true>(args, whole, channels - whole);
  if (args.epilogue->activation > Activation::kClip)
    for (int i = 0; i < H * W; ++i)
      activate_run<V>(args.out[i], args.out[i], channels, *args.epilogue);
}

template <class V, int K, int S, int H, int W>
constexpr void fill_blocks(DepthwiseBlockKernels& kernels) {
  kernels.block[K == 5][S - 1][H - 1][W - 1] = depthwise_block<V, K, S, H, W>;
  if constexpr (W > 1)
    fill_blocks<V, K, S, H, W - 1>(kernels);
  else if constexpr (H > 1)
    fill_blocks<V, K, S, H - 1, kBlockColumns>(kernels);
}

template <class V>
constexpr DepthwiseBlockKernels depthwise_block_kernels() {
  DepthwiseBlockKernels kernels{};
  fill_blocks<V, 3, 1, kBlockRows, kBlockColumns>(kernels);
  fill_blocks<V, 3, 2, kBlockRows, kBlockColumns>(kernels);
  if constexpr (!kCompact) {
    fill_blocks<V, 5, 1, kBlockRows, kBlockColumns>(kernels);
    fill_blocks<V, 5, 2, kBlockRows, kBlockColumns>(kernels);
  }
  return kernels;
}

}  // namespace activsparse
