// The operator conv/winograd_stem, for what is built around it.
//
// A task is a *band*: output rows as high as a tile. The rows it sees are unfolded into scratch;
// from there blocks of tiles run to the finished output within the second-level cache, next to the
// unfolded rows and all weights.
#pragma once
#include <functional>

#include "kernels/kernels.h"
#include "operators/conv_params.h"
#include "operators/skipped_fill.h"
#include "operators/source_fill.h"
#include "operators/tile_cover.h"
#include "operators/unfolded_rows.h"

namespace activsparse {

struct WinogradStemHeader {
  ConvParams params;
  int32_t taps;  // of the unfolded kernel
  int32_t bands, tiles;
  int32_t blocks;       // of output channels
  int32_t block_tiles;  // tiles that are multiplied together
  int32_t parts;        // of a band, each a task
  uint64_t weights, bias, tile_list, band_starts;
  SkippedFillHeader skipped;
  SourceFillHeader source;
};

class WinogradStem : public ConvOperator {
 public:
  WinogradStem(const BlobView& blob, Isa isa);

  const ConvParams& params() const override { return h_.params; }
  bool masked() const { return skipped_.bytes() + source_.bytes() > 0; }
  // Of one image, and rows of each; without a mask they follow each other, the last one lower.
  int bands() const { return h_.bands; }
  int band_rows() const { return out_; }
  int parts() const { return h_.parts; }
  int first_row(int band) const { return tiles_[band_starts_[band]].y; }
  // Parts of bands [begin, end) of all images, without what a mask leaves out between them; `after`
  // is told of each that is finished.
  void run_bands(const RunArgs& args, int begin, int end,
                 const std::function<void(int band)>& after) const;

  int phases() const override { return 1 + !source_.empty(); }
  int tasks(int phase) const override;
  double cost(int phase, int begin, int end) const override;
  std::size_t scratch_bytes() const override;
  std::size_t index_bytes() const override;
  double macs() const override;
  std::string kernel() const override;
  void run(const RunArgs& args, int phase, int begin, int end) const override;

 private:
  void check_tiles() const;
  int first_tile(int task) const;
  int last_tile(int task) const;
  int64_t v_stride() const;
  int64_t v_floats() const;
  int64_t m_floats() const;
  void run_band(const RunArgs& args, int image, int first, int last, float* window) const;
  void multiply(const RunArgs& args, int image, int begin, int end, int block, const float* v,
                float* m) const;

  const WinogradStemHeader& h_;
  const Kernels& table_;
  const WinogradKernels& kernels_;
  const int out_;  // side of a tile
  UnfoldedRows rows_;
  SkippedFill skipped_;
  SourceFill source_;
  int vectors_, max_vecs_;
  const float *weights_, *bias_;
  const CoverTile* tiles_;
  const int32_t* band_starts_;
};

}  // namespace activsparse
