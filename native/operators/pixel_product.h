// A 1x1 convolution of listed pixels: the rows of a matrix product, given by pointers.
#pragma once
#include <string>

#include "operators/conv_params.h"
#include "operators/fetch.h"
#include "operators/panels.h"

namespace activsparse {

struct PixelProductHeader {
  uint64_t weights, bias, skipped_value;
};

class PixelProduct {
 public:
  // Empty when the convolution is one; else the reason.
  static std::string unsupported(const OpSpec& spec);
  static PixelProductHeader pack(BlobWriter& writer, const OpSpec& spec, const ConvParams& params,
                                 const Kernels& kernels);
  PixelProduct(const BlobView& blob, const PixelProductHeader& header, const ConvParams& params,
               const Kernels& kernels);

  double macs_per_pixel() const { return double(params_.input.c) * params_.output.c; }

  // out[i] = activation(W rows[i] + bias + residual[i]) for i < count, or with the skipped value in
  // place of W rows[i] + bias. `residual` may be null. `fetch` is spread over the tiles.
  void run(const float* const* rows, float* const* out, const float* const* residual, int count,
           bool skipped, Fetch& fetch) const;

  // Its weights in the order they are read; those after the first panel's.
  Constants weights() const { return {weights_, static_cast<int64_t>(panels_.weight_floats())}; }
  Constants later_weights() const {
    const auto first = static_cast<int64_t>(panels_.weights_end(0));
    return {weights_ + first, static_cast<int64_t>(panels_.weight_floats()) - first};
  }

 private:
  const ConvParams& params_;
  const Kernels& kernels_;
  Panels panels_;
  int chunk_rows_;
  const float *weights_, *bias_, *skipped_value_;
};

}  // namespace activsparse
