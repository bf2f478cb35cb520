// The geometry of a convolution, read and checked once from a spec; trivially copyable, so blobs
// store it as it is.
#pragma once
#include "operators/checks.h"
#include "operators/epilogue.h"
#include "operators/operator.h"

namespace activsparse {

struct ConvParams {
  TensorDesc input, output;
  int32_t group, in_per_group, out_per_group;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int32_t pad_top, pad_left, pad_bottom, pad_right;
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

// Outputs of a convolution or a window along an axis; 0 where there is no room for one.
int64_t window_outputs(int64_t size, int64_t pads, int64_t kernel, int64_t stride,
                       int64_t dilation);

// Why a convolution of a known type cannot have these numbers; nullptr when it can. `type`: of its
// tensors; the output of one of uint8 may be float32.
const char* fault_of(const ConvParams& params, DType type = DType::kFloat32);

// Throws Error when shapes, arrays and attributes do not fit together. Of uint8 the weight is int8.
ConvParams conv_params_of(const OpSpec& spec, DType type = DType::kFloat32);

// Those of a fully connected layer, a convolution of a single pixel.
ConvParams gemm_params_of(const OpSpec& spec, DType type = DType::kFloat32);

// The same of packed data, which hold at least as many numbers of 16 bits as there are weights. All
// tensors are NHWC but for the input where `nchw`.
void require_packed(const BlobView& blob, const ConvParams& params, bool nchw = false,
                    DType type = DType::kFloat32);

// Whether input position (y, x) is what output position (y, x) reads, and nothing else.
inline bool is_pixelwise(const ConvParams& p) {
  return p.group == 1 && p.taps() == 1 && p.stride_h == 1 && p.stride_w == 1 && p.pad_top == 0 &&
         p.pad_left == 0 && p.pad_bottom == 0 && p.pad_right == 0;
}

inline bool is_depthwise(const ConvParams& p) {
  return p.group == p.input.c && p.group == p.output.c && p.in_per_group == 1;
}

// The header of an operator that is a convolution, checked: `params` is its geometry.
template <class Header>
const Header& conv_header(const BlobView& blob, bool nchw = false, DType type = DType::kFloat32) {
  const Header& header = blob.header<Header>();
  require_packed(blob, header.params, nchw, type);
  return header;
}

// An operator that is a convolution and states what its parameters hold.
class ConvOperator : public Operator {
 public:
  std::vector<TensorDesc> inputs() const override {
    const ConvParams& p = params();
    return p.has_residual ? std::vector<TensorDesc>{p.input, p.residual}
                          : std::vector<TensorDesc>{p.input};
  }
  std::vector<TensorDesc> outputs() const override { return {params().output}; }
  virtual const ConvParams& params() const = 0;
};

}  // namespace activsparse
