// Depthwise convolution in blocks of neighbouring positions, each input of a block read once where
// the kernel is 3x3 or 5x5, and once for all rows of a block where it is another. Skipped positions
// of a block are replaced in registers. Some kernels do not compute them either; with the others a
// mask saves no work, and costs next to none, and where many are skipped, conv_depthwise.cpp is
// faster.
#include <algorithm>

#include "kernels/kernels.h"
#include "kernels/vector_sizes.h"
#include "operators/depthwise_weights.h"
#include "operators/even_parts.h"
#include "operators/source_fill.h"

namespace activsparse::conv_depthwise_block {
namespace {

constexpr int kMinTasks = 240;  // even shares for up to 24 threads
constexpr int kMinBlocks = 4;   // of an image: something to do for that many threads

// Channels of a part of a block: whole cache lines.
constexpr int kPartChannels = 16;

struct Header {
  ConvParams params;
  SourceFillHeader fill;
  int32_t padded_channels, has_mask;
  int32_t parts;  // of a block's channels, each a piece of work
  uint64_t weights, bias, skipped_value, zeros, mask;
};

// Of the kernels that have blocks of their own.
bool has_own(int64_t kernel_h, int64_t kernel_w, int64_t stride_h, int64_t stride_w) {
  return kernel_h == kernel_w && (kernel_h == 3 || kernel_h == 5) && stride_h == stride_w;
}

const DepthwiseBlocks& blocks_of(const Kernels& kernels, const ConvParams& p) {
  const DepthwiseBlockKernels& blocks = kernels.depthwise_block_f32;
  return has_own(p.kernel_h, p.kernel_w, p.stride_h, p.stride_w) ? blocks.at(p.kernel_h, p.stride_h)
                                                                 : blocks.any;
}

class ConvDepthwiseBlock : public ConvOperator {
 public:
  ConvDepthwiseBlock(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob)),
        kernels_(kernels_for(isa)),
        fill_(blob, h_.fill, h_.params.output) {
    const ConvParams& p = h_.params;
    require_packed(is_depthwise(p) && h_.padded_channels >= p.output.c &&
                   h_.padded_channels % kernels_.width == 0 && p.stride_h <= 2 && p.stride_w <= 2 &&
                   p.dilation_h == 1 && p.dilation_w == 1 && p.kernel_h <= kMaxAnyKernel &&
                   p.kernel_w <= kMaxAnyKernel);
    weights_ = blob.array<float>(h_.weights, int64_t{p.taps()} * h_.padded_channels);
    bias_ = blob.array<float>(h_.bias, h_.padded_channels);
    skipped_value_ = blob.array<float>(h_.skipped_value, h_.padded_channels);
    zeros_ = blob.array<float>(h_.zeros, h_.padded_channels);
    if (h_.has_mask) mask_ = blob.array<uint8_t>(h_.mask, int64_t{p.output.h} * p.output.w);
    const DepthwiseBlocks& blocks = blocks_of(kernels_, p);
    require_packed(blocks.rows > 0);
    any_ = blocks.form == DepthwiseForm::kAny;
    blocks_y_ = (p.output.h + blocks.rows - 1) / blocks.rows;
    blocks_x_ = (p.output.w + blocks.columns - 1) / blocks.columns;
    if (int64_t{blocks_y_} * blocks_x_ < kMinBlocks)
      blocks_x_ = std::min(p.output.w, kMinBlocks / blocks_y_);
    require_packed(h_.parts >= 1 && h_.parts <= std::max(1, p.output.c / kPartChannels));
    whole_vectors_ = p.input.padded && p.output.padded && (!p.has_residual || p.residual.padded);
  }

  const ConvParams& params() const override { return h_.params; }
  int phases() const override { return fill_.empty() || skips() ? 1 : 2; }
  int tasks(int phase) const override { return phase == 0 ? kMinTasks : SourceFill::kTasks; }
  std::size_t scratch_bytes() const override {
    const ConvParams& p = h_.params;
    const int rows = (p.output.h + blocks_y_ - 1) / blocks_y_;
    const int columns = (p.output.w + blocks_x_ - 1) / blocks_x_;
    return sizeof(float*) * ((rows - 1) * p.stride_h + p.kernel_h) *
           ((columns - 1) * p.stride_w + p.kernel_w);
  }
  std::size_t index_bytes() const override {
    return fill_.bytes() + (h_.has_mask ? int64_t{h_.params.output.h} * h_.params.output.w : 0);
  }
  double cost(int phase, int begin, int end) const override {
    if (phase > 0) return ConvOperator::cost(phase, begin, end);
    const int64_t all = pieces();
    return macs() * double(all * end / kMinTasks - all * begin / kMinTasks) / double(all);
  }
  Constants constants() const override {
    return {weights_, int64_t{h_.params.taps()} * h_.padded_channels};
  }
  double macs() const override {
    const ConvParams& p = h_.params;
    const int64_t image = int64_t{p.output.h} * p.output.w;
    const int64_t kept = mask_ && skips() ? image - std::count(mask_, mask_ + image, 0) : image;
    return double(p.output.n) * double(kept) * p.taps() * p.output.c;
  }
  std::string kernel() const override {
    const TensorDesc& out = h_.params.output;
    return std::string(kernels_.isa) + " " + std::to_string((out.h + blocks_y_ - 1) / blocks_y_) +
           "x" + std::to_string((out.w + blocks_x_ - 1) / blocks_x_) + "x" +
           std::to_string(kernels_.width);
  }

  void run(const RunArgs& run, int phase, int begin, int end) const override {
    if (phase == 0)
      run_blocks(run, begin, end);
    else
      fill_.run(run.out(0), begin, end);
  }

 private:
  // Other kernels store anything to skipped positions, perhaps after another block has filled them.
  bool skips() const { return blocks_of(kernels_, h_.params).skips(); }

  int64_t pieces() const { return int64_t{h_.params.output.n} * blocks_y_ * blocks_x_ * h_.parts; }

  // Where part `i` of `size` begins that is cut into `parts`.
  static int part_begin(int size, int64_t i, int parts) {
    return static_cast<int>(size * i / parts);
  }

  void run_blocks(const RunArgs& run, int begin, int end) const {
    const ConvParams& p = h_.params;
    const float** pixels = reinterpret_cast<const float**>(run.scratch);
    const float* const* lines[kMaxAnyLines];
    DepthwiseBlockArgs args{};
    args.lines = lines;
    args.weight_stride = h_.padded_channels;
    args.kernel_h = p.kernel_h, args.kernel_w = p.kernel_w;
    args.stride_h = p.stride_h, args.stride_w = p.stride_w;
    args.out_row = int64_t{p.output.w} * p.output.stride;
    args.out_column = p.output.stride;
    args.residual_row = int64_t{p.output.w} * p.residual.stride;
    args.residual_column = p.residual.stride;
    args.mask_row = p.output.w;
    args.epilogue = &p.epilogue;
    args.whole_vectors = whole_vectors_;
    const auto& kernels = blocks_of(kernels_, p).block;
    const int64_t pieces = this->pieces();
    for (int64_t piece = pieces * begin / kMinTasks; piece < pieces * end / kMinTasks; ++piece) {
      const int64_t i = piece / h_.parts;
      const int first_channel = channel(piece % h_.parts);
      args.channels = channel(piece % h_.parts + 1) - first_channel;
      args.weights = weights_ + int64_t{first_channel} * (any_ ? p.taps() : 1);
      args.start = bias_ + first_channel;
      args.skipped = fill_.empty() ? skipped_value_ + first_channel : nullptr;
      const int64_t row = i / blocks_x_, image = row / blocks_y_;
      const int64_t by = row % blocks_y_, bx = i % blocks_x_;
      const int y = part_begin(p.output.h, by, blocks_y_);
      const int x = part_begin(p.output.w, bx, blocks_x_);
      const int height = part_begin(p.output.h, by + 1, blocks_y_) - y;
      const int width = part_begin(p.output.w, bx + 1, blocks_x_) - x;
      point_inputs(run.in(0) + image * p.input.h * p.input.w * p.input.stride + first_channel, y, x,
                   height, width, pixels, lines);
      const int64_t first = (image * p.output.h + y) * p.output.w + x;
      args.out = run.out(0) + first * p.output.stride + first_channel;
      if (p.has_residual) args.residual = run.in(1) + first * p.residual.stride + first_channel;
      if (mask_) args.keep = mask_ + int64_t{y} * p.output.w + x;
      args.columns = width;
      kernels[height - 1](args);
      if (fill_.empty() || !skips()) continue;
      float* to = run.out(0) + image * p.output.h * p.output.w * p.output.stride;
      for (int64_t at = int64_t{y} * p.output.w + x; at < (int64_t{y} + height) * p.output.w;
           at += p.output.w)
        fill_.copy_from(to, at, at + width, first_channel, args.channels);
    }
  }

  // Where a part begins, in channels.
  int channel(int64_t part) const {
    const int channels = h_.params.output.c;
    if (part == h_.parts) return channels;
    return part_begin((channels + kPartChannels - 1) / kPartChannels, part, h_.parts) *
           kPartChannels;
  }

  void point_inputs(const float* image, int y, int x, int height, int width, const float** pixels,
                    const float* const** lines) const {
    const ConvParams& p = h_.params;
    const int rows = (height - 1) * p.stride_h + p.kernel_h;
    const int columns = (width - 1) * p.stride_w + p.kernel_w;
    const int iy = y * p.stride_h - p.pad_top, ix = x * p.stride_w - p.pad_left;
    const int64_t stride = p.input.stride;
    const bool inside = iy >= 0 && ix >= 0 && iy + rows <= p.input.h && ix + columns <= p.input.w;
    for (int r = 0; r < rows; ++r) {
      *lines++ = pixels;
      const float* at = image + ((int64_t{iy} + r) * p.input.w + ix) * stride;
      if (inside) {
        for (int c = 0; c < columns; ++c, at += stride) *pixels++ = at;
        continue;
      }
      const bool row_inside = iy + r >= 0 && iy + r < p.input.h;
      for (int c = 0; c < columns; ++c, at += stride)
        *pixels++ = row_inside && ix + c >= 0 && ix + c < p.input.w ? at : zeros_;
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  SourceFill fill_;
  int blocks_y_, blocks_x_, whole_vectors_, any_;
  const float *weights_, *bias_, *skipped_value_, *zeros_;
  const uint8_t* mask_ = nullptr;
};

Blob pack(const OpSpec& spec, Isa isa) {
  const int width = kernels_for(isa).width;
  Header h{};
  h.params = conv_params_of(spec);
  const ConvParams& p = h.params;
  h.padded_channels = (p.output.c + width - 1) / width * width;
  BlobWriter writer;
  writer.append<Header>(1);
  const DepthwiseBlocks& blocks = blocks_of(kernels_for(isa), p);
  h.weights = blocks.form == DepthwiseForm::kAny
                  ? pack_depthwise_vectors(writer, spec, p, h.padded_channels, width)
                  : pack_depthwise_weights(writer, spec, p, h.padded_channels);
  h.bias = pack_channels(writer, spec.float_array("bias"), p, h.padded_channels);
  h.skipped_value = pack_channels(writer, spec.float_array("skipped_value"), p, h.padded_channels);
  h.zeros = pack_channels(writer, nullptr, p, h.padded_channels);
  h.fill = SourceFill::pack(writer, spec);
  const int64_t blocks_y = (p.output.h + blocks.rows - 1) / blocks.rows;
  const int64_t blocks_x = (p.output.w + blocks.columns - 1) / blocks.columns;
  h.parts = even_parts(p.output.n * std::max<int64_t>(blocks_y * blocks_x, kMinBlocks),
                       std::max(1, p.output.c / kPartChannels), spec.threads);
  if (const ArrayView* mask = spec.array("mask")) {
    h.has_mask = 1;
    h.mask = writer.append(static_cast<const uint8_t*>(mask->data), mask->size());
  }
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa) {
  const ArrayView* weight = spec.array("weight");
  const int64_t group = spec.int_or("group", 1);
  if (spec.inputs[0].nchw || spec.outputs[0].nchw) return "input or output is NCHW";
  if (spec.inputs[0].c != group || spec.outputs[0].c != group) return "it is not depthwise";
  if (weight == nullptr || weight->shape.size() != 4) return "it has no weight";
  const int64_t stride_h = spec.int_or("stride_h", 1), stride_w = spec.int_or("stride_w", 1);
  if (stride_h > 2 || stride_w > 2) return "a stride is neither 1 nor 2";
  const int64_t kernel_h = weight->shape[2], kernel_w = weight->shape[3];
  if (kernel_h > kMaxAnyKernel || kernel_w > kMaxAnyKernel) return "the kernel is too large";
  if (kCompact && !(kernel_h == 3 && has_own(kernel_h, kernel_w, stride_h, stride_w)))
    return "this small library has blocks of 3x3 only";
  if (spec.int_or("dilation_h", 1) != 1 || spec.int_or("dilation_w", 1) != 1)
    return "it is dilated";
  return "";
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv", "depthwise_block", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvDepthwiseBlock>(blob, isa);
           }}};
}

}  // namespace activsparse::conv_depthwise_block
