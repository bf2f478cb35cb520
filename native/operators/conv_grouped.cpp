// Convolution with groups of few channels, in and out alike, of any kernel: a vector of channels is
// several groups, or one (kernels/grouped.h). Positions, taps and padding as in conv_direct.cpp.
//
// Loops, from outside: stretch of tiles, whose pointers serve all channels - vector of channels,
// whose weights stay in the first-level cache - tile of rows.
#include <algorithm>

#include "kernels/kernels.h"
#include "operators/conv_params.h"
#include "operators/depthwise_weights.h"
#include "operators/row_plan.h"
#include "operators/source_fill.h"

namespace activsparse::conv_grouped {
namespace {

constexpr int kMinTasks = 240;  // even shares for up to 24 threads
constexpr int kStretch = 48;    // rows

struct Header {
  ConvParams params;
  RowPlanHeader rows;
  SourceFillHeader fill;
  uint64_t weights, bias, skipped_value, zeros;
};

// The logarithm of a group's channels where they are a power of two, else 0.
int log_of(int64_t channels) {
  int log = 0;
  while ((int64_t{1} << log) < channels) ++log;
  return int64_t{1} << log == channels ? log : 0;
}

int64_t padded_channels(const ConvParams& p, int width) {
  return (int64_t{p.output.c} + width - 1) / width * width;
}

class ConvGrouped : public ConvOperator {
 public:
  ConvGrouped(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob)),
        kernels_(kernels_for(isa)),
        log_(log_of(h_.params.in_per_group)),
        rows_(blob, h_.rows, h_.params),
        fill_(blob, h_.fill, h_.params.output),
        tiling_(rows_, h_.params.output.n, most_rows(), h_.params.in_per_group, 8) {
    const ConvParams& p = h_.params;
    const int64_t channels = padded_channels(p, kernels_.width);
    weights_ = blob.array<float>(h_.weights, channels * p.taps() * p.in_per_group);
    bias_ = blob.array<float>(h_.bias, channels);
    skipped_value_ = blob.array<float>(h_.skipped_value, channels);
    zeros_ = blob.array<float>(h_.zeros, channels);
    whole_vectors_ = p.input.padded && p.output.padded && (!p.has_residual || p.residual.padded);
  }

  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return kMinTasks; }
  double cost(int, int begin, int end) const override {
    return tiling_.cost(tiling_.first_of_share(begin, kMinTasks),
                        tiling_.first_of_share(end, kMinTasks));
  }
  std::size_t scratch_bytes() const override {
    return (rows_.max_taps() + 2) * kStretch * sizeof(float*);
  }
  std::size_t index_bytes() const override { return rows_.bytes() + fill_.bytes(); }
  double macs() const override {
    const ConvParams& p = h_.params;
    return rows_.computed_taps() * p.in_per_group * p.output.c * p.output.n;
  }
  std::string kernel() const override {
    return std::string(kernels_.isa) + " " + std::to_string(most_rows()) + "x" +
           std::to_string(h_.params.in_per_group) + "x" + std::to_string(kernels_.width);
  }

  void run(const RunArgs& run, int, int begin, int end) const override {
    Stretch stretch{};
    const int64_t last = tiling_.first_of_share(end, kMinTasks);
    Tiling::Walk walk(tiling_, tiling_.first_of_share(begin, kMinTasks));
    while (walk.index() < last) {
      const Tile tile = walk.next();
      if (!stretch.takes(tile, walk.image())) {
        compute(run, stretch);
        stretch = {};
      }
      stretch.add(tile, walk.image());
    }
    compute(run, stretch);
  }

 private:
  // Neighbouring tiles of one class, image and height.
  struct Stretch {
    Tile first;
    int64_t image;
    int tiles;
    bool takes(const Tile& tile, int64_t of) const {
      return tiles == 0 || (tile.rows_of == first.rows_of && tile.rows == first.rows &&
                            of == image && (tiles + 1) * tile.rows <= kStretch);
    }
    void add(const Tile& tile, int64_t of) {
      if (tiles++ == 0) first = tile, image = of;
    }
  };

  int most_rows() const {
    require_packed(log_ > 0 && log_ <= kernels_.grouped_f32.sizes.max_vectors &&
                   h_.params.in_per_group == h_.params.out_per_group);
    return kernels_.grouped_f32.sizes.max_rows[log_ - 1];
  }

  void compute(const RunArgs& run, const Stretch& stretch) const {
    if (stretch.tiles == 0) return;
    const ConvParams& p = h_.params;
    const RowClass& c = *stretch.first.rows_of;
    const int rows = stretch.first.rows, all = rows * stretch.tiles;
    const float** pointers = reinterpret_cast<const float**>(run.scratch);
    const float** residual = pointers + int64_t{rows_.max_taps()} * kStretch;
    float** out = const_cast<float**>(residual + kStretch);
    const float* image = run.in(0) + stretch.image * p.input.h * p.input.w * p.input.stride;
    for (int i = 0; i < stretch.tiles; ++i)
      rows_.point({&c, stretch.first.positions + i * rows, rows}, 0, c.taps, image, zeros_,
                  pointers + int64_t{i} * c.taps * rows);
    for (int r = 0; r < all; ++r) {
      const int64_t pixel =
          stretch.image * p.output.h * p.output.w + rows_.output_pixel(stretch.first.positions[r]);
      out[r] = run.out(0) + pixel * p.output.stride;
      if (p.has_residual) residual[r] = run.in(1) + pixel * p.residual.stride;
    }
    GroupedArgs args{};
    args.rows = pointers;
    args.tap_list = rows_.taps_of(c);
    args.taps = c.taps;
    args.tiles = stretch.tiles;
    args.out = out;
    args.residual = p.has_residual ? residual : nullptr;
    args.epilogue = &p.epilogue;
    const auto tile = kernels_.grouped_f32.tile[log_ - 1][rows - 1];
    const int width = kernels_.width;
    for (int column = 0; column < p.output.c; column += width) {
      args.column = column;
      args.lanes = whole_vectors_ ? width : std::min(width, p.output.c - column);
      args.weights = weights_ + int64_t{column} * p.taps() * p.in_per_group;
      args.start = (c.skipped ? skipped_value_ : bias_) + column;
      tile(args);
    }
    if (fill_.empty()) return;
    float* to = run.out(0) + stretch.image * p.output.h * p.output.w * p.output.stride;
    for (int r = 0; r < all; ++r) {
      const int64_t position = rows_.output_pixel(stretch.first.positions[r]);
      fill_.copy_from(to, position, position + 1, 0, p.output.c);
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  int log_, whole_vectors_;
  RowPlan rows_;
  SourceFill fill_;
  Tiling tiling_;
  const float *weights_, *bias_, *skipped_value_, *zeros_;
};

// (vectors, taps, distances, lanes): see kernels/grouped.h; zero beyond the channels.
uint64_t pack_weights(BlobWriter& writer, const float* weight, const ConvParams& p, int width) {
  const int group = p.in_per_group, taps = p.taps();
  const uint64_t offset = writer.append<float>(padded_channels(p, width) * taps * group);
  float* packed = writer.at<float>(offset);
  for (int column = 0; column < p.output.c; column += width)
    for (int t = 0; t < taps; ++t)
      for (int distance = 0; distance < group; ++distance, packed += width)
        for (int lane = 0; lane < std::min(width, p.output.c - column); ++lane) {
          const int64_t output = column + (lane ^ distance);
          packed[lane] = weight[(output * group + lane % group) * taps + t];
        }
  return offset;
}

Blob pack(const OpSpec& spec, Isa isa) {
  const int width = kernels_for(isa).width;
  Header h{};
  h.params = conv_params_of(spec);
  const ConvParams& p = h.params;
  BlobWriter writer;
  writer.append<Header>(1);
  h.weights = pack_weights(writer, spec.float_array("weight"), p, width);
  const int64_t channels = padded_channels(p, width);
  h.bias = pack_channels(writer, spec.float_array("bias"), p, channels);
  h.skipped_value = pack_channels(writer, spec.float_array("skipped_value"), p, channels);
  h.zeros = pack_channels(writer, nullptr, p, channels);
  h.rows = RowPlan::pack(writer, spec, p, spec.array("source") == nullptr);
  h.fill = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa isa) {
  const int64_t groups = spec.int_or("group", 1);
  const int64_t channels = spec.inputs[0].c / groups;
  if (spec.inputs[0].c != spec.outputs[0].c) return "its groups have not as many outputs as inputs";
  const int log = log_of(channels);
  if (log == 0 || log > kernels_for(isa).grouped_f32.sizes.max_vectors)
    return "its groups are no whole parts of a vector";
  return RowPlan::unsupported(spec);
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv", "grouped", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvGrouped>(blob, isa);
           }}};
}

}  // namespace activsparse::conv_grouped
