// Convolution of uint8 by int8, direct: rows of the product are read where they lie in the input,
// as in conv_direct.cpp, and positions, classes of taps and tiles are the same code.
//
// The zero point of the input is part of what sums start from: start = bias - zero * (sum of the
// weights of the taps that a class of positions computes). Taps in the padding, or on inputs that
// a mask has left at the zero point, contribute nothing then and are left out. The same sums of
// weights make up for what kernels lower activations by.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "operators/byte_fetch.h"
#include "operators/byte_panels.h"
#include "operators/conv_params.h"
#include "operators/finish_u8.h"
#include "operators/row_plan.h"
#include "operators/source_fill.h"

namespace activsparse::conv_u8 {
namespace {

constexpr int kMinTasks = 240;                    // even shares for up to 24 threads
constexpr int64_t kMostDepth = int64_t{1} << 16;  // sums of so many products stay in 32 bits

struct Header {
  ConvParams params;
  RowPlanHeader rows;
  SourceFillHeader fill;
  BytePanelsHeader panels;
  FinishU8 finish;
  int32_t input_zero;
  uint64_t bias, scale, shift, tap_sums, odd_sums, zeros;
  int32_t joined;  // 1: the taps of a row are one, see joined_taps()
};

// Images of at most four channels, four bytes to a pixel, that bring their padding along: the taps
// of a row of the kernel lie side by side, and are quads of one tap.
bool can_join(const ConvParams& p) {
  return p.group == 1 && p.input.stride == 4 && p.dilation_w == 1 && p.pad_left == 0 &&
         p.pad_right == 0 && p.kernel_w > 1;
}

// The convolution as products and rows see it.
ConvParams joined_taps(const ConvParams& p) {
  ConvParams joined = p;
  joined.in_per_group = 4 * p.kernel_w;
  joined.kernel_w = 1;
  return joined;
}

// What a position without a sum and without a residual holds.
int skipped_value(const FinishU8& f) {
  const float value = f.rescaled ? std::min(std::max(0.0f, f.residual_lo), f.residual_hi) : 0.0f;
  return f.zero + static_cast<int>(std::nearbyint(value));
}

void check(const Header& h) {
  const ConvParams& p = h.params;
  require_packed(h.joined == can_join(p));
  require_packed(fault_of(p, true) == nullptr && !p.input.nchw);
  require_packed(p.has_residual == 0 || p.has_residual == 1);
  require_packed(p.input.dtype == DType::kU8 && p.input.stride % 4 == 0);
  require_packed(!p.has_residual || p.residual.dtype == DType::kU8);
  require_packed(int64_t{p.in_per_group} * p.taps() <= kMostDepth);
  require_packed(h.finish, p.output, p.has_residual != 0);
  require_packed(h.input_zero >= 0 && h.input_zero <= 255);
}

const Header& checked(const BlobView& blob) {
  const Header& h = blob.header<Header>();
  check(h);
  return h;
}

class ConvU8 : public ConvOperator {
 public:
  ConvU8(const BlobView& blob, Isa isa)
      : h_(checked(blob)),
        kernels_(kernels_for(isa)),
        feature_(feature_of(isa)),
        seen_(h_.joined ? joined_taps(h_.params) : h_.params),
        panels_(blob, h_.panels, seen_, isa),
        rows_(blob, h_.rows, seen_),
        fill_(blob, h_.fill, h_.params.output),
        pixelwise_(is_pixelwise(h_.params)),
        item_(size_of(h_.params.output.dtype)),
        skipped_(skipped_value(h_.finish)) {
    const ConvParams& p = h_.params;
    scale_ = blob.array<float>(h_.scale, panels_.lanes());
    shift_ = blob.array<float>(h_.shift, panels_.lanes());
    zeros_ = blob.array<uint8_t>(h_.zeros, zero_bytes(p));
    const TileSizes& sizes = kernels_.product_u8.sizes;
    for (int i = 0; i < sizes.max_vectors; ++i)
      tilings_.emplace_back(rows_, p.output.n, sizes.max_rows[i], seen_.in_per_group, 32);
    const int blocks = static_cast<int>(panels_.all().size());
    chunks_ = std::max(1, (kMinTasks + blocks - 1) / blocks);
    set_starts(blob.array<int32_t>(h_.bias, panels_.lanes()),
               blob.array<int32_t>(h_.tap_sums, panels_.lanes() * seen_.taps()),
               blob.array<int32_t>(h_.odd_sums, odd_sum_count(seen_, panels_.lanes(), isa)));
  }

  static int64_t odd_sum_count(const ConvParams& seen, int64_t lanes, Isa isa) {
    return needs_odd_sums(isa) ? lanes * seen.taps() : 0;
  }
  static int64_t zero_bytes(const ConvParams& p) { return int64_t{p.input.c} + 4; }

  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return chunks_ * static_cast<int>(panels_.all().size()); }
  double cost(int, int begin, int end) const override {
    double sum = 0;
    for (int stop; begin < end; begin = stop) {
      const int block = begin / chunks_;
      stop = std::min(end, (block + 1) * chunks_);
      const BytePanel& panel = panels_.all()[block];
      const Tiling& tiling = tilings_[panel.vectors - 1];
      sum += panel.vectors * kernels_.product_u8.sizes.width *
             tiling.cost(tiling.first_of_share(begin - block * chunks_, chunks_),
                         tiling.first_of_share(stop - block * chunks_, chunks_));
    }
    return sum;
  }
  std::size_t scratch_bytes() const override {
    const std::size_t taps = rows_.max_taps();
    return ((taps + 2) * kMaxTileRows + 2 * taps) * sizeof(void*) + taps * sizeof(int32_t);
  }
  std::size_t index_bytes() const override { return rows_.bytes() + fill_.bytes(); }
  double macs() const override {
    const ConvParams& p = h_.params;
    return rows_.computed_taps() * (h_.joined ? p.kernel_w : 1) * p.in_per_group * p.output.c *
           p.output.n;
  }
  std::string kernel() const override {
    const int vectors = panels_.all()[0].vectors;
    const TileSizes& sizes = kernels_.product_u8.sizes;
    return std::string(kernels_.isa) + (*feature_ ? "-" : "") + feature_ + " int8 " +
           std::to_string(sizes.max_rows[vectors - 1]) + "x" +
           std::to_string(vectors * sizes.width);
  }

  Constants constants() const override {
    const auto bytes = static_cast<int64_t>(panels_.all_weights_bytes());
    return {reinterpret_cast<const float*>(panels_.weights(0, 0)),
            bytes / static_cast<int64_t>(sizeof(float))};
  }
  int64_t fetches() const override { return Fetch::most_ahead(kernels_); }
  int64_t fetches_far() const override { return Fetch::most_far(kernels_, macs() / 4); }

  void run(const RunArgs& args, int, int begin, int end) const override {
    if (begin >= end) return;
    ByteFetch fetch;
    const int first = begin / chunks_, last = (end - 1) / chunks_;
    const int8_t* const start = panels_.weights(0, 0);
    const int64_t read = panels_.weights_end(first) - start;
    const int64_t near = first > 0 ? read : std::max(read, run_fetched(args));
    fetch.add(start + near, panels_.weights_end(last) - start - near);
    fetch.add(args);
    int64_t tiles = 0;
    each_panel(begin, end, [&](int panel, int from, int to) {
      const Tiling& tiling = tilings_[panels_.all()[panel].vectors - 1];
      tiles += tiling.first_of_share(to, chunks_) - tiling.first_of_share(from, chunks_);
    });
    fetch.spread(tiles);
    each_panel(begin, end,
               [&](int panel, int from, int to) { run_panel(args, panel, from, to, fetch); });
  }

 private:
  static int64_t run_fetched(const RunArgs& args) {
    return args.fetched * static_cast<int64_t>(sizeof(float));
  }

  // Calls body(panel, first chunk, last chunk) for the parts of tasks [begin, end).
  template <class Body>
  void each_panel(int begin, int end, const Body& body) const {
    for (int stop; begin < end; begin = stop) {
      const int panel = begin / chunks_;
      stop = std::min(end, (panel + 1) * chunks_);
      body(panel, begin - panel * chunks_, stop - panel * chunks_);
    }
  }

  template <class T>
  static T* take(std::uint8_t*& scratch, int count) {
    T* taken = reinterpret_cast<T*>(scratch);
    scratch += sizeof(T) * static_cast<std::size_t>(count);
    return taken;
  }

  // (classes, lanes): of skipped positions the input's zero point, which is nothing.
  void set_starts(const int32_t* bias, const int32_t* tap_sums, const int32_t* odd_sums) {
    const int64_t lanes = panels_.lanes();
    const int32_t *lowered = kernels_.product_u8.lowered, odd_less = lowered[0] - lowered[1];
    starts_.assign(rows_.classes().size() * lanes, 0);
    for (std::size_t i = 0; i < rows_.classes().size(); ++i) {
      const RowClass& c = rows_.classes()[i];
      if (c.skipped) continue;
      int32_t* start = starts_.data() + i * lanes;
      for (int64_t o = 0; o < lanes; ++o) {
        int64_t sum = 0, odd = 0;
        for (int t = 0; t < c.taps; ++t) {
          const int64_t at = rows_.taps_of(c)[t] * lanes + o;
          sum += tap_sums[at];
          if (odd_less != 0) odd += odd_sums[at];
        }
        const int64_t first = bias[o] + (lowered[0] - h_.input_zero) * sum - odd_less * odd;
        start[o] = static_cast<int32_t>(static_cast<uint32_t>(first));
      }
    }
  }

  void run_panel(const RunArgs& run, int number, int first_chunk, int last_chunk,
                 ByteFetch& fetch) const {
    const ConvParams& p = h_.params;
    const BytePanel& panel = panels_.all()[number];
    const Tiling& tiling = tilings_[panel.vectors - 1];
    const TileSizes& sizes = kernels_.product_u8.sizes;
    const int64_t end = tiling.first_of_share(last_chunk, chunks_);

    const int taps = rows_.max_taps();
    std::uint8_t* scratch = run.scratch;
    auto** rows = take<const uint8_t*>(scratch, taps * kMaxTileRows);
    auto** residual = take<const uint8_t*>(scratch, kMaxTileRows);
    auto** out = take<void*>(scratch, kMaxTileRows);
    auto** weights = take<const int8_t*>(scratch, taps);
    auto** offsets = take<const int32_t*>(scratch, taps);
    auto* steps = take<int32_t>(scratch, taps);
    ProductU8Args args{};
    args.rows = rows;
    args.weights = weights;
    args.offsets = offsets;
    args.steps = steps;
    args.quads = (seen_.in_per_group + 3) / 4;
    args.scale = scale_ + panel.lanes;
    args.shift = shift_ + panel.lanes;
    args.out = out;
    args.residual = p.has_residual ? residual : nullptr;
    args.finish = &h_.finish;
    const int before = (panel.vectors - 1) * sizes.width;
    args.lanes = panel.columns - before;
    // The lanes that follow the last channel may be written: no partial vector is left then.
    const bool last = panel.first + panel.columns == p.output.c;
    if (last && p.output.padded && (!p.has_residual || p.residual.padded))
      args.lanes = std::min(sizes.width, (p.output.c + 15) / 16 * 16 - panel.first - before);

    const RowClass* current = nullptr;
    for (Tiling::Walk walk(tiling, tiling.first_of_share(first_chunk, chunks_));
         walk.index() < end;) {
      const Tile tile = walk.next();
      const int64_t image = walk.image();
      const RowClass& c = *tile.rows_of;
      fetch.tile();
      if (c.skipped && !p.has_residual) {
        for (int r = 0; r < tile.rows; ++r) {
          const int64_t pixel =
              image * p.output.h * p.output.w + rows_.output_pixel(tile.positions[r]);
          skip(run, pixel * p.output.stride + panel.first, panel.columns);
        }
        continue;
      }
      if (&c != current) {
        current = &c;
        for (int t = 0; t < c.taps; ++t) {
          const int tap = rows_.taps_of(c)[t];
          weights[t] = panels_.weights(number, tap);
          offsets[t] = panels_.offsets(number, tap);
          steps[t] = panels_.steps(number, tap);
        }
        args.taps = c.taps;
        args.start = starts_.data() + (&c - rows_.classes().data()) * panels_.lanes() + panel.lanes;
      }
      const int first_channel = panel.group * p.in_per_group - channels_before(p, panel.group);
      const uint8_t* in =
          run.in<uint8_t>(0) + image * p.input.h * p.input.w * p.input.stride + first_channel;
      if (pixelwise_ && c.taps == 1)
        for (int r = 0; r < tile.rows; ++r)
          rows[r] = in + rows_.output_pixel(tile.positions[r]) * p.input.stride;
      else
        rows_.point(tile, 0, c.taps, in, zeros_ + first_channel, rows);
      for (int r = 0; r < tile.rows; ++r) {
        const int64_t pixel =
            image * p.output.h * p.output.w + rows_.output_pixel(tile.positions[r]);
        out[r] = run.out<uint8_t>(0) + item_ * (pixel * p.output.stride + panel.first);
        if (p.has_residual)
          residual[r] = run.in<uint8_t>(1) + pixel * p.residual.stride + panel.first;
      }
      kernels_.product_u8.tile[panel.vectors - 1][tile.rows - 1](args);
      if (!fill_.empty()) fill(run, panel, tile, image);
    }
  }

  // Without a residual, a skipped position holds what no sum becomes.
  void skip(const RunArgs& run, int64_t first, int channels) const {
    const FinishU8& f = h_.finish;
    if (f.to_float)
      std::fill_n(run.out(0) + first, channels, 0.0f);
    else
      fill_bytes(run.out<uint8_t>(0) + first, skipped_, channels);
  }

  void fill(const RunArgs& run, const BytePanel& panel, const Tile& tile, int64_t image) const {
    const TensorDesc& out = h_.params.output;
    const int64_t first = image * out.h * out.w * out.stride;
    for (int r = 0; r < tile.rows; ++r) {
      const int64_t position = rows_.output_pixel(tile.positions[r]);
      if (out.dtype == DType::kU8)
        fill_.copy_from(run.out<uint8_t>(0) + first, position, position + 1, panel.first,
                        panel.columns);
      else
        fill_.copy_from(run.out(0) + first, position, position + 1, panel.first, panel.columns);
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  const char* feature_;
  const ConvParams seen_;
  BytePanels panels_;
  RowPlan rows_;
  SourceFill fill_;
  const bool pixelwise_;
  const int64_t item_;
  const int skipped_;            // what skipped positions hold
  std::vector<Tiling> tilings_;  // [vectors - 1]
  std::vector<int32_t> starts_;
  int chunks_;
  const float *scale_, *shift_;
  const uint8_t* zeros_;
};

Blob pack(const OpSpec& spec, Isa isa) {
  require_uint8(spec);
  Header h{};
  h.params = conv_params_of(spec, true);
  h.finish = finish_u8_of(spec);
  h.input_zero = zero_point_of(spec, "input_zero");
  const ConvParams& p = h.params;
  const float* scale = scale_of(spec, p.output.c);
  const int32_t* bias = bias_of(spec, p.output.c);
  const float* shift = shift_of(spec, p.output.c);
  h.joined = can_join(p);
  check(h);

  BlobWriter writer;
  writer.append<Header>(1);
  const auto* weight = static_cast<const int8_t*>(spec.array("weight")->data);
  const ConvParams seen = h.joined ? joined_taps(p) : p;
  std::vector<int8_t> side_by_side;
  if (h.joined) {  // (O, I, KH, KW) to (O, KW * 4, KH)
    side_by_side.resize(int64_t{p.output.c} * seen.in_per_group * seen.taps());
    for (int o = 0; o < p.output.c; ++o)
      for (int i = 0; i < p.in_per_group; ++i)
        for (int t = 0; t < p.taps(); ++t)
          side_by_side[(int64_t{o} * seen.in_per_group + 4 * (t % p.kernel_w) + i) * seen.taps() +
                       t / p.kernel_w] = weight[(int64_t{o} * p.in_per_group + i) * p.taps() + t];
    weight = side_by_side.data();
  }
  h.panels = BytePanels::pack(writer, seen, weight, isa);
  const std::vector<BytePanel> panels = BytePanels::cut(seen, isa);
  const int64_t lanes = lanes_of(panels, kernels_for(isa).product_u8.sizes.width);
  h.bias = writer.append<int32_t>(lanes);
  h.scale = writer.append<float>(lanes);
  h.shift = writer.append<float>(lanes);
  h.tap_sums = writer.append<int32_t>(lanes * seen.taps());
  h.odd_sums = writer.append<int32_t>(ConvU8::odd_sum_count(seen, lanes, isa));
  h.zeros = writer.append<uint8_t>(ConvU8::zero_bytes(p));
  std::fill_n(writer.at<uint8_t>(h.zeros), ConvU8::zero_bytes(p),
              static_cast<uint8_t>(h.input_zero));
  for (const BytePanel& panel : panels) {
    const int before = channels_before(seen, panel.group);
    for (int o = 0; o < panel.columns; ++o) {
      const int64_t lane = panel.lanes + o, channel = panel.first + o;
      if (bias != nullptr) writer.at<int32_t>(h.bias)[lane] = bias[channel];
      writer.at<float>(h.scale)[lane] = scale[channel];
      if (shift != nullptr) writer.at<float>(h.shift)[lane] = shift[channel];
      for (int t = 0; t < seen.taps(); ++t) {
        int32_t sums[2] = {0, 0};  // of even and odd quads
        for (int i = 0; i < seen.in_per_group; ++i)
          sums[(before + i) / 4 % 2] += weight[(channel * seen.in_per_group + i) * seen.taps() + t];
        writer.at<int32_t>(h.tap_sums)[t * lanes + lane] = sums[0] + sums[1];
        if (needs_odd_sums(isa)) writer.at<int32_t>(h.odd_sums)[t * lanes + lane] = sums[1];
      }
    }
  }
  h.rows = RowPlan::pack(writer, spec, seen, spec.array("source") == nullptr);
  h.fill = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa) {
  require_uint8(spec);
  const ArrayView* weight = spec.array("weight");
  if (spec.inputs[0].stride % 4 != 0) return "the input's pixels are no whole quads of channels";
  if (weight != nullptr && weight->size() / std::max<int64_t>(1, weight->shape[0]) > kMostDepth)
    return "sums of so many products may leave 32 bits";
  return RowPlan::unsupported(spec);
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv_u8", "direct", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvU8>(blob, isa);
           },
           true}};
}

}  // namespace activsparse::conv_u8
