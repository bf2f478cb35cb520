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
__attribute__((always_inline)) inline typename D::Pairs pairs_of(const uint8_t* x, const uint8_t* y,
                                                                 int channels) {
  return D::pairs(D::load_bytes(x, channels), D::load_bytes(y, channels));
}

// A block of all quads, which lie `quad_bytes` apart.
template <class D>
__attribute__((always_inline)) inline void interleave_block(const InterleaveU8Args& args,
                                                            int channel, int channels, uint8_t* out,
                                                            int64_t quad_bytes) {
  constexpr int kTaps = 4 * D::kWidth * D::kTapVectors;
  const int quad_count = args.quads, step = args.step;
  const uint8_t* const* pixels = args.pixels;
  typename D::Quads quads[4];
  const auto store = [&]() __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) D::store_taps(out + kTaps * j, quads[j]);
    out += quad_bytes;
  };
  if (step == 2) {  // a quad's second pair is the next one's first
    typename D::Pairs first = pairs_of<D>(pixels[0] + channel, pixels[1] + channel, channels);
    for (int i = 0; i < quad_count; ++i) {
      pixels += 2;
      const typename D::Pairs second =
          pairs_of<D>(pixels[0] + channel, pixels[1] + channel, channels);
      D::interleave(first, second, quads);
      first = second;
      store();
    }
    return;
  }
  for (int i = 0; i < quad_count; ++i, pixels += step) {
    D::interleave(pairs_of<D>(pixels[0] + channel, pixels[1] + channel, channels),
                  pairs_of<D>(pixels[2] + channel, pixels[3] + channel, channels), quads);
    store();
  }
}

template <class D>
void interleave_run(const InterleaveU8Args& args) {
  constexpr int kBlock = 4 * D::kWidth;
  auto* out = static_cast<uint8_t*>(args.out);
  const int64_t blocks = (args.channels + kBlock - 1) / kBlock;
  for (int c = 0; c < args.channels; c += kBlock, out += taps_bytes<D>()) {
    const int64_t quad_bytes = blocks * taps_bytes<D>();
    if (args.channels - c >= kBlock)
      interleave_block<D>(args, c, kBlock, out, quad_bytes);
    else
      interleave_block<D>(args, c, args.channels - c, out, quad_bytes);
  }
}

template <int kSize>
struct Size {
  static constexpr int kValue = kSize;
};

// Of one block; outputs of the same weights are neighbours. kLines, kQuads: how many, or 0 where
// that is not known when this is compiled.
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
  const auto finish = [&](const typename D::Sum(&sums)[4], int i) __attribute__((always_inline)) {
    typename D::Float v[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) v[j] = fma(D::to_float(sums[j]), scale[j], shift[j]);
    for (int j = 0; f.rescaled && j < 4; ++j)
      v[j] = rescaled<D>(min(v[j], D::Float::set1(f.hi)), f);
    D::store_bounded(out + column[i] * out_step, v, lo, hi, f.zero, channels);
  };
  if constexpr (kLines == 3 && kQuads == 1) {
    // Outputs in a row that have the same weights keep them in registers.
    const uint8_t* const x[kLines] = {args.lines[0] + quads_at, args.lines[1] + quads_at,
                                      args.lines[2] + quads_at};
    for (int i = 0; i < outputs;) {
      const int32_t of = weight_at[i];
      typename D::Taps w[kLines][4];
#pragma GCC unroll 3
      for (int line = 0; line < kLines; ++line)
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j)
          w[line][j] = D::load_taps(weights + of + kTaps * (4 * line + j));
      do {
        typename D::Sum sums[4] = {start[0], start[1], start[2], start[3]};
        const int64_t at = quad_at[i];
#pragma GCC unroll 3
        for (int line = 0; line < kLines; ++line)
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j)
            sums[j] = D::tap_dot(sums[j], D::load_taps(x[line] + at + kTaps * j), w[line][j]);
        finish(sums, i);
      } while (++i < outputs && weight_at[i] == of);
    }
    return;
  }
  // Several that have the same weights load them once.
  const auto group = [&](auto size, int i) __attribute__((always_inline)) {
    constexpr int kSize = decltype(size)::kValue;
    typename D::Sum sums[kSize][4];
    int64_t at[kSize];
#pragma GCC unroll 4
    for (int g = 0; g < kSize; ++g) {
      at[g] = quads_at + quad_at[i + g];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) sums[g][j] = start[j];
    }
    const uint8_t* w = weights + weight_at[i];
#pragma GCC unroll 5
    for (int line = 0; line < lines; ++line) {
      const uint8_t* x = args.lines[line];
#pragma GCC unroll 2
      for (int q = 0; q < quads; ++q, x += args.quad_bytes, w += 4 * kTaps) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          typename D::Taps taps = D::load_taps(w + kTaps * j);
          if constexpr (kSize > 1) D::keep(taps);
#pragma GCC unroll 4
          for (int g = 0; g < kSize; ++g)
            sums[g][j] = D::tap_dot(sums[g][j], D::load_taps(x + at[g] + kTaps * j), taps);
        }
      }
    }
#pragma GCC unroll 4
    for (int g = 0; g < kSize; ++g) finish(sums[g], i + g);
  };
  constexpr int kMost = D::kOutputsAtOnce;
  for (int i = 0; i < outputs;) {
    if (i + kMost <= outputs && weight_at[i + kMost - 1] == weight_at[i]) {
      group(Size<kMost>{}, i);
      i += kMost;
    } else if (kMost > 2 && i + 2 <= outputs && weight_at[i + 1] == weight_at[i]) {
      group(Size<2>{}, i);
      i += 2;
    } else {
      group(Size<1>{}, i++);
    }
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

// Where the library has to be small, 5x5 kernels go with all others.
template <class D>
void depthwise_columns_run(const DepthwiseColumnsU8Args& args) {
  if (args.line_count == 3 && args.quads == 1)
    columns<D, 3, 1>(args);
  else if (!kCompact && args.line_count == 5 && args.quads == 2)
    columns<D, 5, 2>(args);
  else
    columns<D, 0, 0>(args);
}

}  // namespace activsparse
