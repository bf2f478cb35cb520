// A depthwise block of any kernel of strides 1 and 2; see DepthwiseBlockArgs in kernels.h.
#pragma once
#include "kernels/depthwise_finish.h"
#include "kernels/kernels.h"

namespace activsparse {

// Kernels of this width are the most frequent ones among the large, in ConvNeXt and all that follow
// it. Where there are 32 registers, all inputs of a line that W columns see stay in some of them.
inline constexpr int kFrequentWidth = 7;
template <class V>
inline constexpr bool kHoldsLine = V::kIsa == Isa::kAvx512 || V::kIsa == Isa::kNeon;

// Adds what the inputs of one line give to the outputs of rows kFirst to kLast, of which there are
// W from the column on whose first input `line` points to. `weights` are those of row kFirst; the
// next row sees the line `row_step` floats earlier in its own. An input serves the rows, a weight
// the columns, so that there are about half as many loads as multiply-adds. kKernelW: the width of
// the kernel, whose stride is 1; 0: any of any stride.
template <class V, int H, int W, int kFirst, int kLast, bool kPartial, int kKernelW>
__attribute__((always_inline)) inline void add_line(const DepthwiseBlockArgs& args,
                                                    const float* const* line, const float* weights,
                                                    int64_t row_step, int64_t c, int lanes,
                                                    V (&sums)[H][W]) {
  const auto load = [&](const float* pixel) __attribute__((always_inline)) {
    return kPartial ? V::load_partial(pixel + c, lanes) : V::load(pixel + c);
  };
  if constexpr (kKernelW > 0) {
    V in[W + kKernelW - 1];
#pragma GCC unroll 16
    for (int i = 0; i < W + kKernelW - 1; ++i) in[i] = load(line[i]);
#pragma GCC unroll 16
    for (int y = kFirst; y <= kLast; ++y)
#pragma GCC unroll 16
      for (int kx = 0; kx < kKernelW; ++kx) {
        const V weight = V::load(weights + kx * V::kWidth - (y - kFirst) * row_step);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) sums[y][i] = fma(in[kx + i], weight, sums[y][i]);
      }
  } else {
    const int step = args.stride_w;
    for (int kx = 0; kx < args.kernel_w; ++kx, ++line, weights += V::kWidth) {
      V in[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) in[i] = load(line[i * step]);
#pragma GCC unroll 16
      for (int y = kFirst; y <= kLast; ++y) {
        const V weight = V::load(weights - (y - kFirst) * row_step);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) sums[y][i] = fma(in[i], weight, sums[y][i]);
      }
    }
  }
}

// The same for rows `first` to `last`, which are kFirst to kLast or one of the pairs after them.
template <class V, int H, int W, int kFirst, int kLast, bool kPartial, int kKernelW>
__attribute__((always_inline)) inline void add_line_to(const DepthwiseBlockArgs& args, int first,
                                                       int last, const float* const* line,
                                                       const float* weights, int64_t row_step,
                                                       int64_t c, int lanes, V (&sums)[H][W]) {
  if (first == kFirst && last == kLast)
    add_line<V, H, W, kFirst, kLast, kPartial, kKernelW>(args, line, weights, row_step, c, lanes,
                                                         sums);
  else if constexpr (kLast + 1 < H)
    add_line_to<V, H, W, kFirst, kLast + 1, kPartial, kKernelW>(args, first, last, line, weights,
                                                                row_step, c, lanes, sums);
  else if constexpr (kFirst + 1 < H)
    add_line_to<V, H, W, kFirst + 1, kFirst + 1, kPartial, kKernelW>(
        args, first, last, line, weights, row_step, c, lanes, sums);
}

// W columns of outputs from x on.
template <class V, int H, int W, bool kPartial, int kKernelW>
__attribute__((noinline)) void any_window(const DepthwiseBlockArgs& args, int x, int64_t c,
                                          int lanes) {
  const int kernel_h = args.kernel_h, shift = args.stride_h - 1;
  const int64_t weight_row = int64_t{args.kernel_w} * V::kWidth, row_step = weight_row << shift;
  const float* const weights = args.weights + c * kernel_h * args.kernel_w;
  V sums[H][W];
  const V start = V::load(args.start + c);
#pragma GCC unroll 16
  for (int y = 0; y < H; ++y)
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) sums[y][i] = start;
  const int lines = ((H - 1) << shift) + kernel_h;
  for (int iy = 0; iy < lines; ++iy) {
    const int first = iy < kernel_h ? 0 : ((iy - kernel_h) >> shift) + 1;
    const int last = (iy >> shift) < H - 1 ? iy >> shift : H - 1;
    if (first > last) continue;  // strides may pass a line over
    add_line_to<V, H, W, 0, 0, kPartial, kKernelW>(
        args, first, last, args.lines[iy] + x * args.stride_w,
        weights + (iy - (first << shift)) * weight_row, row_step, c, lanes, sums);
  }
  const DepthwiseFinish<V, kPartial> finish(args, c, lanes);
#pragma GCC unroll 16
  for (int y = 0; y < H; ++y)
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) finish.store(sums[y][i], y, x + i);
}

template <class V, int H, int W, bool kPartial, int kKernelW>
inline void any_windows(const DepthwiseBlockArgs& args, int x, int width, int64_t c, int lanes) {
  if (width == W)
    any_window<V, H, W, kPartial, kKernelW>(args, x, c, lanes);
  else if constexpr (W > 1)
    any_windows<V, H, W - 1, kPartial, kKernelW>(args, x, width, c, lanes);
}

// Of a mask, windows leave out columns of a block that are skipped in all its rows.
template <class V, int H, bool kPartial, int kKernelW>
inline void any_columns(const DepthwiseBlockArgs& args, int64_t c, int lanes) {
  constexpr int kWidest = 4;
  const int columns = args.columns;
  if (args.keep == nullptr) {
    const int windows = (columns + kWidest - 1) / kWidest;
    for (int i = 0; i < windows; ++i) {
      const int x = columns * i / windows;
      any_windows<V, H, kWidest, kPartial, kKernelW>(args, x, columns * (i + 1) / windows - x, c,
                                                     lanes);
    }
    return;
  }
  const auto kept = [&](int x) {
    bool any = false;
    for (int y = 0; y < H; ++y) any |= args.keep[y * args.mask_row + x] != 0;
    return any;
  };
  const DepthwiseFinish<V, kPartial> finish(args, c, lanes);
  for (int x = 0; x < columns;) {
    int width = 0;
    while (width < kWidest && x + width < columns && kept(x + width)) ++width;
    if (width > 0)
      any_windows<V, H, kWidest, kPartial, kKernelW>(args, x, width, c, lanes);
    else if (args.skipped != nullptr)
      for (int y = 0; y < H; ++y) finish.store(V::zero(), y, x);
    x += width > 0 ? width : 1;
  }
}

template <class V, int H, bool kPartial>
inline void depthwise_any(const DepthwiseBlockArgs& args, int64_t c, int lanes) {
  if constexpr (kHoldsLine<V>)
    if (args.kernel_w == kFrequentWidth && args.stride_w == 1)
      return any_columns<V, H, kPartial, kFrequentWidth>(args, c, lanes);
  any_columns<V, H, kPartial, 0>(args, c, lanes);
}

}  // namespace activsparse
