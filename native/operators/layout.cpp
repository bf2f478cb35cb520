// to_nhwc and to_nchw: the transposition between (C, H*W) planes and (H*W, C) pixels.
#include "operators/simple.h"

namespace activsparse::layout {
namespace {

struct Header {
  TensorDesc input, output;
};

// Both directions walk tiles of positions by channels and read runs of several cache lines, while
// the lines they write are finished before they leave the first-level cache: a tile of to_nhwc
// reads a few planes and writes one line of each pixel, one of to_nchw reads whole pixels and
// writes one line of each plane. Tiles of 64 x 16 made to_nchw a quarter slower, tiles of 16 x all
// to_nhwc.
template <bool to_nhwc>
class Layout : public Operator {
 public:
  Layout(const BlobView& blob, const Kernels& kernels)
      : h_(unary_header<Header>(blob)), kernels_(kernels) {
    require_packed(same_shape(h_.input, h_.output) && h_.input.nchw == to_nhwc &&
                   h_.output.nchw != to_nhwc);
    positions_ = int64_t{h_.input.h} * h_.input.w;
    tiles_per_task_ = std::max<int64_t>(1, pixels_per_task(h_.input.c) / kPositions);
    tasks_per_image_ = divide_up(positions_, kPositions * tiles_per_task_);
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override { return static_cast<int>(h_.input.n * tasks_per_image_); }
  std::string kernel() const override { return kernels_.isa; }

  void run(const RunArgs& args, int, int begin, int end) const override {
    const TensorDesc& pixels = to_nhwc ? h_.output : h_.input;
    for (int task = begin; task < end; ++task) {
      const int64_t image = task / tasks_per_image_;
      const int64_t first = task % tasks_per_image_ * tiles_per_task_ * kPositions;
      const int64_t last = std::min(positions_, first + tiles_per_task_ * kPositions);
      const int64_t plane = image * h_.input.c * positions_,
                    pixel = image * positions_ * pixels.stride;
      for (int64_t p = first; p < last; p += kPositions) {
        const int64_t count = std::min(kPositions, last - p);
        for (int64_t c = 0; c < h_.input.c; c += kChannels) {
          const int64_t channels = std::min<int64_t>(kChannels, h_.input.c - c);
          const int64_t planes = plane + c * positions_ + p;
          const int64_t rows = pixel + p * pixels.stride + c;
          if (to_nhwc)
            kernels_.transpose_f32.run(args.in(0) + planes, positions_, channels, count,
                                       args.out(0) + rows, pixels.stride);
          else
            kernels_.transpose_f32.run(args.in(0) + rows, pixels.stride, count, channels,
                                       args.out(0) + planes, positions_);
        }
      }
    }
  }

 private:
  static constexpr int64_t kPositions = to_nhwc ? 64 : 16;
  static constexpr int64_t kChannels = to_nhwc ? 16 : INT32_MAX;

  const Header& h_;
  const Kernels& kernels_;
  int64_t positions_, tiles_per_task_, tasks_per_image_;
};

Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  require(spec, same_shape(spec.inputs[0], spec.outputs[0]), "input and output differ in shape");
  return pack_header(Header{spec.inputs[0], spec.outputs[0]});
}

template <bool to_nhwc>
std::string wrong_layout(const OpSpec& spec, Isa) {
  for (const TensorDesc& t : spec.inputs)
    if ((t.nchw != 0) != to_nhwc) return to_nhwc ? "the input is not NCHW" : "the input is NCHW";
  for (const TensorDesc& t : spec.outputs)
    if ((t.nchw != 0) == to_nhwc) return to_nhwc ? "the output is NCHW" : "the output is not NCHW";
  return "";
}

}  // namespace

std::vector<OperatorType> types() {
  std::vector<OperatorType> all = simple_types<Layout<true>>("to_nhwc", pack, wrong_layout<true>);
  for (const OperatorType& type : simple_types<Layout<false>>("to_nchw", pack, wrong_layout<false>))
    all.push_back(type);
  return all;
}

}  // namespace activsparse::layout
