// Which output positions of a convolution are computed, from which taps, in which order.
//
// Positions that see the same taps form a *class*: taps that fall into the padding (or, by
// `input_mask`, on inputs known to be zero) are left out for the whole class, and a tile of a class
// needs no zero rows. Small classes are merged where a fuller tile is worth a few zero rows.
// Skipped positions are a class without taps that starts from `skipped_value` in place of the bias,
// so one loop computes and fills. The index data are 4 bytes per position, whatever the kernel.
#pragma once
#include <vector>

#include "operators/conv_params.h"

namespace activsparse {

struct RowClass {
  int32_t begin, end;       // its slice of the positions
  int32_t first_tap, taps;  // its slice of the tap list; taps rise
  int32_t inside;           // 1: every tap of every position lies inside the input
  int32_t skipped;          // 1: not computed
};

// Where the plan lies in a blob.
struct RowPlanHeader {
  uint64_t positions, classes, taps;
  int32_t position_count, class_count, tap_count;
};

struct Tile {
  const RowClass* rows_of;
  const uint32_t* positions;  // y << 16 | x
  int rows;
};

class RowPlan {
 public:
  // Empty when the plan can be built; else the reason.
  static std::string unsupported(const OpSpec& spec);
  // `fill_skipped`: whether skipped positions get a class, or are left to the caller (fill from a
  // source).
  static RowPlanHeader pack(BlobWriter& writer, const OpSpec& spec, const ConvParams& params,
                            bool fill_skipped);

  RowPlan(const BlobView& blob, const RowPlanHeader& header, const ConvParams& params);

  const std::vector<RowClass>& classes() const { return classes_; }
  const int32_t* taps_of(const RowClass& c) const { return taps_ + c.first_tap; }
  int max_taps() const { return max_taps_; }
  // Sum over computed positions of their taps (of their class): multiply-adds per input and output
  // channel.
  double computed_taps() const;
  std::size_t bytes() const { return bytes_; }

  // rows[(t - first) * tile.rows + r] = where tap t (of the class's list, first <= t < last) of row
  // r starts in `image`, or `zeros` in the padding.
  template <class T>
  void point(const Tile& tile, int first, int last, const T* image, const T* zeros,
             const T** rows) const;

  int64_t output_pixel(uint32_t position) const {
    return int64_t{position >> 16} * output_w_ + (position & 0xffff);
  }
  const uint32_t* positions() const { return positions_; }
  int position_count() const { return position_count_; }

 private:
  // Whether every tap of every position of a class is in the input.
  bool lies_inside(const RowClass& c, const ConvParams& p) const;

  int output_w_, input_h_, input_w_, position_count_;
  int stride_h_, stride_w_, pad_top_, pad_left_;
  int64_t pixel_stride_;
  const uint32_t* positions_;
  const int32_t* taps_;
  std::vector<RowClass> classes_;
  struct TapOffset {
    int y, x;
    int64_t elements;
  };
  std::vector<TapOffset> tap_offsets_;
  int max_taps_ = 0;
  std::size_t bytes_ = 0;
};

template <class T>
void RowPlan::point(const Tile& tile, int first, int last, const T* image, const T* zeros,
                    const T** rows) const {
  const int32_t* taps = taps_of(*tile.rows_of);
  const int count = tile.rows;
  for (int r = 0; r < count; ++r) {
    const int y = static_cast<int>(tile.positions[r] >> 16) * stride_h_ - pad_top_;
    const int x = static_cast<int>(tile.positions[r] & 0xffff) * stride_w_ - pad_left_;
    const int64_t origin = (int64_t{y} * input_w_ + x) * pixel_stride_;
    const T** at = rows + r;
    if (tile.rows_of->inside) {
      for (int t = first; t < last; ++t, at += count)
        *at = image + (origin + tap_offsets_[taps[t]].elements);
    } else {
      for (int t = first; t < last; ++t, at += count) {
        const TapOffset& tap = tap_offsets_[taps[t]];
        const bool inside = static_cast<unsigned>(y + tap.y) < static_cast<unsigned>(input_h_) &&
                            static_cast<unsigned>(x + tap.x) < static_cast<unsigned>(input_w_);
        *at = inside ? image + (origin + tap.elements) : zeros;
      }
    }
  }
}

// The positions of a plan cut into tiles of at most `max_rows` rows of one class, all of nearly the
// same height; the tiles of all images of a batch are counted one after the other.
class Tiling {
 public:
  // A row costs taps * per_tap + per_row: used to cut the work into equal shares.
  Tiling(const RowPlan& plan, int images, int max_rows, double per_tap, double per_row);
  // What tiles [begin, end) of all images cost.
  double cost(int64_t begin, int64_t end) const;

  // The first tile of share `share` when the work is cut into `shares`.
  int64_t first_of_share(int share, int shares) const;

  // Walks through tiles in order.
  class Walk {
   public:
    Walk(const Tiling& tiling, int64_t first) : tiling_(tiling), index_(first) {
      const int64_t tiles = tiling.first_tile_.back();
      image_ = tiles > 0 ? first / tiles : 0;
    }
    int64_t index() const { return index_; }
    int64_t image() const { return image_; }
    Tile next();

   private:
    const Tiling& tiling_;
    int64_t index_, image_;
    int class_ = 0;
  };

 private:
  const RowPlan& plan_;
  int images_;
  std::vector<int> first_tile_;
  std::vector<double> first_cost_;
};

}  // namespace activsparse
