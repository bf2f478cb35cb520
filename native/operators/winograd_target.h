// Where the results of a convolution's Winograd tiles go.
#pragma once
#include "kernels/winograd.h"
#include "operators/conv_params.h"
#include "operators/tile_cover.h"

namespace activsparse {

class WinogradTargets {
 public:
  // For `channels` output channels from `first` on; `bias` and `skipped` hold all of them.
  WinogradTargets(const RunArgs& args, const ConvParams& params, int first, int channels,
                  const float* bias, const float* skipped)
      : params_(params),
        y_(args.out(0) + first),
        residual_(params.has_residual ? args.in(1) + first : nullptr) {
    const ConvParams& p = params;
    target_.row = int64_t{p.output.w} * p.output.stride;
    target_.stride = p.output.stride;
    target_.residual_row = int64_t{p.output.w} * p.residual.stride;
    target_.residual_stride = p.residual.stride;
    target_.bias = bias + first;
    target_.channels = channels < p.output.c - first ? channels : p.output.c - first;
    target_.padded = p.output.padded;
    target_.skipped = skipped + first;
  }

  // From here on rows run upwards: row 0 of a tile is its lowest.
  void flip() {
    target_.row = -target_.row;
    target_.residual_row = -target_.residual_row;
  }

  // Row 0 of the tile is row `y` of the image.
  const WinogradTarget& at(int64_t image, int y, const CoverTile& tile) {
    const int64_t pixel = (image * params_.output.h + y) * params_.output.w + tile.x;
    target_.y = y_ + pixel * params_.output.stride;
    if (residual_ != nullptr) target_.residual = residual_ + pixel * params_.residual.stride;
    target_.keep = tile.keep;
    target_.fill = tile.fill;
    return target_;
  }

 private:
  const ConvParams& params_;
  float* y_;
  const float* residual_;
  WinogradTarget target_{};
};

}  // namespace activsparse
