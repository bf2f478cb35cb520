// A strip of output rows of a depthwise convolution whose inputs are given by a table of pixel
// pointers, so that they may lie anywhere: in a ring of rows, in a tensor, in the constant pixel
// that stands for padding or for skipped positions.
//
// Two forms. In *blocks*, every input is loaded once for all outputs of a block, and skipped
// positions are computed in vain, or passed over, as the kernel is. In *tiles*, kept positions of a
// strip that see the same live taps (inside the input, not known to be zero) are computed together,
// and nothing else is. The cheaper one is chosen by a model of both.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "operators/conv_params.h"

namespace activsparse {

// Output rows cut into strips of heights as equal as can be, an even number of them where there
// are several, so that two threads get the same.
struct Strips {
  int rows, count;
  int unit;  // heights are multiples of it

  // At most `most`, an even number, rows in a strip. Depthwise blocks are four rows high, or two:
  // heights are multiples of that if half of the rows is, or if that cuts the rows of all images
  // into more even shares for the threads.
  static Strips of(int rows, int most, int images, int threads) {
    const int unit = rows % 8 == 0 && most >= 4 ? 4 : rows % 4 == 0 ? 2 : 1;
    const int count = least_count(rows, most, unit);
    Strips best{rows, std::min(rows / unit, (count + 1) / 2 * 2), unit};
    if (threads == 1) return best;
    double least = 0;
    for (const int height : {4, 2, 1}) {
      if (rows % height != 0 || height > most) continue;
      const int first = least_count(rows, most, height);
      for (int strips = first; strips <= std::min(rows / height, first + 2 * threads); ++strips) {
        const Strips cut{rows, strips, height};
        const double time = cut.longest(images, threads) * (height == 1 ? 1.05 : 1.0);
        if (least == 0 || time < 0.99 * least) best = cut, least = time;
      }
    }
    return best;
  }
  // Rows of the thread that has most.
  int longest(int images, int threads) const {
    int most = 0;
    const int64_t tasks = int64_t{count} * images;
    const auto row = [&](int64_t task) {
      return static_cast<int>(task / count * rows) + first(static_cast<int>(task % count));
    };
    for (int64_t t = 0; t < threads; ++t)
      most = std::max(most, row((t + 1) * tasks / threads) - row(t * tasks / threads));
    return most;
  }
  int first(int strip) const {
    return static_cast<int>(int64_t{rows / unit} * strip / count) * unit;
  }
  static int least_count(int rows, int most, int unit) {
    most = most / unit * unit;
    return (rows + most - 1) / most;
  }
  int tallest() const {
    int most = 0;
    for (int i = 0; i < count; ++i) most = std::max(most, first(i + 1) - first(i));
    return most;
  }
};

class DepthwiseStrip {
 public:
  // What becomes of skipped positions: they take skipped_value, activated; are not written at all;
  // or hold anything.
  enum class Skipped { kValue, kNotWritten, kAnything };
  struct Layout {
    Strips strips;
    int ring_rows, channels;
    Skipped skipped;
  };
  // Offsets in the blob of (taps, channels), (channels), (channels).
  struct Arrays {
    uint64_t weights, bias, skipped_value;
  };

  // Empty when the convolution can be run; else the reason.
  static std::string unsupported(const OpSpec& spec);

  // `live`: input positions that may differ from zero; `kept`: outputs to compute.
  DepthwiseStrip(const BlobView& blob, const ConvParams& params, const Kernels& kernels,
                 const Layout& layout, const std::vector<uint8_t>& live,
                 const std::vector<uint8_t>& kept, const Arrays& arrays);

  // Columns of the table: an output at x reads columns x * stride .. x * stride + kernel - 1.
  int table_width() const { return (params_.output.w - 1) * params_.stride_w + params_.kernel_w; }
  std::size_t scratch_bytes() const;
  std::size_t index_bytes() const;
  double macs() const;  // of one image
  // The input positions that kept outputs read.
  static std::vector<uint8_t> read(const ConvParams& params, const std::vector<uint8_t>& kept);
  // Whether it writes to skipped positions, whatever the layout asks for.
  bool writes_skipped() const { return blocks_ && !all_kept_ && !blocks_skip(); }

  // The output rows of a strip, to `out` with `stride` floats between pixels. Where skipped
  // positions are not written, the stride is layout.channels and one pixel beyond the tallest
  // strip's is. Input row y is row y % ring_rows of `table`; rows outside of the input are
  // `zero_row`.
  void run(int strip, const float* const* table, const float* const* zero_row, float* out,
           int64_t stride, uint8_t* scratch) const;

 private:
  struct Tile {
    uint32_t taps;  // bit t: tap t is live
    int32_t first, rows;
    int32_t skipped;
  };
  struct Position {
    uint16_t row, x;  // row: within the strip
  };

  void make_places();
  void make_tiles(const std::vector<uint8_t>& live);
  bool blocks_skip() const;
  int64_t kept_count() const;
  double blocks_cost() const;
  double tile_cost() const;
  void run_blocks(int y0, int height, const float* const** lines, float* out, int64_t stride) const;
  void run_tiles(int strip, const float* const** lines, float* out, int64_t stride,
                 uint8_t* scratch) const;
  bool whole_vectors() const;
  int most_lines() const {
    return (layout_.strips.tallest() - 1) * params_.stride_h + params_.kernel_h;
  }
  int vectors() const { return std::max(layout_.channels / kernels_.width, 1); }

  const ConvParams& params_;
  const Kernels& kernels_;
  Layout layout_;
  std::vector<uint8_t> kept_;
  bool blocks_, all_kept_;
  std::vector<Tile> tiles_;
  std::vector<int32_t> first_tile_;  // of each strip, and the end
  std::vector<Position> positions_;
  std::vector<int32_t> places_;  // of every output within its strip, where blocks leave some out
  const float *weights_, *bias_, *skipped_value_;
};

}  // namespace activsparse
