// Direct convolution: a matrix product whose left rows are read where they lie in the input, one
// pointer per row and tap, and whose result rows are written where they belong in the output. A
// mask only leaves rows out.
//
// Loops, from outside: panel of output channels - block of taps whose weights stay in the
// second-level cache - tile of rows. A panel that needs several blocks of taps keeps its partial
// sums in the output, so the output must not share memory with the residual or the input.
#include <algorithm>

#include "operators/conv_params.h"
#include "operators/panels.h"
#include "operators/row_plan.h"
#include "operators/source_fill.h"

namespace activsparse::conv_direct {
namespace {

// Weights of one block of taps: the rest of the second-level cache is for the rows that pass
// through.
constexpr int64_t kPanelShare = 600;
constexpr int kMinTasks = 240;  // even shares for up to 24 threads

struct Header {
  ConvParams params;
  RowPlanHeader rows;
  SourceFillHeader fill;
  int32_t max_vectors;
  WeightsHeader weights;
  uint64_t bias, skipped_value, zeros;
};

class ConvDirect : public ConvOperator {
 public:
  ConvDirect(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob)),
        kernels_(kernels_for(isa)),
        panels_(panels_of(h_.params, kernels_, h_.max_vectors)),
        rows_(blob, h_.rows, h_.params),
        fill_(blob, h_.fill, h_.params.output) {
    const ConvParams& p = h_.params;
    weights_ = panels_.weights(blob, h_.weights);
    bias_ = blob.array<float>(h_.bias, panels_.channel_floats());
    skipped_value_ = blob.array<float>(h_.skipped_value, panels_.channel_floats());
    zeros_ = blob.array<float>(h_.zeros, p.in_per_group);
    for (int i = 0; i < kernels_.gemm_f32.sizes.max_vectors; ++i)
      tilings_.emplace_back(rows_, p.output.n, kernels_.gemm_f32.sizes.max_rows[i], p.in_per_group,
                            8);
    const int blocks = static_cast<int>(panels_.all().size());
    chunks_ = std::max(1, (kMinTasks + blocks - 1) / blocks);
  }

  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return chunks_ * static_cast<int>(panels_.all().size()); }
  double cost(int, int begin, int end) const override {
    double sum = 0;
    for (int stop; begin < end; begin = stop) {
      const int block = begin / chunks_;
      stop = std::min(end, (block + 1) * chunks_);
      const Panel& panel = panels_.all()[block];
      const Tiling& tiling = tilings_[panel.vectors - 1];
      sum += panel.vectors * panel.width *
             tiling.cost(tiling.first_of_share(begin - block * chunks_, chunks_),
                         tiling.first_of_share(stop - block * chunks_, chunks_));
    }
    return sum;
  }
  std::size_t scratch_bytes() const override {
    int64_t room = 0;
    for (const Panel& panel : panels_.all())
      room = std::max(room, tap_floats(panel) * block_taps(panel));
    return list_bytes() + (weights_.half() ? room * sizeof(float) : 0);
  }
  bool half_weights() const override { return weights_.half(); }
  std::size_t index_bytes() const override { return rows_.bytes() + fill_.bytes(); }
  double macs() const override {
    const ConvParams& p = h_.params;
    return rows_.computed_taps() * p.in_per_group * p.output.c * p.output.n;
  }
  std::string kernel() const override {
    const int vectors = panels_.all()[0].vectors;
    return std::string(kernels_.isa) + " " +
           std::to_string(kernels_.gemm_f32.sizes.max_rows[vectors - 1]) + "x" +
           std::to_string(vectors * kernels_.width);
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    // Neighbouring tasks of one panel become one stretch of tiles, so that its weights are fetched
    // once.
    while (begin < end) {
      const int block = begin / chunks_;
      const int stop = std::min(end, (block + 1) * chunks_);
      run_panel(args, panels_.all()[block], begin - block * chunks_, stop - block * chunks_);
      begin = stop;
    }
  }

 private:
  // In whole cache lines.
  std::size_t list_bytes() const {
    const std::size_t taps = rows_.max_taps();
    return (((taps + 2) * kMaxTileRows + h_.params.taps()) * sizeof(float*) + 63) / 64 * 64;
  }
  int64_t tap_floats(const Panel& panel) const {
    return int64_t{h_.params.in_per_group} * panel.vectors * kernels_.width;
  }
  int block_taps(const Panel& panel) const {
    const int64_t floats = kernels_.caches.of_l2(kPanelShare) / int64_t{sizeof(float)};
    return static_cast<int>(std::clamp<int64_t>(floats / tap_floats(panel), 1, h_.params.taps()));
  }

  void run_panel(const RunArgs& run, const Panel& panel, int first_chunk, int last_chunk) const {
    const ConvParams& p = h_.params;
    const Tiling& tiling = tilings_[panel.vectors - 1];
    const int64_t begin = tiling.first_of_share(first_chunk, chunks_);
    const int64_t end = tiling.first_of_share(last_chunk, chunks_);
    const int64_t tap_floats = this->tap_floats(panel);
    const int blocks = (p.taps() + block_taps(panel) - 1) / block_taps(panel);

    const float** rows = reinterpret_cast<const float**>(run.scratch);
    const float** residual = rows + rows_.max_taps() * kMaxTileRows;
    float** out = const_cast<float**>(residual + kMaxTileRows);
    const float** weights = const_cast<const float**>(out + kMaxTileRows);
    float* room = reinterpret_cast<float*>(run.scratch + list_bytes());
    GemmArgs args{};
    args.rows = rows;
    args.weights = weights;
    args.channels = p.in_per_group;
    args.out = out;
    set_lanes(args, panel, p.output);

    for (int block = 0; block < blocks; ++block) {
      const int first_tap = p.taps() * block / blocks, last_tap = p.taps() * (block + 1) / blocks;
      const float* block_weights =
          weights_.wide(kernels_, panels_.index_of(panel), panel.weights + first_tap * tap_floats,
                        (last_tap - first_tap) * tap_floats, room);
      const RowClass* current = nullptr;
      int first = 0, last = 0;
      for (Tiling::Walk walk(tiling, begin); walk.index() < end;) {
        const Tile tile = walk.next();
        const int64_t image = walk.image();
        const RowClass& c = *tile.rows_of;
        if (&c != current) {
          current = &c;
          const int32_t* taps = rows_.taps_of(c);
          first = static_cast<int>(std::lower_bound(taps, taps + c.taps, first_tap) - taps);
          last = static_cast<int>(std::lower_bound(taps, taps + c.taps, last_tap) - taps);
          for (int t = first; t < last; ++t)
            weights[t - first] = block_weights + (taps[t] - first_tap) * tap_floats;
        }
        if (first == last && !(c.taps == 0 && block == 0)) continue;
        const bool final = last == c.taps;
        args.taps = last - first;
        args.start = first > 0 ? nullptr : (c.skipped ? skipped_value_ : bias_) + panel.channels;
        args.epilogue = final ? &p.epilogue : nullptr;
        args.residual = final && p.has_residual ? residual : nullptr;
        rows_.point(tile, first, last,
                    run.in(0) + image * p.input.h * p.input.w * p.input.stride +
                        panel.group * p.in_per_group,
                    zeros_, rows);
        for (int r = 0; r < tile.rows; ++r) {
          const int64_t pixel =
              image * p.output.h * p.output.w + rows_.output_pixel(tile.positions[r]);
          out[r] = run.out(0) + pixel * p.output.stride + panel.first;
          if (p.has_residual) residual[r] = run.in(1) + pixel * p.residual.stride + panel.first;
        }
        kernels_.gemm_f32.tile[panel.vectors - 1][tile.rows - 1](args);
        if (fill_.empty() || !final) continue;
        float* to = run.out(0) + image * p.output.h * p.output.w * p.output.stride;
        for (int r = 0; r < tile.rows; ++r) {
          const int64_t position = rows_.output_pixel(tile.positions[r]);
          fill_.copy_from(to, position, position + 1, panel.first, panel.columns);
        }
      }
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  Panels panels_;
  RowPlan rows_;
  SourceFill fill_;
  std::vector<Tiling> tilings_;  // [vectors - 1]
  int chunks_;
  Weights weights_;
  const float *bias_, *skipped_value_, *zeros_;
};

Blob pack(const OpSpec& spec, Isa isa) {
  const Kernels& kernels = kernels_for(isa);
  Header h{};
  h.params = conv_params_of(spec);
  const ConvParams& p = h.params;
  h.max_vectors = kernels.gemm_f32.sizes.max_vectors;
  const Panels panels = panels_of(p, kernels, h.max_vectors);

  BlobWriter writer;
  writer.append<Header>(1);
  const float* weight = spec.float_array("weight");
  h.weights = panels.pack_weights(writer, wants_half(spec), [&](int o, int64_t k) {
    const int64_t tap = k / p.in_per_group, c = k % p.in_per_group;
    return weight[(int64_t{o} * p.in_per_group + c) * p.taps() + tap];
  });
  h.bias = panels.pack_channels(writer, spec.float_array("bias"));
  h.skipped_value = panels.pack_channels(writer, spec.float_array("skipped_value"));
  h.zeros = writer.append<float>(p.in_per_group);
  h.rows = RowPlan::pack(writer, spec, p, spec.array("source") == nullptr);
  h.fill = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv", "direct", [](const OpSpec& spec, Isa) { return RowPlan::unsupported(spec); },
           pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvDirect>(blob, isa);
           }}};
}

}  // namespace activsparse::conv_direct
