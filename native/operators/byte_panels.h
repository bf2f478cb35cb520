// int8 weights of a matrix product, packed for the register tiles of kernels/product_u8.h.
//
// Output channels of each group are cut into panels of up to TileSizes::usual_vectors vectors, as
// even as possible, as in panels.h. A panel's weights are, tap by tap, steps of (vectors * width,
// 4): one for each quad of input channels, or, where a processor needs safe pairs, what
// safe_steps.h makes of them, unless products of 16-bit numbers are estimated to take less time.
//
// Kernels may lower activations before they multiply them, in odd steps by less (`lowered` in
// kernels/bytes.h): of sums of weights, those of odd steps are kept as well then.
#pragma once
#include <algorithm>
#include <vector>

#include "kernels/kernels.h"
#include "operators/conv_params.h"

namespace activsparse {

constexpr bool needs_odd_sums(Isa isa) { return isa == Isa::kNeon; }

// How many channels before its first one a group is read from, so that its last quad ends within
// the pixel's groups of 16. Weights of what lies before and behind are zero.
inline int channels_before(const ConvParams& p, int group) {
  if (p.group == 1) return 0;
  const int64_t end = int64_t{group} * p.in_per_group + (p.in_per_group + 3) / 4 * 4;
  const int64_t pixel = std::min<int64_t>(p.input.stride, (int64_t{p.input.c} + 15) / 16 * 16);
  return static_cast<int>(std::max<int64_t>(0, end - pixel));
}

// Elements of a row, of all taps, channels rounded up to whole quads.
int64_t words_of(const ConvParams& p);

struct BytePanel {
  int32_t first, columns;  // output channels, counted over all groups
  int32_t vectors, group;
  int64_t lanes;  // lanes of the panels before this one
};

struct BytePanelsHeader {
  uint64_t weights, steps, offsets;
  int64_t weight_bytes, offset_count;
  int32_t words;  // 1: as they are, though a processor that needs safe pairs is meant (words_u8.h)
};

class BytePanels {
 public:
  // Of an operator's weight (O, I/group, KH, KW).
  static BytePanelsHeader pack(BlobWriter& writer, const ConvParams& params, const int8_t* weight,
                               Isa isa);
  BytePanels(const BlobView& blob, const BytePanelsHeader& header, const ConvParams& params,
             Isa isa);
  BytePanels(const BytePanels&) = delete;  // taps point to members

  const std::vector<BytePanel>& all() const { return panels_; }
  int64_t lanes() const { return lanes_; }  // of all panels, as per-channel arrays are laid out
  // Of a tap of a panel.
  const int8_t* weights(std::size_t panel, int tap) const { return at(panel, tap).weights; }
  const int32_t* offsets(std::size_t panel, int tap) const { return at(panel, tap).offsets; }
  const StepCounts* steps(std::size_t panel, int tap) const { return at(panel, tap).steps; }

  // Whether they are as WordsU8Kernels::widen_weights takes them. Offsets and steps are there too.
  bool words() const { return words_; }

  // Where a panel's weights end, those of all panels lying one after the other.
  const int8_t* weights_end(std::size_t panel) const { return ends_[(panel + 1) * tap_count_ - 1]; }
  int64_t all_weights_bytes() const {
    return panels_.empty() ? 0 : weights_end(panels_.size() - 1) - weights(0, 0);
  }

  static std::vector<BytePanel> cut(const ConvParams& params, Isa isa);

 private:
  struct Tap {
    const int8_t* weights;
    const int32_t* offsets;
    const StepCounts* steps;  // these two where pairs have to be safe
  };
  const Tap& at(std::size_t panel, int tap) const { return taps_[panel * tap_count_ + tap]; }

  std::vector<BytePanel> panels_;
  std::size_t tap_count_;
  bool words_;
  StepCounts all_quads_{};  // of a tap of words
  std::vector<int32_t> quads_in_order_;
  int64_t lanes_ = 0;
  std::vector<Tap> taps_;            // (panels, taps)
  std::vector<const int8_t*> ends_;  // of their weights
};

// Lanes of all panels.
inline int64_t lanes_of(const std::vector<BytePanel>& panels, int width) {
  return panels.empty() ? 0 : panels.back().lanes + int64_t{panels.back().vectors} * width;
}

}  // namespace activsparse
