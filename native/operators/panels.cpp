#include "operators/panels.h"

#include <algorithm>

namespace activsparse {
namespace {

// Of the first-level cache, weights that may stay there while a panel goes through many rows.
constexpr int64_t kResidentShare = 768;

}  // namespace

Panels::Panels(const Kernels& kernels, int groups, int outputs_per_group, int64_t depth,
               int max_vectors, bool halves)
    : kernels_(kernels), depth_(depth) {
  const int width = kernels.width;
  const int vectors = (outputs_per_group + width - 1) / width;
  const bool half = halves && kernels.half_gemm_f32.sizes.max_vectors > 0 &&
                    (vectors * width - outputs_per_group) * 2 >= width;
  const int usual = std::min(max_vectors, kernels.gemm_f32.sizes.usual_vectors());
  const int count = std::max((vectors + max_vectors - 1) / max_vectors, vectors / usual);
  for (int group = 0; group < groups; ++group) {
    const int end = (group + 1) * outputs_per_group;
    int first = group * outputs_per_group;
    for (int i = 0, left = vectors; i < count; ++i) {
      const int take = (left + count - i - 1) / (count - i);
      add(group, first, end, take, half && i + 1 == count);
      first += take * width;
      left -= take;
    }
  }
}

void Panels::add(int group, int first, int end, int vectors, bool half) {
  const int lanes = vectors * kernels_.width;
  Panel panel{};
  panel.group = group;
  panel.first = first;
  panel.vectors = vectors;
  panel.width = kernels_.width;
  panel.half = half;
  panel.columns = std::min(lanes, end - first);
  panel.weights = weight_floats_;
  panel.channels = channel_floats_;
  weight_floats_ += static_cast<uint64_t>(lanes) * depth_;
  channel_floats_ += static_cast<uint64_t>(lanes);
  panels_.push_back(panel);
}

// Short tiles read the weights oftener, which costs nothing where they are in the first-level
// cache.
int Panels::best_rows(const Panel& panel) const {
  const int64_t bytes = floats_of(panel) * int64_t{sizeof(float)};
  if (bytes > kernels_.caches.of_l1(kResidentShare)) return most_rows(panel);
  return gemm(panel).sizes.best_rows[panel.vectors - 1];
}

void Panels::complete(const Panel& panel, float* row) {
  if (!panel.half) return;
  const int half = panel.width / 2;
  float* last = row + (panel.vectors - 1) * panel.width;
  std::copy_n(last, half, last + half);
}

uint64_t Panels::pack_channels(BlobWriter& writer, const float* values) const {
  const uint64_t offset = writer.append<float>(channel_floats_);
  if (values == nullptr) return offset;
  float* packed = writer.at<float>(offset);
  for (const Panel& panel : panels_) {
    std::copy_n(values + panel.first, panel.columns, packed + panel.channels);
    complete(panel, packed + panel.channels);
  }
  return offset;
}

}  // namespace activsparse
