// Depthwise convolution of uint8 by int8: kept positions one by one, all channels of each. Taps are
// taken four at a time, as quads of channels are elsewhere; a tap in the padding reads a pixel of
// zero points.
#include <algorithm>
#include <cstring>

#include "operators/conv_params.h"
#include "operators/finish_u8.h"
#include "operators/live_input.h"
#include "operators/lowered_start.h"
#include "operators/safe_pairs.h"
#include "operators/source_fill.h"

namespace activsparse::depthwise_u8 {
namespace {

constexpr int kTasks = 64;
constexpr int kMostSlots = 512;

struct Header {
  ConvParams params;
  SourceFillHeader fill;
  LiveInputHeader live;
  FinishU8 finish;
  int32_t input_zero, slots, kept, skipped;
  uint64_t slot_taps, weights, start, scale, shift, zeros, positions;
};

// The taps of a kernel in the order in which they are multiplied; where pairs must be safe, what is
// moved out of one comes again further behind.
struct Slots {
  std::vector<int32_t> taps;    // -1: none
  std::vector<int8_t> weights;  // (slots, channels)
};

Slots slots_of(const int8_t* weight, int channels, int taps, bool safe) {
  Slots slots;
  const auto add = [&](int tap) {
    slots.taps.push_back(tap);
    slots.weights.resize(slots.taps.size() * channels, 0);
    return slots.weights.data() + (slots.taps.size() - 1) * channels;
  };
  for (int t = 0; t < taps; ++t) {
    int8_t* row = add(t);
    for (int c = 0; c < channels; ++c) row[c] = weight[int64_t{c} * taps + t];
  }
  if (slots.taps.size() % 2 != 0) add(-1);
  for (std::size_t s = 0; safe && s < slots.taps.size(); s += 2) {
    bool moved = false;
    std::vector<int8_t> apart(channels, 0);
    int8_t* pair = slots.weights.data() + s * channels;
    for (int c = 0; c < channels; ++c)
      if (!are_safe(pair[c], pair[channels + c])) {
        std::swap(apart[c], pair[channels + c]);
        moved = true;
      }
    if (!moved) continue;
    const int tap = slots.taps[s + 1];
    std::memcpy(add(tap), apart.data(), apart.size());
    add(-1);
  }
  while (slots.taps.size() % 4 != 0) add(-1);
  return slots;
}

// What lies where in a block: see DepthwiseU8Args.
int channel_in_block(int element, int width) {
  const int j = element / width, lane = element % width;
  return 16 * (lane / 4) + 4 * j + lane % 4;
}

void check(const Header& h) {
  const ConvParams& p = h.params;
  require_packed(fault_of(p, DType::kU8) == nullptr && is_depthwise(p) && !p.has_residual);
  for (const TensorDesc* t : {&p.input, &p.output})
    require_packed(t->dtype == DType::kU8 && !t->nchw && t->stride % 16 == 0);
  require_packed(p.output.padded != 0 && p.taps() <= kMostSlots / 4);
  require_packed(h.finish, p.output, false);
  require_packed(h.input_zero >= 0 && h.input_zero <= 255);
}

const Header& checked(const BlobView& blob) {
  const Header& h = blob.header<Header>();
  check(h);
  return h;
}

class DepthwiseU8 : public ConvOperator {
 public:
  DepthwiseU8(const BlobView& blob, Isa isa)
      : h_(checked(blob)),
        kernels_(kernels_for(isa)),
        feature_(feature_of(isa)),
        fill_(blob, h_.fill, h_.params.output) {
    const ConvParams& p = h_.params;
    const int64_t lanes = padded_channels(p, kernels_);
    require_packed(h_.slots >= 0 && h_.slots <= kMostSlots && h_.slots % 4 == 0);
    slot_taps_ = blob.array<int32_t>(h_.slot_taps, h_.slots);
    for (int s = 0; s < h_.slots; ++s)
      require_packed(slot_taps_[s] >= -1 && slot_taps_[s] < p.taps());
    weights_ = blob.array<int8_t>(h_.weights, lanes * h_.slots);
    start_ = lowered_start(blob.array<int32_t>(h_.start, lanes), weights_, lanes,
                           4 * kernels_.product_u8.sizes.width, h_.slots / 4, 1,
                           kernels_.maps_u8.lowered, lowered_);
    scale_ = blob.array<float>(h_.scale, lanes);
    shift_ = blob.array<float>(h_.shift, lanes);
    zeros_ = blob.array<uint8_t>(h_.zeros, p.input.stride);
    live_ = live_input(blob, h_.live, p);
    const int64_t count = int64_t{p.output.h} * p.output.w;
    require_packed(h_.kept >= 0 && h_.skipped >= 0 && h_.kept + int64_t{h_.skipped} <= count);
    positions_ = blob.array<int32_t>(h_.positions, int64_t{h_.kept} + h_.skipped);
    for (int64_t i = 0; i < int64_t{h_.kept} + h_.skipped; ++i)
      require_packed(positions_[i] >= 0 && positions_[i] < count);
    for (int s = 0; s < h_.slots; ++s) {
      const int t = std::max(0, slot_taps_[s]);  // of none, weights are zero
      const int y = t / p.kernel_w * p.dilation_h, x = t % p.kernel_w * p.dilation_w;
      distances_.push_back((int64_t{y} * p.input.w + x) * p.input.stride);
    }
  }

  static int64_t padded_channels(const ConvParams& p, const Kernels& kernels) {
    const int64_t block = 4 * kernels.product_u8.sizes.width;
    return (p.output.c + block - 1) / block * block;
  }

  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return kTasks * h_.params.output.n; }
  std::size_t scratch_bytes() const override { return h_.slots * sizeof(void*); }
  std::size_t index_bytes() const override {
    return (h_.kept + std::size_t{1} * h_.skipped) * sizeof(int32_t) + fill_.bytes();
  }
  double macs() const override {
    return double{1} * h_.kept * h_.params.taps() * h_.params.output.c * h_.params.output.n;
  }
  std::string kernel() const override {
    return std::string(kernels_.isa) + (*feature_ ? "-" : "") + feature_ + " int8 1x" +
           std::to_string(4 * kernels_.product_u8.sizes.width);
  }

  void run(const RunArgs& run, int, int begin, int end) const override {
    const ConvParams& p = h_.params;
    auto** rows = reinterpret_cast<const uint8_t**>(run.scratch);
    DepthwiseU8Args args{rows,   weights_, h_.slots, p.output.c, start_,
                         scale_, shift_,   nullptr,  &h_.finish};
    for (int task = begin; task < end; ++task) {
      const int64_t image = task / kTasks, part = task % kTasks;
      const uint8_t* in = run.in<uint8_t>(0) + image * p.input.h * p.input.w * p.input.stride;
      uint8_t* out = run.out<uint8_t>(0) + image * p.output.h * p.output.w * p.output.stride;
      for (int64_t i = h_.kept * part / kTasks; i < h_.kept * (part + 1) / kTasks; ++i) {
        const int32_t position = positions_[i];
        point(in, position / p.output.w, position % p.output.w, rows);
        args.out = out + int64_t{position} * p.output.stride;
        kernels_.maps_u8.depthwise(args);
        if (!fill_.empty()) fill_.copy_from(out, position, position + 1, 0, p.output.c);
      }
      const int32_t* skipped = positions_ + h_.kept;
      for (int64_t i = h_.skipped * part / kTasks; i < h_.skipped * (part + 1) / kTasks; ++i)
        std::memset(out + int64_t{skipped[i]} * p.output.stride, h_.finish.zero, p.output.c);
    }
  }

 private:
  void point(const uint8_t* in, int oy, int ox, const uint8_t** rows) const {
    const ConvParams& p = h_.params;
    const int y = oy * p.stride_h - p.pad_top, x = ox * p.stride_w - p.pad_left;
    const int last_y = y + (p.kernel_h - 1) * p.dilation_h;
    const int last_x = x + (p.kernel_w - 1) * p.dilation_w;
    const int64_t origin = (int64_t{y} * p.input.w + x) * p.input.stride;
    if (live_ == nullptr && y >= 0 && x >= 0 && last_y < p.input.h && last_x < p.input.w) {
      for (int s = 0; s < h_.slots; ++s) rows[s] = in + (origin + distances_[s]);
      return;
    }
    for (int s = 0; s < h_.slots; ++s) {
      const int tap = slot_taps_[s];
      const int64_t pixel =
          tap < 0 ? -1 : p.input_pixel(oy, ox, tap / p.kernel_w, tap % p.kernel_w);
      const bool read = pixel >= 0 && (live_ == nullptr || live_[pixel]);
      rows[s] = read ? in + pixel * p.input.stride : zeros_;
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  const char* feature_;
  SourceFill fill_;
  const int32_t *slot_taps_, *start_, *positions_;
  const int8_t* weights_;
  std::vector<int32_t> lowered_;
  const float *scale_, *shift_;
  const uint8_t *zeros_, *live_;
  std::vector<int64_t> distances_;  // (slots)
};

Blob pack(const OpSpec& spec, Isa isa) {
  require_uint8(spec);
  Header h{};
  h.params = conv_params_of(spec, DType::kU8);
  h.finish = finish_u8_of(spec);
  h.input_zero = zero_point_of(spec, "input_zero");
  const ConvParams& p = h.params;
  const float* scale = scale_of(spec, p.output.c);
  const int32_t* bias = bias_of(spec, p.output.c);
  const float* shift = shift_of(spec, p.output.c);
  const Kernels& kernels = kernels_for(isa);
  const int width = kernels.product_u8.sizes.width, channels = p.output.c, taps = p.taps();
  const auto* weight = static_cast<const int8_t*>(spec.array("weight")->data);
  const Slots slots = slots_of(weight, channels, taps, needs_safe_pairs(isa));
  h.slots = static_cast<int32_t>(slots.taps.size());
  check(h);

  BlobWriter writer;
  writer.append<Header>(1);
  const int64_t lanes = DepthwiseU8::padded_channels(p, kernels);
  h.slot_taps = writer.append(slots.taps.data(), slots.taps.size());
  h.weights = writer.append<int8_t>(lanes * h.slots);
  h.start = writer.append<int32_t>(lanes);
  h.scale = writer.append<float>(lanes);
  h.shift = writer.append<float>(lanes);
  h.zeros = writer.append<uint8_t>(p.input.stride);
  std::memset(writer.at<uint8_t>(h.zeros), h.input_zero, p.input.stride);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int64_t block = lane / (4 * width), element = lane % (4 * width);
    const int64_t c = block * 4 * width + channel_in_block(static_cast<int>(element), width);
    if (c >= channels) continue;
    int64_t start = bias == nullptr ? 0 : bias[c];
    for (int t = 0; t < taps; ++t) start -= int64_t{h.input_zero} * weight[c * taps + t];
    writer.at<int32_t>(h.start)[lane] = static_cast<int32_t>(static_cast<uint32_t>(start));
    writer.at<float>(h.scale)[lane] = scale[c];
    if (shift != nullptr) writer.at<float>(h.shift)[lane] = shift[c];
    for (int s = 0; s < h.slots; ++s)
      writer.at<int8_t>(
          h.weights)[((block * h.slots / 4 + s / 4) * 4 * width + element) * 4 + s % 4] =
          slots.weights[int64_t{s} * channels + c];
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
  if (!is_depthwise(p)) return "not a depthwise convolution";
  if (p.has_residual) return "a residual is added";
  if (p.output.dtype != DType::kU8) return "the output is float32";
  if (p.input.stride % 16 != 0 || p.output.stride % 16 != 0 || !p.output.padded)
    return "pixels are no whole groups of 16 channels";
  if (p.taps() > kMostSlots / 4) return "the kernel is too large";
  if (spec.array("table") != nullptr) return "a table follows";
  return "";
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv_u8", "depthwise", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<DepthwiseU8>(blob, isa);
           },
           kFloatsAndBytes}};
}

}  // namespace activsparse::depthwise_u8
