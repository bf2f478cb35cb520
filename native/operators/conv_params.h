// The geometry of a convolution, read and checked once from a spec; trivially copyable, so blobs
// store it as it is.
#pragma once
#include "operators/epilogue.h"
#include "operators/operator.h"

namespace activsparse {

struct ConvParams {
  TensorDesc input, output;
  int32_t group, in_per_group, out_per_group;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
  int32_t has_residual;
  TensorDesc residual;
  Epilogue epilogue;

  int taps() const { return kernel_h * kernel_w; }
  // Input pixel (without the image offset) that tap (ky, kx) of output (oy, ox) reads, or -1 in the
  // padding.
  int64_t input_pixel(int oy, int ox, int ky, int kx) const {
    const int y = oy * stride_h - pad_top + ky * dilation_h;
    const int x = ox * stride_w - pad_left + kx * dilation_w;
    return (y < 0 || x < 0 || y >= input.h || x >= input.w) ? -1 : int64_t{y} * input.w + x;
  }
};

// Throws Error when shapes, arrays and attributes do not fit together.
ConvParams conv_params_of(const OpSpec& spec);

}  // namespace activsparse
