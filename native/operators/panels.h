// Weights of a matrix product, packed for the register tiles of kernels/gemm.h.
//
// The output channels of each group are cut into *panels* of up to GemmKernels::max_vectors
// vectors, as even as possible (ten vectors become 4 + 3 + 3). A panel's weights are (taps,
// channels, vectors * width), contiguous; lanes beyond the group's last channel are zero.
// Per-channel arrays (bias) are laid out panel by panel in the same way.
#pragma once
#include <vector>

#include "common/blob.h"
#include "kernels/kernels.h"
#include "operators/operator.h"

namespace activsparse {

struct Panel {
  int32_t first;    // first output channel, counted over all groups
  int32_t columns;  // output channels
  int32_t vectors;  // vectors that hold them
  int32_t group;
  uint64_t weights;   // floats before this panel in the packed weights
  uint64_t channels;  // floats before this panel in a packed per-channel array
};

// Sets `lanes` and `store_lanes` of `args` for a panel of `output`'s channels.
inline void set_lanes(GemmArgs& args, const Panel& panel, const TensorDesc& output, int width) {
  const int last_vector = (panel.vectors - 1) * width;
  args.lanes = args.store_lanes = panel.columns - last_vector;
  if (!output.padded || panel.first + panel.columns != output.c) return;
  const int room = (output.c + 15) / 16 * 16 - panel.first - last_vector;
  args.store_lanes = room < width ? room : width;
}

class Panels {
 public:
  // `depth` = taps * input channels per group; `max_vectors` <= kernels.gemm_f32.max_vectors.
  Panels(const Kernels& kernels, int groups, int outputs_per_group, int64_t depth, int max_vectors);
  const std::vector<Panel>& all() const { return panels_; }
  uint64_t weight_floats() const { return weight_floats_; }
  uint64_t channel_floats() const { return channel_floats_; }

  // `weight(output channel, k)` gives one weight, k < depth.
  template <class Weight>
  uint64_t pack_weights(BlobWriter& writer, Weight weight) const {
    const uint64_t offset = writer.append<float>(weight_floats_);
    float* packed = writer.at<float>(offset);
    for (const Panel& panel : panels_) {
      const int lanes = panel.vectors * width_;
      for (int64_t k = 0; k < depth_; ++k)
        for (int o = 0; o < panel.columns; ++o)
          packed[panel.weights + k * lanes + o] = weight(panel.first + o, k);
    }
    return offset;
  }
  // `values` (outputs) may be null: zeros.
  uint64_t pack_channels(BlobWriter& writer, const float* values) const;

 private:
  int width_;
  int64_t depth_;
  std::vector<Panel> panels_;
  uint64_t weight_floats_ = 0, channel_floats_ = 0;
};

}  // namespace activsparse
