// Depthwise convolution (group == input channels == output channels) of any kernel: tiles of up to
// 8 computed positions, all channels of a tile in one kernel call. Positions, taps and padding as
// in conv_direct.cpp.
#include <algorithm>

#include "kernels/kernels.h"
#include "operators/depthwise_weights.h"
#include "operators/row_plan.h"
#include "operators/source_fill.h"

namespace activsparse::conv_depthwise {
namespace {

constexpr int kMinTasks = 240;

struct Header {
  ConvParams params;
  RowPlanHeader rows;
  SourceFillHeader fill;
  int32_t padded_channels;
  uint64_t weights, bias, skipped_value, zeros;
};

class ConvDepthwise : public ConvOperator {
 public:
  ConvDepthwise(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob)),
        kernels_(kernels_for(isa)),
        rows_(blob, h_.rows, h_.params),
        fill_(blob, h_.fill, h_.params.output),
        tiling_(rows_, h_.params.output.n, kDepthwiseRows, 1, 1) {
    const ConvParams& p = h_.params;
    require_packed(is_depthwise(p) && h_.padded_channels >= p.output.c &&
                   h_.padded_channels % kernels_.width == 0);
    weights_ = blob.array<float>(h_.weights, int64_t{p.taps()} * h_.padded_channels);
    bias_ = blob.array<float>(h_.bias, h_.padded_channels);
    skipped_value_ = blob.array<float>(h_.skipped_value, h_.padded_channels);
    zeros_ = blob.array<float>(h_.zeros, h_.padded_channels);
  }

  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return kMinTasks; }
  double cost(int, int begin, int end) const override {
    return tiling_.cost(tiling_.first_of_share(begin, kMinTasks),
                        tiling_.first_of_share(end, kMinTasks));
  }
  std::size_t scratch_bytes() const override {
    return (rows_.max_taps() * (kDepthwiseRows + 1) + 2 * kDepthwiseRows) * sizeof(float*);
  }
  std::size_t index_bytes() const override { return rows_.bytes() + fill_.bytes(); }
  Constants constants() const override {
    return {weights_, int64_t{h_.params.taps()} * h_.padded_channels};
  }
  double macs() const override {
    return rows_.computed_taps() * h_.params.output.c * h_.params.output.n;
  }
  std::string kernel() const override {
    return std::string(kernels_.isa) + " " + std::to_string(kDepthwiseRows) + "x" +
           std::to_string(kernels_.width);
  }

  void run(const RunArgs& run, int, int begin, int end) const override {
    const ConvParams& p = h_.params;
    const float** rows = reinterpret_cast<const float**>(run.scratch);
    const float** residual = rows + rows_.max_taps() * kDepthwiseRows;
    float** out = const_cast<float**>(residual + kDepthwiseRows);
    const float** weights = const_cast<const float**>(out + kDepthwiseRows);
    DepthwiseArgs args{};
    args.rows = rows;
    args.weights = weights;
    args.channels = p.output.c;
    args.out = out;
    args.residual = p.has_residual ? residual : nullptr;
    args.epilogue = &p.epilogue;
    args.whole_vectors =
        p.input.padded && p.output.padded && (!p.has_residual || p.residual.padded);
    const RowClass* current = nullptr;
    const int64_t last = tiling_.first_of_share(end, kMinTasks);
    for (Tiling::Walk walk(tiling_, tiling_.first_of_share(begin, kMinTasks));
         walk.index() < last;) {
      const Tile tile = walk.next();
      const int64_t image = walk.image();
      const RowClass& c = *tile.rows_of;
      if (&c != current) {
        current = &c;
        args.taps = c.taps;
        args.start = c.skipped ? skipped_value_ : bias_;
        for (int t = 0; t < c.taps; ++t)
          weights[t] = weights_ + int64_t{rows_.taps_of(c)[t]} * h_.padded_channels;
      }
      rows_.point(tile, 0, c.taps, run.in(0) + image * p.input.h * p.input.w * p.input.stride,
                  zeros_, rows);
      for (int r = 0; r < tile.rows; ++r) {
        const int64_t pixel =
            image * p.output.h * p.output.w + rows_.output_pixel(tile.positions[r]);
        out[r] = run.out(0) + pixel * p.output.stride;
        if (p.has_residual) residual[r] = run.in(1) + pixel * p.residual.stride;
      }
      kernels_.depthwise_f32.tile[tile.rows - 1](args);
      if (fill_.empty()) continue;
      float* to = run.out(0) + image * p.output.h * p.output.w * p.output.stride;
      for (int r = 0; r < tile.rows; ++r) {
        const int64_t position = rows_.output_pixel(tile.positions[r]);
        fill_.copy_from(to, position, position + 1, 0, p.output.c);
      }
    }
  }

 private:
  const Header& h_;
  const Kernels& kernels_;
  RowPlan rows_;
  SourceFill fill_;
  Tiling tiling_;
  const float *weights_, *bias_, *skipped_value_, *zeros_;
};

Blob pack(const OpSpec& spec, Isa isa) {
  const int width = kernels_for(isa).width;
  Header h{};
  h.params = conv_params_of(spec);
  const ConvParams& p = h.params;
  h.padded_channels = (p.output.c + width - 1) / width * width;
  BlobWriter writer;
  writer.append<Header>(1);
  h.weights = pack_depthwise_weights(writer, spec, p, h.padded_channels);
  h.bias = pack_channels(writer, spec.float_array("bias"), p, h.padded_channels);
  h.skipped_value = pack_channels(writer, spec.float_array("skipped_value"), p, h.padded_channels);
  h.zeros = pack_channels(writer, nullptr, p, h.padded_channels);
  h.rows = RowPlan::pack(writer, spec, p, spec.array("source") == nullptr);
  h.fill = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa) {
  const int64_t group = spec.int_or("group", 1);
  if (spec.inputs[0].c != group || spec.outputs[0].c != group) return "it is not depthwise";
  return RowPlan::unsupported(spec);
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv", "depthwise", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvDepthwise>(blob, isa);
           }}};
}

}  // namespace activsparse::conv_depthwise
