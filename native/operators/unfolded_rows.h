// Rows of an NCHW image as a convolution of stride 1 sees them that computes the same as one of
// stride s: position (y, x) holds the s x s pixels from (y s - pad_top, x s - pad_left) on of every
// channel, so tap (i, j) of phase (a, b) is tap (i s + a, j s + b) of the strided convolution.
#pragma once
#include <algorithm>
#include <cstring>

#include "operators/conv_params.h"

namespace activsparse {

class UnfoldedRows {
 public:
  // Positions are `channels()` floats of use, `stride()` apart; a row has `width` of them.
  UnfoldedRows(const ConvParams& params, int width) : p_(params), width_(width) {}

  static int channels(const ConvParams& p) { return p.input.c * p.stride_h * p.stride_w; }
  int channels() const { return channels(p_); }
  int stride() const { return (channels() + 15) / 16 * 16; }
  int64_t row_floats() const { return int64_t{width_} * stride(); }

  // Row y of an image (C, H, W); the floats between positions are zeros.
  void write(const float* image, int y, float* row) const {
    const int s = p_.stride_h;
    std::fill_n(row, row_floats(), 0.0f);
    for (int c = 0; c < p_.input.c; ++c)
      for (int a = 0; a < s; ++a, row += s) {
        const int iy = y * s - p_.pad_top + a;
        if (iy < 0 || iy >= p_.input.h) continue;
        const float* pixels = image + (int64_t{c} * p_.input.h + iy) * p_.input.w;
        if (s == 2)
          copy<2>(pixels, row);
        else
          copy<0>(pixels, row);
      }
  }

 private:
  // kStride 0: any.
  template <int kStride>
  void copy(const float* pixels, float* out) const {
    const int s = kStride ? kStride : p_.stride_h, step = stride();
    // Positions from `begin` to `end` see pixels alone, the others some padding.
    const int begin = std::min((p_.pad_left + s - 1) / s, width_);
    const int end = std::clamp((p_.input.w + p_.pad_left) / s, begin, width_);
    const float* from = pixels + begin * s - p_.pad_left;
    float* to = out + int64_t{begin} * step;
#pragma GCC unroll 4
    for (int i = begin; i < end; ++i, from += s, to += step)
      std::memcpy(to, from, s * sizeof(float));
    const auto edge = [&](int first, int last) {
      for (int x = first; x < last; ++x)
        for (int b = 0; b < s; ++b) {
          const int ix = x * s - p_.pad_left + b;
          if (ix >= 0 && ix < p_.input.w) out[int64_t{x} * step + b] = pixels[ix];
        }
    };
    edge(0, begin);
    edge(end, std::min(end + 1, width_));
  }

  const ConvParams& p_;
  int width_;
};

}  // namespace activsparse
