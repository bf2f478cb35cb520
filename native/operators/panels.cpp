#include "operators/panels.h"

namespace activsparse {

Panels::Panels(const Kernels& kernels, int groups, int outputs_per_group, int64_t depth,
               int max_vectors)
    : width_(kernels.width), depth_(depth) {
  const int vectors = (outputs_per_group + width_ - 1) / width_;
  const int count = (vectors + max_vectors - 1) / max_vectors;
  for (int group = 0; group < groups; ++group) {
    int vector = 0;
    for (int i = 0; i < count; ++i) {
      const int take = (vectors - vector + count - i - 1) / (count - i);
      Panel panel{};
      panel.group = group;
      panel.first = group * outputs_per_group + vector * width_;
      panel.vectors = take;
      vector += take;
      const int end = vector * width_ < outputs_per_group ? vector * width_ : outputs_per_group;
      panel.columns = group * outputs_per_group + end - panel.first;
      panel.weights = weight_floats_;
      panel.channels = channel_floats_;
      weight_floats_ += static_cast<uint64_t>(take) * width_ * depth;
      channel_floats_ += static_cast<uint64_t>(take) * width_;
      panels_.push_back(panel);
    }
  }
}

uint64_t Panels::pack_channels(BlobWriter& writer, const float* values) const {
  const uint64_t offset = writer.append<float>(channel_floats_);
  if (values == nullptr) return offset;
  float* packed = writer.at<float>(offset);
  for (const Panel& panel : panels_)
    for (int o = 0; o < panel.columns; ++o) packed[panel.channels + o] = values[panel.first + o];
  return offset;
}

}  // namespace activsparse
