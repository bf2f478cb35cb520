#include "operators/panels.h"

#include <algorithm>

namespace activsparse {
namespace {

// A row of a tile costs a broadcast whatever its width: a single narrow vector would spend as long
// on them as on its multiply-adds.
constexpr int kNarrowVectors = 3;

}  // namespace

Panels::Panels(const Kernels& kernels, int groups, int outputs_per_group, int64_t depth,
               int max_vectors, bool narrow)
    : kernels_(kernels), depth_(depth) {
  const int width = kernels.width, half = kernels.narrow_width;
  int vectors = (outputs_per_group + width - 1) / width;
  // Whether the last `width` channels leave half a vector empty.
  const bool spare = narrow && half < width && vectors * width - outputs_per_group >= half;
  int narrow_vectors = 0;
  if (spare) {
    narrow_vectors = vectors > 1 ? kNarrowVectors : 1;
    vectors -= (narrow_vectors + 1) / 2;
  }
  const int count = (vectors + max_vectors - 1) / max_vectors;
  for (int group = 0; group < groups; ++group) {
    const int end = (group + 1) * outputs_per_group;
    int first = group * outputs_per_group;
    for (int i = 0, left = vectors; i < count; ++i) {
      const int take = (left + count - i - 1) / (count - i);
      add(group, first, end, take, width);
      first += take * width;
      left -= take;
    }
    if (spare) add(group, first, end, narrow_vectors, half);
  }
}

void Panels::add(int group, int first, int end, int vectors, int width) {
  Panel panel{};
  panel.group = group;
  panel.first = first;
  panel.vectors = vectors;
  panel.width = width;
  panel.columns = std::min(vectors * width, end - first);
  panel.weights = weight_floats_;
  panel.channels = channel_floats_;
  weight_floats_ += static_cast<uint64_t>(vectors) * width * depth_;
  channel_floats_ += static_cast<uint64_t>(vectors) * width;
  panels_.push_back(panel);
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
