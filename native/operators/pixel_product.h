// A 1x1 convolution of listed pixels: the rows of a matrix product, given by pointers.
#pragma once
#include <string>

#include "operators/conv_params.h"
#include "operators/fetch.h"
#include "operators/panels.h"

namespace activsparse {

struct PixelProductHeader {
  WeightsHeader weights;
  uint64_t bias, skipped_value;
};

class PixelProduct {
 public:
  // Empty when the convolution is one; else the reason.
  static std::string unsupported(const OpSpec& spec);
  static PixelProductHeader pack(BlobWriter& writer, const OpSpec& spec, const ConvParams& params,
                                 const Kernels& kernels, bool half);
  PixelProduct(const BlobView& blob, const PixelProductHeader& header, const ConvParams& params,
               const Kernels& kernels);

  double macs_per_pixel() const { return double(params_.input.c) * params_.output.c; }

  bool half() const { return weights_.half(); }
  // Floats of room for all weights, where they have to be widened, in whole cache lines.
  int64_t room() const {
    return half() ? static_cast<int64_t>(panels_.weight_floats() + 15) / 16 * 16 : 0;
  }
  // All weights as float32, in `room` where it takes some.
  const float* wide(float* room) const;

  // out[i] = activation(W rows[i] + bias + residual[i]) for i < count, or with the skipped value in
  // place of W rows[i] + bias. `weights` are what wide() gave. `residual` may be null. `fetch` is
  // spread over the tiles.
  void run(const float* weights, const float* const* rows, float* const* out,
           const float* const* residual, int count, bool skipped, Fetch& fetch) const;

  // Its weights in the order they are read; those after the first panel's, none where all have been
  // read at once.
  Constants weights() const { return weights_.stored(0, panels_.weight_floats()); }
  Constants later_weights() const {
    const uint64_t end = panels_.weight_floats();
    return weights_.stored(half() ? end : panels_.weights_end(0), end);
  }

 private:
  const ConvParams& params_;
  const Kernels& kernels_;
  Panels panels_;
  int chunk_rows_;
  Weights weights_;
  const float *bias_, *skipped_value_;
};

}  // namespace activsparse
