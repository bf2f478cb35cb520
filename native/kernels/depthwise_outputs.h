// A depthwise block output by output; see DepthwiseBlockArgs in kernels.h.
#pragma once
#include "kernels/activate.h"
#include "kernels/kernels.h"

namespace activsparse {

struct AllKept {
  uint8_t columns[kMaxBlockColumns] = {};
  constexpr AllKept() {
    for (uint8_t& one : columns) one = 1;
  }
};
inline constexpr AllKept kAllKept;

// Goes through the columns of outputs from left to right, with the weights and the K columns of
// inputs that they see in registers, where columns move up from one to the next. Each output is a
// chain of multiply-adds of its own, so that a skipped one costs a branch and nothing else. The
// core works on the chains of several outputs at once, and foresees the branches: every vector of
// channels takes the same.
template <class V, int K, int S, int H, bool kPartial>
inline void depthwise_outputs(const DepthwiseBlockArgs& args, int64_t c, int lanes) {
  constexpr int kLines = (H - 1) * S + K;
  V weights[K][K];
#pragma GCC unroll 16
  for (int ky = 0; ky < K; ++ky)
#pragma GCC unroll 16
    for (int kx = 0; kx < K; ++kx)
      weights[ky][kx] = V::load(args.weights + (ky * K + kx) * args.weight_stride + c);
  const float* const start = args.start + c;
  const float* const skipped = args.skipped != nullptr ? args.skipped + c : nullptr;
  const float* const* lines[kLines];
#pragma GCC unroll 16
  for (int i = 0; i < kLines; ++i) lines[i] = args.lines[i];
  const bool all = args.keep == nullptr;
  const uint8_t* keep = all ? kAllKept.columns : args.keep;
  const int64_t mask_row = all ? 0 : args.mask_row;
  float* out = args.out + c;
  const float* residual = args.residual != nullptr ? args.residual + c : nullptr;
  const int64_t out_row = args.out_row, out_column = args.out_column;
  const bool clips = args.epilogue->activation == Activation::kClip;
  const V lo = V::set1(args.epilogue->lo), hi = V::set1(args.epilogue->hi);
  V in[K][kLines];
  const auto load = [&](int kx, int column) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int i = 0; i < kLines; ++i) {
      const float* p = lines[i][column] + c;
      in[kx][i] = kPartial ? V::load_partial(p, lanes) : V::load(p);
    }
  };
#pragma GCC unroll 16
  for (int kx = 0; kx < K - S; ++kx) load(kx, kx);
  for (int x = 0, columns = args.columns; x < columns; ++x, ++keep, out += out_column) {
#pragma GCC unroll 16
    for (int kx = K - S; kx < K; ++kx) load(kx, x * S + kx);
#pragma GCC unroll 16
    for (int y = 0; y < H; ++y) {
      V sum;
      if (__builtin_expect(keep[y * mask_row], 1)) {
        sum = V::load(start);
#pragma GCC unroll 16
        for (int kx = 0; kx < K; ++kx)
#pragma GCC unroll 16
          for (int ky = 0; ky < K; ++ky) sum = fma(in[kx][y * S + ky], weights[ky][kx], sum);
      } else {
        if (skipped == nullptr) continue;
        sum = V::load(skipped);
      }
      if (__builtin_expect(residual != nullptr, 0)) {
        const float* from = residual + y * args.residual_row + x * args.residual_column;
        sum = sum + (kPartial ? V::load_partial(from, lanes) : V::load(from));
      }
      if (clips) sum = clip(sum, lo, hi);
      float* const to = out + y * out_row;
      if (kPartial)
        sum.store_partial(to, lanes);
      else
        sum.store(to);
    }
#pragma GCC unroll 16
    for (int kx = 0; kx < K - S; ++kx)
#pragma GCC unroll 16
      for (int i = 0; i < kLines; ++i) in[kx][i] = in[kx + S][i];
  }
}

}  // namespace activsparse
