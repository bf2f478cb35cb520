// Depthwise products of bytes by columns; see InterleaveU8Args and DepthwiseColumnsU8Args in
// bytes.h.
//
// Four neighbouring pixels of a line become quads by eight unpackings per block of four vectors,
// and stay in the first-level cache for all outputs that see them: two of a row and three rows of
// them with a 3x3 kernel. An output costs one product of a vector per quad, and its rounding.
#pragma once
#include "kernels/bytes.h"
#include "kernels/product_u8.h"

namespace activsparse {

template <class D>
constexpr int taps_bytes() {
  return 16 * D::kWidth * D::kTapVectors;
}

template <class D>
__attribute__((always_inline)) inline void interleave_block(const uint8_t* const (&pixels)[4],
                                                            int channel, int channels,
                                                            uint8_t* out) {
  typename D::Quads taps[4], quads[4];
#pragma GCC unroll 4
  for (int t = 0; t < 4; ++t) taps[t] = D::load_bytes(pixels[t] + channel, channels);
  D::interleave(taps, quads);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) D::store_taps(out + 4 * D::kWidth * D::kTapVectors * j, quads[j]);
}

template <class D>
void interleave_run(const InterleaveU8Args& args) {
  constexpr int kBlock = 4 * D::kWidth, kTaps = 4 * D::kWidth * D::kTapVectors;
  auto* out = static_cast<uint8_t*>(args.out);
  const uint8_t* const* pixels = args.pixels;
  const int quads = args.quads, step = args.step, channels = args.channels;
  const int whole = channels / kBlock * kBlock;
  for (int i = 0; i < quads; ++i, pixels += step) {
    const uint8_t* const x[4] = {pixels[0], pixels[1], pixels[2], pixels[3]};
    int c = 0;
    for (; c < whole; c += kBlock, out += 4 * kTaps) interleave_block<D>(x, c, kBlock, out);
    if (c < channels) interleave_block<D>(x, c, channels - c, out), out += 4 * kTaps;
  }
}

// Of one block. kLines, kQuads: how many, or 0 where that is not known when this is compiled.
template <class D, int kLines, int kQuads>
__attribute__((always_inline)) inline void columns_of_block(
    const DepthwiseColumnsU8Args& args, int64_t quads_at, const uint8_t* weights,
    const typename D::Sum (&start)[4], const typename D::Float (&scale)[4],
    const typename D::Float (&shift)[4], uint8_t* out, int channels) {
  constexpr int kTaps = 4 * D::kWidth * D::kTapVectors;
  const int lines = kLines ? kLines : args.line_count, quads = kQuads ? kQuads : args.quads;
  const FinishU8 f = *args.finish;
  const int outputs = args.outputs;
  const int32_t *quad_at = args.quad_at, *weight_at = args.weight_at, *column = args.column;
  const int64_t out_step = args.out_step;
  const int lo = byte_of<D>(f.rescaled ? f.residual_lo : f.lo, f);
  const int hi = byte_of<D>(f.rescaled ? f.residual_hi : f.hi, f);
  for (int i = 0; i < outputs; ++i) {
    typename D::Sum sums[4] = {start[0], start[1], start[2], start[3]};
    const uint8_t* w = weights + weight_at[i];
    const int64_t at = quads_at + quad_at[i];
#pragma GCC unroll 5
    for (int line = 0; line < lines; ++line) {
      const uint8_t* x = args.lines[line] + at;
#pragma GCC unroll 2
      for (int q = 0; q < quads; ++q, x += args.quad_bytes, w += 4 * kTaps) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) sums[j] = D::tap_dot(sums[j], x + kTaps * j, w + kTaps * j);
      }
    }
    typename D::Float v[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) v[j] = fma(D::to_float(sums[j]), scale[j], shift[j]);
    uint8_t* pixel = out + column[i] * out_step;
    for (int j = 0; f.rescaled && j < 4; ++j) v[j] = rescaled<D>(v[j], f);
    D::store_bounded(pixel, v, lo, hi, f.zero, channels);
  }
}

template <class D, int kLines, int kQuads>
__attribute__((always_inline)) inline void columns(const DepthwiseColumnsU8Args& args) {
  constexpr int W = D::kWidth, kBlock = 4 * W;
  for (int c = 0, block = 0; c < args.channels; c += kBlock, ++block) {
    typename D::Sum start[4];
    typename D::Float scale[4], shift[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const int at = c + j * W;
      start[j] = D::load(args.start + at);
      scale[j] = D::Float::load(args.scale + at), shift[j] = D::Float::load(args.shift + at);
    }
    const uint8_t* w = args.weights + block * args.block_bytes;
    const int64_t at = int64_t{block} * taps_bytes<D>();
    if (args.channels - c >= kBlock)
      columns_of_block<D, kLines, kQuads>(args, at, w, start, scale, shift, args.out + c, kBlock);
    else
      columns_of_block<D, kLines, kQuads>(args, at, w, start, scale, shift, args.out + c,
                                          args.channels - c);
  }
}

template <class D>
void depthwise_columns_run(const DepthwiseColumnsU8Args& args) {
  if (args.line_count == 3 && args.quads == 1)
    columns<D, 3, 1>(args);
  else if (args.line_count == 5 && args.quads == 2)
    columns<D, 5, 2>(args);
  else
    columns<D, 0, 0>(args);
}

}  // namespace activsparse
