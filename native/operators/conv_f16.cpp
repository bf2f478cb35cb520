// Convolutions and fully connected layers in float16, direct: positions, classes of taps, tiles and
// fills as in conv_direct.cpp. Weights are rounded to float16; bias and value of skipped positions
// stay float32.
//
// Loops, from outside: panel of output channels - tile of rows - taps. A panel's weights, of all
// taps, stay in the second-level cache: of 512 channels and 3x3 taps they are 288 KiB.
#include <algorithm>

#include "kernels/kernels.h"
#include "operators/conv_params.h"
#include "operators/row_plan.h"
#include "operators/source_fill.h"

namespace activsparse::conv_f16 {
namespace {

constexpr int kMinTasks = 240;  // even shares for up to 24 threads

struct Header {
  ConvParams params;
  RowPlanHeader rows;
  SourceFillHeader fill;
  uint64_t weights, bias, skipped_value, zeros;
};

// Some output channels of a group: up to `vectors` vectors, as even as can be.
struct HalvesPanel {
  int group, first, columns, vectors;
  int64_t weights, lanes;  // elements before its own: of all weights, and of what channels have
};

class HalvesPanels {
 public:
  HalvesPanels(const ConvParams& p, const TileSizes& sizes) : width_(sizes.width) {
    const int vectors = (p.out_per_group + width_ - 1) / width_;
    const int most = std::max(1, sizes.usual_vectors());
    const int count = (vectors + most - 1) / most;
    const int64_t depth = int64_t{p.taps()} * p.in_per_group;
    for (int group = 0; group < p.group; ++group)
      for (int i = 0, done = 0; i < count; ++i) {
        const int take = (vectors - done + count - i - 1) / (count - i);
        const int first = done * width_;
        panels_.push_back({group, group * p.out_per_group + first,
                           std::min(take * width_, p.out_per_group - first), take, lanes_ * depth,
                           lanes_});
        lanes_ += int64_t{take} * width_;
        done += take;
      }
  }
  const std::vector<HalvesPanel>& all() const { return panels_; }
  int64_t lanes() const { return lanes_; }
  int width() const { return width_; }

 private:
  int width_;
  int64_t lanes_ = 0;
  std::vector<HalvesPanel> panels_;
};

class ConvF16 : public ConvOperator {
 public:
  ConvF16(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob, false, DType::kFloat16)),
        kernels_(kernels_for(isa)),
        panels_(h_.params, kernels_.halves_f16.sizes),
        rows_(blob, h_.rows, h_.params),
        fill_(blob, h_.fill, h_.params.output) {
    const ConvParams& p = h_.params;
    weights_ = blob.array<Half>(h_.weights, panels_.lanes() * p.taps() * p.in_per_group);
    bias_ = blob.array<float>(h_.bias, panels_.lanes());
    skipped_value_ = blob.array<float>(h_.skipped_value, panels_.lanes());
    zeros_ = blob.array<Half>(h_.zeros, p.in_per_group);
    for (int i = 0; i < kernels_.halves_f16.sizes.max_vectors; ++i)
      tilings_.emplace_back(rows_, p.output.n, kernels_.halves_f16.sizes.max_rows[i],
                            p.in_per_group, 8);
    const int panels = static_cast<int>(panels_.all().size());
    chunks_ = std::max(1, (kMinTasks + panels - 1) / panels);
  }

  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return chunks_ * static_cast<int>(panels_.all().size()); }
  double cost(int, int begin, int end) const override {
    double sum = 0;
    for (int stop; begin < end; begin = stop) {
      const int i = begin / chunks_;
      stop = std::min(end, (i + 1) * chunks_);
      const HalvesPanel& panel = panels_.all()[i];
      const Tiling& tiling = tilings_[panel.vectors - 1];
      sum += panel.vectors * panels_.width() *
             tiling.cost(tiling.first_of_share(begin - i * chunks_, chunks_),
                         tiling.first_of_share(stop - i * chunks_, chunks_));
    }
    return sum;
  }
  std::size_t scratch_bytes() const override {
    const std::size_t taps = rows_.max_taps();
    return ((taps + 2) * kMaxTileRows + h_.params.taps()) * sizeof(Half*);
  }
  std::size_t index_bytes() const override { return rows_.bytes() + fill_.bytes(); }
  double macs() const override {
    const ConvParams& p = h_.params;
    return rows_.computed_taps() * p.in_per_group * p.output.c * p.output.n;
  }
  std::string kernel() const override {
    const int vectors = panels_.all()[0].vectors;
    return std::string(kernels_.isa) + " float16 " +
           std::to_string(kernels_.halves_f16.sizes.max_rows[vectors - 1]) + "x" +
           std::to_string(vectors * panels_.width());
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    while (begin < end) {
      const int i = begin / chunks_;
      const int stop = std::min(end, (i + 1) * chunks_);
      run_panel(args, panels_.all()[i], begin - i * chunks_, stop - i * chunks_);
      begin = stop;
    }
  }

 private:
  void set_lanes(ProductF16Args& args, const HalvesPanel& panel) const {
    const int last = (panel.vectors - 1) * panels_.width();
    const TensorDesc& output = h_.params.output;
    args.lanes = args.store_lanes = panel.columns - last;
    if (!output.padded || panel.first + panel.columns != output.c) return;
    const int room = (output.c + 15) / 16 * 16 - panel.first - last;
    args.store_lanes = std::min(room, panels_.width());
  }

  void run_panel(const RunArgs& run, const HalvesPanel& panel, int first_chunk,
                 int last_chunk) const {
    const ConvParams& p = h_.params;
    const Tiling& tiling = tilings_[panel.vectors - 1];
    const int64_t end = tiling.first_of_share(last_chunk, chunks_);
    const int64_t tap_size = int64_t{p.in_per_group} * panel.vectors * panels_.width();

    const Half** rows = reinterpret_cast<const Half**>(run.scratch);
    const Half** residual = rows + std::size_t{1} * rows_.max_taps() * kMaxTileRows;
    Half** out = const_cast<Half**>(residual + kMaxTileRows);
    const Half** weights = const_cast<const Half**>(out + kMaxTileRows);
    ProductF16Args args{};
    args.rows = rows;
    args.weights = weights;
    args.channels = p.in_per_group;
    args.out = out;
    args.residual = p.has_residual ? residual : nullptr;
    args.epilogue = &p.epilogue;
    set_lanes(args, panel);

    const RowClass* current = nullptr;
    for (Tiling::Walk walk(tiling, tiling.first_of_share(first_chunk, chunks_));
         walk.index() < end;) {
      const Tile tile = walk.next();
      const int64_t image = walk.image();
      const RowClass& c = *tile.rows_of;
      if (&c != current) {
        current = &c;
        args.taps = c.taps;
        args.start = (c.skipped ? skipped_value_ : bias_) + panel.lanes;
        for (int t = 0; t < c.taps; ++t)
          weights[t] = weights_ + panel.weights + rows_.taps_of(c)[t] * tap_size;
      }
      rows_.point(tile, 0, c.taps,
                  run.in<Half>(0) + image * p.input.h * p.input.w * p.input.stride +
                      int64_t{panel.group} * p.in_per_group,
                  zeros_, rows);
      for (int r = 0; r < tile.rows; ++r) {
        const int64_t pixel =
            image * p.output.h * p.output.w + rows_.output_pixel(tile.positions[r]);
        out[r] = run.out<Half>(0) + pixel * p.output.stride + panel.first;
        if (p.has_residual) residual[r] = run.in<Half>(1) + pixel * p.residual.stride + panel.first;
      }
      kernels_.halves_f16.tile[panel.vectors - 1][tile.rows - 1](args);
      if (fill_.empty()) continue;
      Half* to = run.out<Half>(0) + image * p.output.h * p.output.w * p.output.stride;
      for (int r = 0; r < tile.rows; ++r) {
        const int64_t position = rows_.output_pixel(tile.positions[r]);
        fill_.copy_from(to, position, position + 1, panel.first, panel.columns);
      }
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  HalvesPanels panels_;
  RowPlan rows_;
  SourceFill fill_;
  std::vector<Tiling> tilings_;  // [vectors - 1]
  int chunks_;
  const Half *weights_, *zeros_;
  const float *bias_, *skipped_value_;
};

Blob pack_product(const OpSpec& spec, const ConvParams& p, Isa isa) {
  Header h{};
  h.params = p;
  const HalvesPanels panels(p, kernels_for(isa).halves_f16.sizes);
  BlobWriter writer;
  writer.append<Header>(1);
  h.weights = writer.append<Half>(panels.lanes() * p.taps() * p.in_per_group);
  const float* weight = spec.float_array("weight");
  for (const HalvesPanel& panel : panels.all()) {
    Half* at = writer.at<Half>(h.weights) + panel.weights;
    for (int tap = 0; tap < p.taps(); ++tap)
      for (int c = 0; c < p.in_per_group; ++c, at += panel.vectors * panels.width())
        for (int o = 0; o < panel.columns; ++o)
          at[o] = half_of(weight[(int64_t{panel.first + o} * p.in_per_group + c) * p.taps() + tap]);
  }
  const auto of_channels = [&](const char* name) {
    const uint64_t offset = writer.append<float>(panels.lanes());
    if (const float* values = spec.float_array(name))
      for (const HalvesPanel& panel : panels.all())
        std::copy_n(values + panel.first, panel.columns, writer.at<float>(offset) + panel.lanes);
    return offset;
  };
  h.bias = of_channels("bias");
  h.skipped_value = of_channels("skipped_value");
  h.zeros = writer.append<Half>(p.in_per_group);
  h.rows = RowPlan::pack(writer, spec, p, spec.array("source") == nullptr);
  h.fill = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::unique_ptr<Operator> create(const BlobView& blob, Isa isa) {
  require_halves(isa);
  return std::make_unique<ConvF16>(blob, isa);
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv", "direct_f16", [](const OpSpec& spec, Isa) { return RowPlan::unsupported(spec); },
           [](const OpSpec& spec, Isa isa) {
             return pack_product(spec, conv_params_of(spec, DType::kFloat16), isa);
           },
           create, bit(DType::kFloat16)},
          {"gemm", "direct_f16", [](const OpSpec&, Isa) { return std::string(); },
           [](const OpSpec& spec, Isa isa) {
             return pack_product(spec, gemm_params_of(spec, DType::kFloat16), isa);
           },
           create, bit(DType::kFloat16)}};
}

}  // namespace activsparse::conv_f16
