#include "operators/byte_panels.h"

#include <algorithm>
#include <cstring>

#include "operators/safe_pairs.h"
#include "operators/safe_steps.h"

namespace activsparse {
namespace {

int quads_of(const ConvParams& p) { return (p.in_per_group + 3) / 4; }

// Instructions for a row, of which a core does the same number per cycle: of a quad of weights
// three by itself, five with another one that it is safe with, four of 16-bit numbers. A step's
// weights and activations are loaded besides, which counts where it is for a single vector.
constexpr double kOne = 3, kTwo = 5, kApart = 6, kWords = 4;
constexpr double kMakeWords = 1;  // of a quad of activations, for all panels
// Products of longer rows would not lie in the first-level cache, and need fewer steps apart.
constexpr int kMostWords = 320;

double safe_cost(const StepCounts& counts, int vectors) {
  double cost = vectors * (kTwo * counts.twos + kOne * counts.ones);
  for (int v = 0; v < vectors; ++v) cost += kApart * counts.apart[v];
  return cost;
}

}  // namespace

int64_t words_of(const ConvParams& p) { return int64_t{4} * quads_of(p) * p.taps(); }

std::vector<BytePanel> BytePanels::cut(const ConvParams& p, Isa isa) {
  const Kernels& kernels = kernels_for(isa);
  const int width = kernels.product_u8.sizes.width,
            usual = kernels.product_u8.sizes.usual_vectors();
  const int vectors = (p.out_per_group + width - 1) / width;
  const int count = (vectors + usual - 1) / usual;
  std::vector<BytePanel> panels;
  int64_t lanes = 0;
  for (int group = 0; group < p.group; ++group) {
    const int end = (group + 1) * p.out_per_group;
    for (int i = 0, first = group * p.out_per_group, left = vectors; i < count; ++i) {
      const int take = (left + count - i - 1) / (count - i);
      panels.push_back({first, std::min(take * width, end - first), take, group, lanes});
      first += take * width;
      left -= take;
      lanes += int64_t{take} * width;
    }
  }
  return panels;
}

BytePanelsHeader BytePanels::pack(BlobWriter& writer, const ConvParams& p, const int8_t* weight,
                                  Isa isa) {
  const int width = kernels_for(isa).product_u8.sizes.width, taps = p.taps(), quads = quads_of(p);
  const std::vector<BytePanel> panels = cut(p, isa);
  const bool safe = needs_safe_pairs(isa);
  std::vector<StepCounts> steps;
  std::vector<int32_t> offsets;
  Blob bytes, plain;
  double safe_time = 0, words_time = kMakeWords * quads * taps;
  for (const BytePanel& panel : panels) {
    const std::size_t step_bytes = std::size_t{4} * panel.vectors * width;
    const int before = channels_before(p, panel.group);
    for (int tap = 0; tap < taps; ++tap) {
      const std::size_t first = bytes.size();
      bytes.resize(first + step_bytes * quads);
      for (int o = 0; o < panel.columns; ++o)
        for (int i = 0; i < p.in_per_group; ++i)
          bytes[first + step_bytes * ((before + i) / 4) + 4 * o + (before + i) % 4] =
              static_cast<std::uint8_t>(
                  weight[(int64_t{panel.first + o} * p.in_per_group + i) * taps + tap]);
      if (!safe) continue;
      plain.insert(plain.end(), bytes.begin() + static_cast<std::ptrdiff_t>(first), bytes.end());
      const SafeSteps made =
          safe_steps(reinterpret_cast<int8_t*>(bytes.data() + first), quads, panel.vectors, width);
      bytes.resize(first);
      bytes.insert(bytes.end(), made.weights.begin(), made.weights.end());
      offsets.insert(offsets.end(), made.offsets.begin(), made.offsets.end());
      steps.push_back(made.counts);
      safe_time += safe_cost(made.counts, panel.vectors);
      words_time += kWords * quads * panel.vectors;
    }
  }
  BytePanelsHeader h{};
  h.words = safe && p.group == 1 && words_of(p) <= kMostWords && words_time < safe_time;
  if (h.words) {
    bytes = std::move(plain);
    steps.clear(), offsets.clear();
  }
  h.weights = writer.append(bytes.data(), bytes.size());
  h.steps = writer.append(steps.data(), steps.size());
  h.offsets = writer.append(offsets.data(), offsets.size());
  h.weight_bytes = static_cast<int64_t>(bytes.size());
  h.offset_count = static_cast<int64_t>(offsets.size());
  return h;
}

BytePanels::BytePanels(const BlobView& blob, const BytePanelsHeader& h, const ConvParams& p,
                       Isa isa)
    : panels_(cut(p, isa)), tap_count_(p.taps()) {
  const int width = kernels_for(isa).product_u8.sizes.width, quads = quads_of(p);
  const bool safe = needs_safe_pairs(isa) && h.words == 0;
  words_ = h.words != 0;
  require_packed(!words_ || (h.words == 1 && needs_safe_pairs(isa) && p.group == 1 &&
                             words_of(p) <= kMostWords));
  for (int q = 0; words_ && q < quads; ++q) quads_in_order_.push_back(4 * q);
  all_quads_.ones = quads;
  lanes_ = lanes_of(panels_, width);
  require_packed(h.weight_bytes >= 0 && h.offset_count >= 0);
  const auto* weights = blob.array<int8_t>(h.weights, h.weight_bytes);
  const auto* steps = blob.array<StepCounts>(h.steps, safe ? panels_.size() * tap_count_ : 0);
  const auto* offsets = blob.array<int32_t>(h.offsets, h.offset_count);
  for (int64_t i = 0; i < h.offset_count; ++i)
    require_packed(offsets[i] >= 0 && offsets[i] <= 4 * (quads - 1));
  int64_t byte = 0, offset = 0;
  for (const BytePanel& panel : panels_)
    for (std::size_t tap = 0; tap < tap_count_; ++tap) {
      const int64_t step_bytes = int64_t{4} * width;
      int64_t bytes = step_bytes * quads * panel.vectors;
      taps_.push_back({weights + byte, words_ ? quads_in_order_.data() : nullptr,
                       words_ ? &all_quads_ : nullptr});
      if (safe) {
        bool right = steps->twos >= 0 && steps->ones >= 0;
        for (int v = 0; v < panel.vectors; ++v) right &= steps->apart[v] >= 0;
        require_packed(right && offset_count(*steps, panel.vectors) <= h.offset_count - offset);
        bytes = step_bytes * vector_quads(*steps, panel.vectors);
        taps_.back().offsets = offsets + offset, taps_.back().steps = steps;
        offset += offset_count(*steps++, panel.vectors);
      }
      byte += bytes;
      require_packed(byte <= h.weight_bytes);
      ends_.push_back(weights + byte);
    }
}

}  // namespace activsparse
