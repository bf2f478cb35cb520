// Depthwise convolution of uint8 by int8, by columns (kernels/depthwise_u8.h): a line's pixels are
// interleaved four columns at a time, once for all outputs that see them.
//
// `outputs` neighbouring columns share their quads: as many as have all their taps in one, or,
// where a kernel is wider than a quad, those that start in it. Each of these has weights of its
// own, moved by its distance from the quad's first column. A row is cut into strips and channels
// into groups, so that the lines that a kernel spans stay in the first-level cache. Of skipped
// positions nothing is computed; pixels outside hold the zero point. Threads share rows, and parts
// of the channels where rows are too few.
#include <algorithm>
#include <cstring>

#include "operators/conv_params.h"
#include "operators/even_parts.h"
#include "operators/finish_u8.h"
#include "operators/live_input.h"
#include "operators/locate.h"
#include "operators/lowered_start.h"
#include "operators/source_fill.h"

namespace activsparse::depthwise_columns_u8 {
namespace {

constexpr int kQuad = 4;
constexpr int kMostKernel = 15;
constexpr int kMostOutputs = 64;            // columns of a strip
constexpr int64_t kLineBytes = 24 * 1024;   // of all lines: half of a first-level cache
constexpr int64_t kBlockBytes = 28 * 1024;  // of lines and weights
// Of the longest share over the mean: rows of 7 and 14 are as even as that for 8 and 16 threads.
constexpr double kEven = 1.15;

// How columns are shared.
struct Sharing {
  int outputs, step, quads;  // columns that share quads, input columns to the next such, quads each

  explicit Sharing(const ConvParams& p) {
    outputs = p.kernel_w <= kQuad ? (kQuad - p.kernel_w) / p.stride_w + 1 : kQuad / p.stride_w;
    step = outputs * p.stride_w;
    quads = (p.stride_w * (outputs - 1) + p.kernel_w + kQuad - 1) / kQuad;
  }
};

struct Header {
  ConvParams params;
  SourceFillHeader fill;
  LiveInputHeader live;
  FinishU8 finish;
  int32_t input_zero, kept, skipped;
  int32_t threads;  // that the work is cut for
  uint64_t weights, start, scale, shift, zeros, positions;
};

const char* fault_of_columns(const ConvParams& p) {
  if (!is_depthwise(p)) return "not a depthwise convolution";
  if (p.has_residual) return "a residual is added";
  if (p.output.dtype != DType::kU8) return "the output is float32";
  if (p.input.stride % 16 != 0 || p.output.stride % 16 != 0 || !p.output.padded)
    return "pixels are no whole groups of 16 channels";
  if (p.stride_w != 1 && p.stride_w != 2) return "its stride is neither 1 nor 2";
  if (p.dilation_w != 1 || p.dilation_h != 1) return "its taps are no neighbours";
  if (p.kernel_w == 1 || p.kernel_w > kMostKernel || p.kernel_h > kMostKernel)
    return "no kernel of 2 to 15 columns";
  return nullptr;
}

void check(const Header& h) {
  const ConvParams& p = h.params;
  require_packed(fault_of(p, DType::kU8) == nullptr && fault_of_columns(p) == nullptr);
  for (const TensorDesc* t : {&p.input, &p.output})
    require_packed(t->dtype == DType::kU8 && !t->nchw);
  require_packed(h.finish, p.output, false);
  require_packed(h.input_zero >= 0 && h.input_zero <= 255);
  require_packed(h.threads >= 1 && h.threads <= kMostThreads);
}

const Header& checked(const BlobView& blob) {
  const Header& h = blob.header<Header>();
  check(h);
  return h;
}

int block_of(const Kernels& kernels) { return 4 * kernels.product_u8.sizes.width; }

int64_t blocks_of(const ConvParams& p, const Kernels& kernels) {
  return (p.output.c + block_of(kernels) - 1) / block_of(kernels);
}

class DepthwiseColumns : public ConvOperator {
 public:
  DepthwiseColumns(const BlobView& blob, Isa isa)
      : h_(checked(blob)),
        kernels_(kernels_for(isa)),
        feature_(feature_of(isa)),
        sharing_(h_.params),
        fill_(blob, h_.fill, h_.params.output) {
    const ConvParams& p = h_.params;
    const int64_t blocks = blocks_of(p, kernels_), lanes = blocks * block_of(kernels_);
    steps_ = p.kernel_h * sharing_.quads;
    const int64_t weight_count = lanes * kQuad * steps_ * sharing_.outputs;
    const auto* packed = blob.array<int8_t>(h_.weights, weight_count);
    set_weights(packed, weight_count);
    start_ = lowered_start(blob.array<int32_t>(h_.start, lanes), packed, lanes, block_of(kernels_),
                           steps_, sharing_.outputs, kernels_.maps_u8.lowered, lowered_);
    scale_ = blob.array<float>(h_.scale, lanes);
    shift_ = blob.array<float>(h_.shift, lanes);
    zeros_ = blob.array<uint8_t>(h_.zeros, p.input.stride);
    live_ = live_input(blob, h_.live, p);
    const int64_t count = int64_t{p.output.h} * p.output.w;
    require_packed(h_.kept >= 0 && h_.skipped >= 0 && h_.kept + int64_t{h_.skipped} <= count);
    positions_ = blob.array<int32_t>(h_.positions, int64_t{h_.kept} + h_.skipped);
    for (int64_t i = 0; i < int64_t{h_.kept} + h_.skipped; ++i)
      require_packed(positions_[i] >= 0 && positions_[i] < count &&
                     (i == 0 || i == h_.kept || positions_[i] > positions_[i - 1]));
    all_kept_ = h_.kept == count;
    if (h_.threads > 1)
      parts_ = 1 + first_even(static_cast<int>(blocks), h_.threads, kEven,
                              [&](int i) { return int64_t{p.output.n} * p.output.h * (i + 1); });
    cut(static_cast<int>(blocks));
    for (int x = 0; x < p.output.w; x += strip_) list_outputs(x);
  }

  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return h_.params.output.n * parts_ * h_.params.output.h; }
  double cost(int, int begin, int end) const override {
    double blocks = 0;  // times rows
    each_run(begin, end, [&](int64_t, int part, int first, int last) {
      blocks += double(last - first) * (first_block(part + 1) - first_block(part));
    });
    return macs() * blocks /
           (double(first_block(parts_)) * h_.params.output.h * h_.params.output.n);
  }
  std::size_t scratch_bytes() const override {
    return h_.params.kernel_h * line_bytes() +
           (strip_ * h_.params.stride_w + 8 * kQuad + kMostKernel) * sizeof(void*) +
           kMostOutputs * sizeof(int32_t);
  }
  std::size_t index_bytes() const override {
    return (h_.kept + std::size_t{1} * h_.skipped) * sizeof(int32_t) + fill_.bytes();
  }
  double macs() const override {
    return double{1} * h_.kept * h_.params.taps() * h_.params.output.c * h_.params.output.n;
  }
  std::string kernel() const override {
    return std::string(kernels_.isa) + (*feature_ ? "-" : "") + feature_ + " int8 " +
           std::to_string(sharing_.outputs) + "x" + std::to_string(block_of(kernels_));
  }

  void run(const RunArgs& run, int, int begin, int end) const override {
    const ConvParams& p = h_.params;
    each_run(begin, end, [&](int64_t image, int part, int first, int last) {
      const uint8_t* in = run.in<uint8_t>(0) + image * p.input.h * p.input.w * p.input.stride;
      uint8_t* out = run.out<uint8_t>(0) + image * p.output.h * p.output.w * p.output.stride;
      const int end_block = first_block(part + 1);
      for (int x = 0; x < p.output.w; x += strip_)
        for (int block = first_block(part); block < end_block; block += group_)
          run_part(run.scratch, in, out, block, std::min(block + group_, end_block), x, first,
                   last);
      const int channel = first_block(part) * block_of(kernels_);
      const int channels = std::min(p.output.c, end_block * block_of(kernels_)) - channel;
      if (!fill_.empty())
        fill_.copy_from(out, int64_t{first} * p.output.w, int64_t{last} * p.output.w, channel,
                        channels);
    });
  }

 private:
  // Calls body(image, part, first row, last row) for what tasks [begin, end) are: rows of a part.
  template <class Body>
  void each_run(int begin, int end, const Body& body) const {
    const int rows = h_.params.output.h;
    for (int stop; begin < end; begin = stop) {
      const int at = begin / rows, first = begin % rows;
      stop = std::min(end, (at + 1) * rows);
      body(at / parts_, at % parts_, first, first + stop - begin);
    }
  }
  int first_block(int part) const {
    return static_cast<int>(blocks_of(h_.params, kernels_) * part / parts_);
  }

  // Weights as the kernels want them, which depends on what the processor has.
  void set_weights(const int8_t* packed, int64_t count) {
    const int width = kernels_.product_u8.sizes.width;
    const bool words = kernels_.maps_u8.taps_bytes != 16 * width;
    weights_ = reinterpret_cast<const uint8_t*>(packed);
    block_bytes_ = int64_t{1} * kernels_.maps_u8.taps_bytes * steps_ * sharing_.outputs;
    if (!words) return;
    words_.resize(count);
    for (int64_t vector = 0; vector < count; vector += kQuad * width)
      for (int64_t i = 0; i < kQuad * width; ++i)
        words_[vector + (i % 2 == 0 ? i / 2 : 2 * width + i / 2)] = packed[vector + i];
    weights_ = reinterpret_cast<const uint8_t*>(words_.data());
  }

  // Strips and groups whose lines fit the cache: long strips first, then all channels of a pixel.
  void cut(int blocks) {
    const int64_t bytes = kernels_.maps_u8.taps_bytes * int64_t{h_.params.kernel_h};
    const int most = std::min(h_.params.output.w, kMostOutputs / 2);
    const int64_t quads = (most + sharing_.outputs - 1) / sharing_.outputs + sharing_.quads - 1;
    // Pieces of a pixel that end within a cache line cost those lines twice.
    const bool cuts_lines = block_of(kernels_) % 64 != 0 || h_.params.output.stride % 64 != 0;
    const int64_t wanted = cuts_lines ? std::min(blocks, 4) : 1;
    const int64_t room = std::max<int64_t>(1, kLineBytes / (bytes * wanted));
    const int64_t shared = std::max<int64_t>(1, std::min(quads, room) - sharing_.quads + 1);
    strip_ = static_cast<int>(std::min<int64_t>(most, shared * sharing_.outputs));
    const int pieces = (h_.params.output.w + strip_ - 1) / strip_;
    strip_ = (h_.params.output.w + pieces - 1) / pieces;
    strip_ = (strip_ + sharing_.outputs - 1) / sharing_.outputs * sharing_.outputs;
    const int64_t weights = int64_t{1} * kernels_.maps_u8.taps_bytes * steps_ * sharing_.outputs;
    group_ = static_cast<int>(std::clamp<int64_t>(kBlockBytes / (bytes * strip_quads() + weights),
                                                  1, std::max(1, blocks)));
  }

  int strip_quads() const { return strip_ / sharing_.outputs + sharing_.quads - 1; }
  int64_t line_bytes() const {
    return int64_t{1} * strip_quads() * group_ * kernels_.maps_u8.taps_bytes;
  }

  // Rows [first, last) of a strip that begins in column x, of the group of blocks [block, end).
  void run_part(uint8_t* scratch, const uint8_t* in, uint8_t* out, int block, int end, int x,
                int first, int last) const {
    const ConvParams& p = h_.params;
    const int width = std::min(strip_, p.output.w - x), channel = block * block_of(kernels_);
    const int channels =
        std::min((p.output.c + 15) / 16 * 16 - channel, (end - block) * block_of(kernels_));
    const int blocks = (channels + block_of(kernels_) - 1) / block_of(kernels_);
    const int shared = (width + sharing_.outputs - 1) / sharing_.outputs;
    InterleaveU8Args lines{};
    DepthwiseColumnsU8Args args{};
    uint8_t* const buffer = scratch;
    scratch += p.kernel_h * line_bytes();
    auto** pixels = reinterpret_cast<const uint8_t**>(scratch);
    scratch += (strip_ * p.stride_w + 8 * kQuad) * sizeof(void*);
    auto** line_at = reinterpret_cast<const uint8_t**>(scratch);
    scratch += kMostKernel * sizeof(void*);
    auto* quad_at = reinterpret_cast<int32_t*>(scratch);
    lines.pixels = pixels, lines.step = sharing_.step;
    lines.quads = shared + sharing_.quads - 1;
    lines.channels = channels;
    args.lines = line_at, args.line_count = p.kernel_h, args.quads = sharing_.quads;
    args.quad_bytes = int64_t{blocks} * kernels_.maps_u8.taps_bytes;
    args.quad_at = quad_at;
    args.weights = weights_ + block * block_bytes_, args.block_bytes = block_bytes_;
    args.start = start_ + channel, args.scale = scale_ + channel, args.shift = shift_ + channel;
    args.out_step = p.output.stride, args.channels = channels, args.finish = &h_.finish;
    const int input_x = x * p.stride_w - p.pad_left;
    const int input_columns = (lines.quads - 1) * sharing_.step + kQuad;
    int64_t done = INT64_MIN;  // lines before this one are interleaved
    for (int y = first; y < last; ++y) {
      const Listed& row = rows_[x / strip_ * listed_rows() + (all_kept_ ? 0 : y)];
      args.out = out + (int64_t{y} * p.output.w + x) * p.output.stride + channel;
      for (int i = row.kept; i < row.end; ++i)
        fill_bytes(args.out + columns_[i] * args.out_step, h_.finish.zero, channels);
      args.outputs = row.kept - row.first;
      if (args.outputs == 0) continue;
      args.weight_at = weights_of_.data() + row.first, args.column = columns_.data() + row.first;
      for (int i = 0; i < args.outputs; ++i)
        quad_at[i] = quads_[row.first + i] * static_cast<int32_t>(args.quad_bytes);
      const int top = y * p.stride_h - p.pad_top;
      for (int line = 0; line < p.kernel_h; ++line) {
        // In a ring: two lines of a kernel never meet in one place.
        const int input_y = top + line;
        uint8_t* at = buffer + (input_y % p.kernel_h + p.kernel_h) % p.kernel_h * line_bytes();
        line_at[line] = at;
        if (input_y < done) continue;
        const uint8_t* row = in + int64_t{input_y} * p.input.w * p.input.stride + channel;
        const bool inside = input_y >= 0 && input_y < p.input.h;
        const int from = inside ? std::clamp(-input_x, 0, input_columns) : input_columns;
        const int to = inside ? std::clamp(p.input.w - input_x, from, input_columns) : from;
        std::fill(pixels, pixels + from, zeros_ + channel);
        locate_all(pixels + from, row + int64_t{input_x + from} * p.input.stride, to - from,
                   p.input.stride);
        std::fill(pixels + to, pixels + input_columns, zeros_ + channel);
        if (live_ != nullptr && from < to) {
          const uint8_t* live = live_ + int64_t{input_y} * p.input.w + input_x;
          for (int i = from; i < to; ++i) pixels[i] = live[i] ? pixels[i] : zeros_ + channel;
        }
        lines.out = at;
        kernels_.maps_u8.interleave(lines);
      }
      done = top + p.kernel_h;
      kernels_.maps_u8.depthwise_columns(args);
    }
  }

  // What is done in a row of a strip: columns from `first` on are computed, in the order of their
  // weights, and from `kept` on skipped.
  struct Listed {
    int32_t first, kept, end;
  };
  int listed_rows() const { return all_kept_ ? 1 : h_.params.output.h; }

  // Lists the rows of the strip that begins in column x.
  void list_outputs(int x) {
    const int32_t *kept_end = positions_ + h_.kept, *end = kept_end + h_.skipped;
    const int width = std::min(strip_, h_.params.output.w - x);
    for (int y = 0; y < listed_rows(); ++y) {
      const int32_t begin = y * h_.params.output.w + x;
      const auto listed = [&](const int32_t* from, const int32_t* to, int of) {
        for (from = std::lower_bound(from, to, begin); from < to && *from < begin + width; ++from) {
          const int column = *from - begin, kind = column % sharing_.outputs;
          if (of >= 0 && kind != of) continue;
          columns_.push_back(column);
          quads_.push_back(column / sharing_.outputs);
          weights_of_.push_back(kind * steps_ * kernels_.maps_u8.taps_bytes);
        }
        return static_cast<int32_t>(columns_.size());
      };
      Listed row{static_cast<int32_t>(columns_.size()), 0, 0};
      for (int kind = 0; kind < sharing_.outputs; ++kind)
        row.kept = listed(positions_, kept_end, kind);
      row.end = listed(kept_end, end, -1);
      rows_.push_back(row);
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  const char* feature_;
  const Sharing sharing_;
  SourceFill fill_;
  int parts_ = 1;  // of the channels
  int steps_ = 0, strip_ = 0, group_ = 0;
  const uint8_t* weights_ = nullptr;
  std::vector<int16_t> words_;
  int64_t block_bytes_ = 0;
  const int32_t *start_, *positions_;
  std::vector<int32_t> lowered_;
  const float *scale_, *shift_;
  const uint8_t *zeros_, *live_;
  bool all_kept_ = false;
  std::vector<Listed> rows_;                           // (strips, listed_rows())
  std::vector<int32_t> columns_, quads_, weights_of_;  // of a strip; what they are computed of
};

// What lies where in a block: see DepthwiseU8Args.
int channel_in_block(int element, int width) {
  const int j = element / width, lane = element % width;
  return 16 * (lane / 4) + 4 * j + lane % 4;
}

Blob pack(const OpSpec& spec, Isa isa) {
  require_uint8(spec);
  Header h{};
  h.params = conv_params_of(spec, DType::kU8);
  h.finish = finish_u8_of(spec);
  h.input_zero = zero_point_of(spec, "input_zero");
  h.threads = std::clamp(spec.threads, 1, kMostThreads);
  const ConvParams& p = h.params;
  const float* scale = scale_of(spec, p.output.c);
  const int32_t* bias = bias_of(spec, p.output.c);
  const float* shift = shift_of(spec, p.output.c);
  check(h);

  const Kernels& kernels = kernels_for(isa);
  const int width = kernels.product_u8.sizes.width, block = 4 * width, taps = p.taps();
  const Sharing sharing(p);
  const int64_t lanes = blocks_of(p, kernels) * block;
  const int steps = p.kernel_h * sharing.quads;
  const auto* weight = static_cast<const int8_t*>(spec.array("weight")->data);
  BlobWriter writer;
  writer.append<Header>(1);
  h.weights = writer.append<int8_t>(lanes * kQuad * steps * sharing.outputs);
  h.start = writer.append<int32_t>(lanes);
  h.scale = writer.append<float>(lanes);
  h.shift = writer.append<float>(lanes);
  h.zeros = writer.append<uint8_t>(p.input.stride);
  std::memset(writer.at<uint8_t>(h.zeros), h.input_zero, p.input.stride);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int64_t first = lane / block * block, element = lane % block;
    const int64_t c = first + channel_in_block(static_cast<int>(element), width);
    if (c >= p.output.c) continue;
    int64_t start = bias == nullptr ? 0 : bias[c];
    for (int t = 0; t < taps; ++t) start -= int64_t{h.input_zero} * weight[c * taps + t];
    writer.at<int32_t>(h.start)[lane] = static_cast<int32_t>(static_cast<uint32_t>(start));
    writer.at<float>(h.scale)[lane] = scale[c];
    if (shift != nullptr) writer.at<float>(h.shift)[lane] = shift[c];
    for (int output = 0; output < sharing.outputs; ++output)
      for (int t = 0; t < taps; ++t) {
        const int ky = t / p.kernel_w, at = t % p.kernel_w + output * p.stride_w;
        const int64_t step =
            first / block * sharing.outputs * steps + output * steps + ky * sharing.quads + at / 4;
        writer.at<int8_t>(h.weights)[(step * block + element) * kQuad + at % kQuad] =
            weight[c * taps + t];
      }
  }
  auto [kept, skipped] = masked_positions(spec, int64_t{p.output.h} * p.output.w);
  h.kept = static_cast<int32_t>(kept.size()), h.skipped = static_cast<int32_t>(skipped.size());
  kept.insert(kept.end(), skipped.begin(), skipped.end());
  h.positions = writer.append(kept.data(), kept.size());
  h.fill = SourceFill::pack(writer, spec);
  h.live = pack_live_input(writer, spec, p);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa) {
  require_uint8(spec);
  const ConvParams p = conv_params_of(spec, DType::kU8);
  if (const char* fault = fault_of_columns(p)) return fault;
  scale_of(spec, p.output.c), bias_of(spec, p.output.c), shift_of(spec, p.output.c);
  if (!is_bounded(spec, p)) return "sums may leave 32 bits";
  if (spec.array("table") != nullptr) return "a table follows";
  return "";
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv_u8", "depthwise_columns", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<DepthwiseColumns>(blob, isa);
           },
           kFloatsAndBytes}};
}

}  // namespace activsparse::depthwise_columns_u8
