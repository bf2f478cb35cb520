// Depthwise convolution of a block of neighbouring positions; see DepthwiseBlockArgs in kernels.h.
//
// Lanes are channels. Every input vector of a block is loaded once and serves all the outputs that
// see it: what limits these layers is how fast inputs and outputs pass between the caches.
#pragma once
#include "kernels/activate.h"
#include "kernels/depthwise_any.h"
#include "kernels/depthwise_columns.h"
#include "kernels/depthwise_kept.h"
#include "kernels/depthwise_outputs.h"
#include "kernels/kernels.h"
#include "kernels/pair.h"
#include "kernels/table.h"

namespace activsparse {

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
  constexpr DepthwiseForm kForm = block_sizes(V::kIsa, K, S).form;
  if constexpr (kForm == DepthwiseForm::kAny) {
    depthwise_any<V, H, kPartial>(args, c, lanes);
  } else if constexpr (kForm == DepthwiseForm::kOutputs) {
    depthwise_outputs<V, K, S, H, kPartial>(args, c, lanes);
  } else if constexpr (kForm != DepthwiseForm::kWindows) {
    if constexpr (kForm == DepthwiseForm::kKept || kForm == DepthwiseForm::kKeptPairs)
      if (args.keep != nullptr) return depthwise_kept<V, K, S, H, kPartial>(args, c, lanes);
    if (is_plain(args))
      depthwise_columns<V, K, S, H, kPartial, true>(args, c, lanes);
    else
      depthwise_columns<V, K, S, H, kPartial, false>(args, c, lanes);
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
  int c = 0;
  if constexpr (block_sizes(V::kIsa, K, S).form == DepthwiseForm::kKeptPairs)
    for (; args.keep != nullptr && c + 2 * V::kWidth <= whole; c += 2 * V::kWidth)
      depthwise_kept<Pair<V>, K, S, H, false>(args, c, 2 * V::kWidth);
  for (; c < whole; c += V::kWidth) depthwise_vector<V, K, S, H, false>(args, c, V::kWidth);
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
constexpr void fill_blocks(DepthwiseBlocks& blocks) {
  if constexpr (H > 0) {
    blocks.block[H - 1] = depthwise_block<V, K, S, H>;
    fill_blocks<V, K, S, H - 1>(blocks);
  }
}

template <class V, int K, int S>
constexpr DepthwiseBlocks depthwise_blocks() {
  constexpr DepthwiseBlocks sizes = block_sizes(V::kIsa, K, S);
  DepthwiseBlocks blocks = sizes;
  fill_blocks<V, K, S, sizes.rows>(blocks);
  return blocks;
}

template <class V>
constexpr DepthwiseBlockKernels depthwise_block_kernels() {
  return {{{depthwise_blocks<V, 3, 1>(), depthwise_blocks<V, 3, 2>()},
           {depthwise_blocks<V, 5, 1>(), depthwise_blocks<V, 5, 2>()}},
          depthwise_blocks<V, 0, 0>()};
}

}  // namespace activsparse
