// The rows of a network's first convolution: a graph input in NCHW with at most 4 channels, read
// where it lies.
//
// Every output position sees its window at the same distances, so a tile of the matrix product
// takes one pointer per row and one table of distances, over all channels and taps as a single
// reduction. Positions at the image's edges, and nothing else, see a copy of the input rows with
// their padding in scratch.
#pragma once
#include <string>

#include "operators/conv_params.h"
#include "operators/panels.h"

namespace activsparse {

struct StemProductHeader {
  WeightsHeader weights;
  uint64_t bias, skipped_value;
};

class StemProduct {
 public:
  // Empty when the convolution is one; else the reason.
  static std::string unsupported(const OpSpec& spec);
  static StemProductHeader pack(BlobWriter& writer, const OpSpec& spec, const ConvParams& params,
                                const Kernels& kernels);
  StemProduct(const BlobView& blob, const StemProductHeader& header, const ConvParams& params,
              const Kernels& kernels);

  double macs_per_pixel() const { return double(params_.output.c) * depth(); }
  std::size_t scratch_bytes() const;
  std::string kernel() const;

  // An output row: pixel x starts at out + x * out_stride; `residual` may be null.
  struct Row {
    float* out;
    int64_t out_stride;
    const float* residual;
    int64_t residual_stride;
  };
  // The positions of a row to compute, rising; nullptr: the first `count`. They count from `first`,
  // as they do in a list for the whole plane.
  struct Columns {
    const int32_t* list;
    int count, first;
  };
  // Where the output positions of a row find what they see.
  struct Windows {
    const float* image;  // the first position's in the image; nullptr: all see padding
    float* copy;         // and in scratch, at least for the positions at the edges
    const float* next;   // what the next row adds: from here, `count` floats of every channel
    int count;
  };
  // Copies what the edges of output row y of `image` (C, H, W) see.
  Windows load(const float* image, int y, uint8_t* scratch) const;
  // Computes positions of a row, or with the skipped value in place of the convolution's result,
  // and fetches what the next row adds.
  void run(const Windows& windows, const Columns& columns, const Row& row, bool skipped,
           uint8_t* scratch) const;

 private:
  int64_t depth() const { return int64_t{params_.input.c} * params_.taps(); }
  int64_t window_floats() const;
  void copy(const float* image, int y, int begin, int end, float* window) const;
  // `windows`: if not null, whose next lines the tiles fetch.
  void run_tiles(const Panel& panel, GemmArgs args, int rows, const Windows* windows) const;
  // Shares begin..end of what the next row adds.
  void fetch(const Windows& windows, int begin, int end, int shares) const;

  const ConvParams& params_;
  const Kernels& kernels_;
  Panels panels_;
  int row_floats_;
  int inside_begin_, inside_end_;  // the positions of a row that see no padding left and right
  std::vector<int32_t> distances_, image_distances_;
  const float *weights_, *bias_, *skipped_value_;
};

}  // namespace activsparse
