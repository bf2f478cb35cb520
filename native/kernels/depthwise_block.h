// Depthwise convolution of a block of neighbouring positions; see DepthwiseBlockArgs in kernels.h.
//
// Lanes are channels. Every input vector of a block is loaded once and serves all the outputs that
// see it: what limits these layers is how fast inputs and outputs pass between the caches.
#pragma once
#include "kernels/activate.h"
#include "kernels/kernels.h"
#include "kernels/vector_sizes.h"

namespace activsparse {

// What becomes of the sums of a vector of channels. It is held by value: a store of a vector may
// alias anything, so that what a kernel reads through `args` it reads again after each.
template <class V, bool kPartial>
struct DepthwiseFinish {
  float* out;
  int64_t out_row, out_column;
  const int32_t* places;
  const float* residual;
  int64_t residual_row, residual_column;
  const uint8_t* keep;
  int64_t mask_row;
  const float* skipped;
  int lanes;
  bool plain, clip;
  V lo, hi;

  DepthwiseFinish(const DepthwiseBlockArgs& args, int64_t c, int lane_count)
      : out(args.out + c),
        out_row(args.out_row),
        out_column(args.out_column),
        places(args.places),
        residual(args.residual != nullptr ? args.residual + c : nullptr),
        residual_row(args.residual_row),
        residual_column(args.residual_column),
        keep(args.places == nullptr ? args.keep : nullptr),
        mask_row(args.mask_row),
        skipped(keep != nullptr ? args.skipped + c : nullptr),
        lanes(lane_count),
        plain(keep == nullptr && residual == nullptr),
        clip(args.epilogue->activation == Activation::kClip),
        lo(V::set1(args.epilogue->lo)),
        hi(V::set1(args.epilogue->hi)) {}

  void store(V sum, int y, int x) const {
    if (!plain) {
      if (keep != nullptr && !keep[y * mask_row + x]) sum = V::load(skipped);
      if (residual != nullptr) {
        const float* from = residual + y * residual_row + x * residual_column;
        sum = sum + (kPartial ? V::load_partial(from, lanes) : V::load(from));
      }
    }
    if (clip) sum = min(max(sum, lo), hi);
    float* const to =
        out + (places != nullptr ? places[y * mask_row + x] : y * out_row + x * out_column);
    if (kPartial)
      sum.store_partial(to, lanes);
    else
      sum.store(to);
  }
};

// Whether a kernel goes through columns: where registers hold the weights of all taps and more sums
// than a window has.
template <class V, int K>
constexpr bool kByColumns = K == 3 && V::kRegisters >= 32;

// Goes through the columns of inputs from left to right, with the weights and the sums of the
// outputs that see the current column in registers. Four rows of outputs do 36 multiply-adds per
// column for 6 loads.
template <class V, int K, int S, int H, bool kPartial>
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
  const DepthwiseFinish<V, kPartial> finish(args, c, lanes);
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
  if constexpr (kByColumns<V, K>) {
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
      if (args.places != nullptr && !args.keep[at]) continue;
      float* out = args.out + (args.places != nullptr ? args.places[at]
                                                      : y * args.out_row + x * args.out_column);
      activate_run<V>(out, out, channels, *args.epilogue);
    }
}

template <class V, int K, int S, int H>
constexpr void fill_blocks(DepthwiseBlockKernels& kernels) {
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
