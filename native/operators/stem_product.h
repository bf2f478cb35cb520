// The rows of a network's first convolution: a graph input in NCHW with at most 4 channels, read
// where it lies.
//
// For one output row, the input rows it needs are copied into scratch with their padding (a few
// percent of the work). There every output position sees its window at the same distances, so a
// tile of the matrix product takes one pointer per row and one table of distances, over all
// channels and taps as a single reduction.
#pragma once
#include <string>

#include "operators/conv_params.h"
#include "operators/panels.h"

namespace activsparse {

struct StemProductHeader {
  uint64_t weights, bias, skipped_value;
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
  // Copies what output row y of `image` (C, H, W) sees, and fetches what the next row adds.
  void load(const float* image, int y, uint8_t* scratch) const;
  // Computes positions columns[0..count) (nullptr: the first `count`) of the row last loaded, or
  // with the skipped value in place of the convolution's result.
  void run(const int32_t* columns, int count, const Row& row, bool skipped, uint8_t* scratch) const;

 private:
  int64_t depth() const { return int64_t{params_.input.c} * params_.taps(); }
  int64_t window_floats() const;
  void fetch_row(const float* image, int y) const;

  const ConvParams& params_;
  const Kernels& kernels_;
  Panels panels_;
  int row_floats_;
  std::vector<int32_t> distances_;
  const float *weights_, *bias_, *skipped_value_;
};

}  // namespace activsparse
