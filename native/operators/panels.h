// Weights of a matrix product, packed for the register tiles of kernels/gemm.h.
//
// The output channels of each group are cut into *panels* of up to TileSizes::usual_vectors
// vectors, as even as possible (ten vectors become 4 + 3 + 3); of more, up to max_vectors, where
// that leaves fewer of them (five vectors become 3 + 2 where two are usual). Where the last vector
// would be half empty, two rows may share it (kernels/half_gemm.h), and both its halves hold the
// same. A panel's weights are (taps, channels, vectors * width), contiguous; lanes beyond the
// group's last channel are zero. Per-channel arrays (bias) are laid out panel by panel in the same
// way.
#pragma once
#include <algorithm>
#include <vector>

#include "common/blob.h"
#include "kernels/kernels.h"
#include "operators/conv_params.h"
#include "operators/operator.h"
#include "operators/weights.h"

namespace activsparse {

struct Panel {
  int32_t first;    // first output channel, counted over all groups
  int32_t columns;  // output channels
  int32_t vectors;  // vectors that hold them
  int32_t width;    // lanes of a vector
  int32_t half;     // 1: two rows share the last vector
  int32_t group;
  uint64_t weights;   // floats before this panel in the packed weights
  uint64_t channels;  // floats before this panel in a packed per-channel array
};

// Sets `lanes` and `store_lanes` of `args` for a panel of `output`'s channels.
inline void set_lanes(GemmArgs& args, const Panel& panel, const TensorDesc& output) {
  const int last_vector = (panel.vectors - 1) * panel.width;
  args.lanes = args.store_lanes = panel.columns - last_vector;
  if (!output.padded || panel.first + panel.columns != output.c) return;
  const int room = (output.c + 15) / 16 * 16 - panel.first - last_vector;
  args.store_lanes = std::min(room, panel.half ? panel.width / 2 : panel.width);
}

// Lets tile `tile` of `tiles` bring its share of the weights that begin `distance` floats after its
// own, `lanes` per channel as these.
inline void share_lines(GemmArgs& args, int64_t distance, int lanes, int tile, int tiles) {
  constexpr int kLine = 64 / sizeof(float);
  const int lines = (lanes + kLine - 1) / kLine;
  const int first = lines * tile / tiles, end = lines * (tile + 1) / tiles;
  for (int i = 0; i < 2; ++i) args.fetch[i] = first + i < end ? distance + (first + i) * kLine : 0;
}

class Panels {
 public:
  // `depth` = taps * input channels per group; `max_vectors` <= kernels.gemm_f32.sizes.max_vectors.
  // `halves`: two rows may share a vector; each panel is run by gemm(panel).
  Panels(const Kernels& kernels, int groups, int outputs_per_group, int64_t depth, int max_vectors,
         bool halves = false);
  const std::vector<Panel>& all() const { return panels_; }
  uint64_t weight_floats() const { return weight_floats_; }
  uint64_t channel_floats() const { return channel_floats_; }
  // Where the weights of panel i end: its successor's begin.
  uint64_t weights_end(std::size_t i) const {
    return i + 1 < panels_.size() ? panels_[i + 1].weights : weight_floats_;
  }
  // Rows of the tallest tile of a panel, and of the one that is fastest.
  int most_rows(const Panel& panel) const { return gemm(panel).sizes.max_rows[panel.vectors - 1]; }
  int best_rows(const Panel& panel) const;
  const GemmKernels& gemm(const Panel& panel) const {
    return panel.half ? kernels_.half_gemm_f32 : kernels_.gemm_f32;
  }

  // `weight(output channel, k)` gives one weight, k < depth. Each panel is a part.
  template <class Weight>
  WeightsHeader pack_weights(BlobWriter& writer, bool half, Weight weight) const {
    std::vector<uint64_t> ends;
    for (std::size_t i = 0; i < panels_.size(); ++i) ends.push_back(weights_end(i));
    return activsparse::pack_weights(writer, ends, half, [&](float* packed) {
      for (const Panel& panel : panels_) {
        const int lanes = panel.vectors * panel.width;
        float* row = packed + panel.weights;
        for (int64_t k = 0; k < depth_; ++k, row += lanes) {
          for (int o = 0; o < panel.columns; ++o) row[o] = weight(panel.first + o, k);
          complete(panel, row);
        }
      }
    });
  }
  Weights weights(const BlobView& blob, const WeightsHeader& header) const {
    return Weights(blob, header, weight_floats_, panels_.size());
  }
  int64_t floats_of(const Panel& panel) const {
    return int64_t{panel.vectors} * panel.width * depth_;
  }
  uint64_t index_of(const Panel& panel) const { return &panel - panels_.data(); }
  // `values` (outputs) may be null: zeros.
  uint64_t pack_channels(BlobWriter& writer, const float* values) const;

 private:
  void add(int group, int first, int end, int vectors, bool half);
  // Of the lanes of one row, those that are there twice.
  static void complete(const Panel& panel, float* row);

  const Kernels& kernels_;
  int64_t depth_;
  std::vector<Panel> panels_;
  uint64_t weight_floats_ = 0, channel_floats_ = 0;
};

// Panels of a convolution's weights, one block of input channels per tap. Refuses the number of
// vectors of a damaged plan.
inline Panels panels_of(const ConvParams& p, const Kernels& kernels, int max_vectors) {
  require_packed(max_vectors >= 1 && max_vectors <= kernels.gemm_f32.sizes.max_vectors);
  return Panels(kernels, p.group, p.out_per_group, int64_t{p.taps()} * p.in_per_group, max_vectors);
}

}  // namespace activsparse
