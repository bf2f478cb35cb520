// Convolution tap by tap over pairs of a kept output and an input that is neither padding nor known
// to be zero: where holes are scattered over both, work falls with the product of the kept shares.
// Such masks have too many sets of live taps for the classes of conv/direct, and on small maps the
// classes are smaller than a tile.
//
// Loops, from outside: panel of output channels - block of taps whose weights stay in the
// second-level cache - chunk of positions whose sums stay in the first-level cache - tap - part of
// the tap's input channels - tile of pairs. Sums start from the bias and grow in the output, so the
// output must not share memory with the input or the residual. The index data are 4 bytes per kept
// position and 1 per pair.
#include <algorithm>

#include "operators/conv_params.h"
#include "operators/even_parts.h"
#include "operators/panels.h"
#include "operators/row_plan.h"
#include "operators/skipped_fill.h"
#include "operators/source_fill.h"

namespace activsparse::conv_active_taps {
namespace {

constexpr int64_t kPanelShare = 600;  // of the second-level cache, as in conv/direct
// Positions of a chunk: enough that a tap's pairs fill their register tiles.
constexpr int kMaxChunkRows = 128;
// Where a map is a single chunk, each weight is used once, by a few rows, and memory has to keep
// up. Taps then go by parts of this size, fetched into the first-level cache while the part before
// is used, by all tiles of that: on a Zen 5, 104 pairs of 7x7x512 with the weights (9.4 MB) from
// memory take 240 us, by whole taps 330, by parts of half the size 270.
constexpr int64_t kPartBytes = 16 << 10;
constexpr int64_t kLine = 64 / sizeof(float);
// Positions of a map so small that the classes of conv/direct leave tiles half empty even if only
// the padding is known to be zero.
constexpr int kSmallMap = 64;
// The longest of the threads' shares, of the mean, for which panels are not made narrower.
constexpr double kEven = 1.2;

struct Header {
  ConvParams params;
  SkippedFillHeader skipped;
  SourceFillHeader source;
  int32_t max_vectors;
  int32_t kept;    // positions computed per image
  int32_t chunks;  // they are cut into, evenly
  int32_t pair_count;
  WeightsHeader weights;
  uint64_t bias;
  uint64_t positions;   // (kept): y << 16 | x
  uint64_t first_pair;  // (chunks * taps + 1)
  uint64_t pairs;       // (pair_count): position within the chunk
};

int chunk_begin(int kept, int chunks, int chunk) {
  return static_cast<int>(int64_t{kept} * chunk / chunks);
}

class ConvActiveTaps : public ConvOperator {
 public:
  ConvActiveTaps(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob)),
        kernels_(kernels_for(isa)),
        panels_(panels_of(h_.params, kernels_, h_.max_vectors)),
        skipped_(blob, h_.skipped, h_.params, kernels_),
        source_(blob, h_.source, h_.params.output) {
    const ConvParams& p = h_.params;
    require_packed(h_.kept >= 0 && h_.kept <= p.output.h * p.output.w && h_.pair_count >= 0);
    require_packed(h_.chunks >= (h_.kept > 0) && h_.chunks <= h_.kept);
    weights_ = panels_.weights(blob, h_.weights);
    bias_ = blob.array<float>(h_.bias, panels_.channel_floats());
    positions_ = blob.array<uint32_t>(h_.positions, h_.kept);
    first_pair_ = blob.array<int32_t>(h_.first_pair, int64_t{h_.chunks} * p.taps() + 1);
    pairs_ = blob.array<uint8_t>(h_.pairs, h_.pair_count);
    check();
  }

  const ConvParams& params() const override { return h_.params; }
  int phases() const override { return source_.empty() ? 1 : 2; }
  int tasks(int phase) const override {
    if (phase == 1) return SourceFill::kTasks;
    return std::max(1, static_cast<int>(items() * static_cast<int64_t>(panels_.all().size())));
  }
  std::size_t index_bytes() const override {
    return h_.kept * sizeof(uint32_t) + h_.pair_count +
           (int64_t{h_.chunks} * h_.params.taps() + 1) * sizeof(int32_t) + skipped_.bytes() +
           source_.bytes();
  }
  std::size_t scratch_bytes() const override {
    int64_t room = 0;
    for (const Panel& panel : panels_.all())
      room = std::max(room, int64_t{h_.params.in_per_group} * panel.vectors * kernels_.width);
    return weights_.half() ? room * sizeof(float) : 0;
  }
  bool half_weights() const override { return weights_.half(); }
  double macs() const override {
    const ConvParams& p = h_.params;
    return double{1} * h_.pair_count * p.in_per_group * p.output.c * p.output.n;
  }
  std::string kernel() const override {
    const int vectors = panels_.all()[0].vectors;
    return std::string(kernels_.isa) + " " +
           std::to_string(kernels_.gemm_f32.sizes.max_rows[vectors - 1]) + "x" +
           std::to_string(vectors * kernels_.width);
  }

  void run(const RunArgs& args, int phase, int begin, int end) const override {
    if (phase == 1) return source_.run(args.out(0), begin, end);
    skipped_.run(args, begin, end, tasks(0));
    const int64_t items = this->items();
    // Neighbouring tasks of one panel become one stretch, so that its weights are fetched once.
    while (begin < end && items > 0) {
      const int64_t block = begin / items, stop = std::min<int64_t>(end, (block + 1) * items);
      run_panel(args, panels_.all()[block], begin - block * items, stop - block * items);
      begin = static_cast<int>(stop);
    }
  }

 private:
  // Where the positions of a chunk read (without the tap) and write.
  struct Chunk {
    const float* input;
    int count;
    int64_t origin[kMaxChunkRows];
    float* out[kMaxChunkRows];
    const float* residual[kMaxChunkRows];
  };

  int64_t items() const { return int64_t{h_.chunks} * h_.params.output.n; }

  int64_t tap_offset(int tap) const {
    const ConvParams& p = h_.params;
    return (int64_t{tap / p.kernel_w} * p.dilation_h * p.input.w +
            tap % p.kernel_w * p.dilation_w) *
           p.input.stride;
  }

  // A damaged plan must be refused, never executed.
  void check() const {
    const ConvParams& p = h_.params;
    for (int i = 0; i < h_.kept; ++i)
      require_packed(static_cast<int>(positions_[i] >> 16) < p.output.h &&
                     static_cast<int>(positions_[i] & 0xffff) < p.output.w);
    require_packed(first_pair_[0] == 0 &&
                   first_pair_[int64_t{h_.chunks} * p.taps()] == h_.pair_count);
    for (int chunk = 0; chunk < h_.chunks; ++chunk) {
      const int begin = chunk_begin(h_.kept, h_.chunks, chunk);
      const int count = chunk_begin(h_.kept, h_.chunks, chunk + 1) - begin;
      require_packed(count <= kMaxChunkRows);
      for (int tap = 0; tap < p.taps(); ++tap) {
        const int32_t* range = first_pair_ + int64_t{chunk} * p.taps() + tap;
        require_packed(range[0] <= range[1] && range[1] <= h_.pair_count);
        for (int i = range[0]; i < range[1]; ++i) {
          require_packed(pairs_[i] < count);
          const uint32_t at = positions_[begin + pairs_[i]];
          require_packed(p.input_pixel(static_cast<int>(at >> 16), static_cast<int>(at & 0xffff),
                                       tap / p.kernel_w, tap % p.kernel_w) >= 0);
        }
      }
    }
  }

  void locate(const RunArgs& run, const Panel& panel, int64_t item, Chunk& c) const {
    const ConvParams& p = h_.params;
    const int64_t image = item / h_.chunks;
    const int chunk = static_cast<int>(item % h_.chunks);
    const int begin = chunk_begin(h_.kept, h_.chunks, chunk);
    c.count = chunk_begin(h_.kept, h_.chunks, chunk + 1) - begin;
    c.input = run.in(0) + image * p.input.h * p.input.w * p.input.stride +
              int64_t{panel.group} * p.in_per_group;
    for (int r = 0; r < c.count; ++r) {
      const int y = static_cast<int>(positions_[begin + r] >> 16);
      const int x = static_cast<int>(positions_[begin + r] & 0xffff);
      c.origin[r] =
          (int64_t{y * p.stride_h - p.pad_top} * p.input.w + x * p.stride_w - p.pad_left) *
          p.input.stride;
      const int64_t pixel = (image * p.output.h + y) * p.output.w + x;
      c.out[r] = run.out(0) + pixel * p.output.stride + panel.first;
      if (p.has_residual) c.residual[r] = run.in(1) + pixel * p.residual.stride + panel.first;
    }
  }

  void run_panel(const RunArgs& run, const Panel& panel, int64_t begin, int64_t end) const {
    const ConvParams& p = h_.params;
    const int64_t tap_floats = int64_t{p.in_per_group} * panel.vectors * kernels_.width;
    const int block_taps = static_cast<int>(std::clamp<int64_t>(
        kernels_.caches.of_l2(kPanelShare) / int64_t{sizeof(float)} / tap_floats, 1, p.taps()));
    const int blocks = (p.taps() + block_taps - 1) / block_taps;
    const bool once = end - begin == 1;  // all weights are used
    Chunk c;
    for (int block = 0; block < blocks; ++block) {
      const int first_tap = p.taps() * block / blocks, last_tap = p.taps() * (block + 1) / blocks;
      for (int64_t item = begin; item < end; ++item) {
        locate(run, panel, item, c);
        if (block == 0) pass(panel, c, bias_ + panel.channels, nullptr);
        const int32_t* first = first_pair_ + item % h_.chunks * p.taps();
        for (int tap = first_tap; tap < last_tap; ++tap)
          // The first chunk brings the next tap's weights, the others find them.
          add_tap(run, panel, c, tap, first, once, item == begin);
        if (block + 1 == blocks && (p.has_residual || p.epilogue.activation != Activation::kNone))
          pass(panel, c, nullptr, &p.epilogue);
      }
    }
  }

  // All rows of a chunk without any product: `start` in, or residual and activation out.
  void pass(const Panel& panel, Chunk& c, const float* start, const Epilogue* epilogue) const {
    const int max_rows = kernels_.gemm_f32.sizes.max_rows[panel.vectors - 1];
    GemmArgs args{};
    args.start = start;
    args.epilogue = epilogue;
    set_lanes(args, panel, h_.params.output);
    for (int r = 0; r < c.count; r += max_rows) {
      args.out = c.out + r;
      if (epilogue != nullptr && h_.params.has_residual) args.residual = c.residual + r;
      kernels_.gemm_f32.tile[panel.vectors - 1][std::min(max_rows, c.count - r) - 1](args);
    }
  }

  // The weights that come after a tap's: of the panel's next tap with pairs, else of the next
  // panel.
  const float* following(const Panel& panel, int tap, const int32_t* first) const {
    const int64_t lanes = int64_t{panel.vectors} * kernels_.width;
    while (++tap < h_.params.taps())
      if (first[tap] < first[tap + 1])
        return stored(panel.weights + tap * h_.params.in_per_group * lanes);
    return &panel == &panels_.all().back() ? nullptr : following((&panel)[1], -1, first);
  }

  const float* stored(uint64_t begin) const { return weights_.stored(begin, begin).data; }

  // The products of a tap's pairs, which begin at `first[tap]`.
  void add_tap(const RunArgs& run, const Panel& panel, const Chunk& c, int tap,
               const int32_t* first, bool once, bool fetch) const {
    const ConvParams& p = h_.params;
    const uint8_t* pairs = pairs_ + first[tap];
    const int count = first[tap + 1] - first[tap];
    if (count == 0) return;
    const int channels = p.in_per_group, lanes = panel.vectors * kernels_.width;
    const int64_t tap_floats = int64_t{channels} * lanes;
    const int max_rows = kernels_.tap_product_f32.sizes.max_rows[panel.vectors - 1];
    const auto* tile = kernels_.tap_product_f32.tile[panel.vectors - 1];
    const int tiles = (count + max_rows - 1) / max_rows;
    const float* rows[kMaxChunkRows];
    float* out[kMaxChunkRows];
    const float* input = c.input + tap_offset(tap);
    for (int i = 0; i < count; ++i) {
      rows[i] = input + c.origin[pairs[i]];
      out[i] = c.out[pairs[i]];
    }
    const int parts =
        once ? static_cast<int>((tap_floats * int64_t{sizeof(float)} + kPartBytes - 1) / kPartBytes)
             : 1;

    const float* after = following(panel, tap, first);
    GemmArgs sizes{};
    set_lanes(sizes, panel, p.output);
    TapProductArgs args{};
    args.store_lanes = sizes.store_lanes;
    uint64_t at_weight = panel.weights + tap * tap_floats;
    for (int part = 0; part < parts; ++part) {
      const int end = static_cast<int>(int64_t{channels} * (part + 1) / parts);
      args.channels = end - static_cast<int>(args.first);
      const int64_t floats = int64_t{args.channels} * lanes;
      args.weights = weights_.wide(kernels_, panels_.index_of(panel), at_weight, floats,
                                   reinterpret_cast<float*>(run.scratch));
      at_weight += floats;
      const float* next = part + 1 < parts ? stored(at_weight) : after;
      const int64_t line = weights_.half() ? 2 * kLine : kLine;
      const int64_t lines = fetch && next != nullptr ? (floats + line - 1) / line : 0;
      for (int t = 0, at = 0; t < tiles; ++t) {
        const int height = (count - at) / (tiles - t);
        const int64_t from = lines * t / tiles, to = lines * (t + 1) / tiles;
        args.rows = rows + at;
        args.out = out + at;
        args.next = next + from * kLine;
        args.fetch_floats = (to - from) * kLine;
        tile[height - 1](args);
        at += height;
      }
      args.first = end;
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  Panels panels_;
  SkippedFill skipped_;
  SourceFill source_;
  Weights weights_;
  const float* bias_;
  const uint32_t* positions_;
  const int32_t* first_pair_;
  const uint8_t* pairs_;
};

std::string unsupported(const OpSpec& spec, Isa) {
  const TensorDesc& out = spec.outputs[0];
  if (spec.array("input_mask") == nullptr &&
      (spec.array("mask") == nullptr || int64_t{out.h} * out.w > kSmallMap))
    return "no input is known to be zero";
  const ArrayView* weight = spec.array("weight");
  if (weight != nullptr && weight->shape.size() == 4 && weight->shape[2] * weight->shape[3] == 1)
    return "the kernel has one tap";
  return RowPlan::unsupported(spec);
}

Blob pack(const OpSpec& spec, Isa isa) {
  const Kernels& kernels = kernels_for(isa);
  Header h{};
  h.params = conv_params_of(spec);
  const ConvParams& p = h.params;
  const auto* mask_view = spec.array("mask");
  const auto* mask = mask_view ? static_cast<const uint8_t*>(mask_view->data) : nullptr;
  const auto* input_view = spec.array("input_mask");
  const auto* input_mask = input_view ? static_cast<const uint8_t*>(input_view->data) : nullptr;

  std::vector<uint32_t> positions;
  for (int y = 0; y < p.output.h; ++y)
    for (int x = 0; x < p.output.w; ++x)
      if (mask == nullptr || mask[int64_t{y} * p.output.w + x])
        positions.push_back(static_cast<uint32_t>(y) << 16 | static_cast<uint32_t>(x));
  h.kept = static_cast<int32_t>(positions.size());
  h.chunks = (h.kept + kMaxChunkRows - 1) / kMaxChunkRows;
  // The widest panels that are even shares.
  const int most = kernels.gemm_f32.sizes.max_vectors;
  h.max_vectors =
      most - first_even(most, spec.threads, kEven, [&](int narrower) {
        const auto panels = panels_of(p, kernels, most - narrower).all().size();
        return std::max<int64_t>(1, static_cast<int64_t>(panels) * h.chunks * p.output.n);
      });
  const Panels panels = panels_of(p, kernels, h.max_vectors);
  std::vector<int32_t> first_pair = {0};
  std::vector<uint8_t> pairs;
  for (int chunk = 0; chunk < h.chunks; ++chunk) {
    const int begin = chunk_begin(h.kept, h.chunks, chunk);
    const int end = chunk_begin(h.kept, h.chunks, chunk + 1);
    for (int tap = 0; tap < p.taps(); ++tap) {
      for (int i = begin; i < end; ++i) {
        const int64_t pixel = p.input_pixel(static_cast<int>(positions[i] >> 16),
                                            static_cast<int>(positions[i] & 0xffff),
                                            tap / p.kernel_w, tap % p.kernel_w);
        if (pixel >= 0 && (input_mask == nullptr || input_mask[pixel]))
          pairs.push_back(static_cast<uint8_t>(i - begin));
      }
      first_pair.push_back(static_cast<int32_t>(pairs.size()));
    }
  }
  h.pair_count = static_cast<int32_t>(pairs.size());

  BlobWriter writer;
  writer.append<Header>(1);
  const float* weight = spec.float_array("weight");
  h.weights = panels.pack_weights(writer, wants_half(spec), [&](int o, int64_t k) {
    const int64_t tap = k / p.in_per_group, c = k % p.in_per_group;
    return weight[(int64_t{o} * p.in_per_group + c) * p.taps() + tap];
  });
  h.bias = panels.pack_channels(writer, spec.float_array("bias"));
  h.positions = writer.append(positions.data(), positions.size());
  h.first_pair = writer.append(first_pair.data(), first_pair.size());
  h.pairs = writer.append(pairs.data(), pairs.size());
  h.skipped = SkippedFill::pack(writer, spec, p);
  h.source = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv", "active_taps", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvActiveTaps>(blob, isa);
           }}};
}

}  // namespace activsparse::conv_active_taps
