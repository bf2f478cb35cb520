// Depthwise convolution in float16: as conv_depthwise.cpp, of at most kMostHalfTerms taps, which
// are added in float16.
#include <algorithm>

#include "kernels/kernels.h"
#include "operators/conv_params.h"
#include "operators/row_plan.h"
#include "operators/source_fill.h"

namespace activsparse::depthwise_f16 {
namespace {

constexpr int kMinTasks = 240;

struct Header {
  ConvParams params;
  RowPlanHeader rows;
  SourceFillHeader fill;
  int32_t padded_channels;
  uint64_t weights, bias, skipped_value, zeros;
};

class DepthwiseF16 : public ConvOperator {
 public:
  DepthwiseF16(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob, false, DType::kFloat16)),
        kernels_(kernels_for(isa)),
        rows_(blob, h_.rows, h_.params),
        fill_(blob, h_.fill, h_.params.output),
        tiling_(rows_, h_.params.output.n, kDepthwiseF16Rows, 1, 1) {
    const ConvParams& p = h_.params;
    require_packed(is_depthwise(p) && p.taps() <= kMostHalfTerms);
    require_packed(h_.padded_channels >= p.output.c &&
                   h_.padded_channels % kernels_.channels_f16.sizes.width == 0);
    weights_ = blob.array<Half>(h_.weights, int64_t{p.taps()} * h_.padded_channels);
    bias_ = blob.array<float>(h_.bias, h_.padded_channels);
    skipped_value_ = blob.array<float>(h_.skipped_value, h_.padded_channels);
    zeros_ = blob.array<Half>(h_.zeros, h_.padded_channels);
  }

  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return kMinTasks; }
  double cost(int, int begin, int end) const override {
    return tiling_.cost(tiling_.first_of_share(begin, kMinTasks),
                        tiling_.first_of_share(end, kMinTasks));
  }
  std::size_t scratch_bytes() const override {
    return (rows_.max_taps() * (kDepthwiseF16Rows + 1) + 2 * kDepthwiseF16Rows) * sizeof(Half*);
  }
  std::size_t index_bytes() const override { return rows_.bytes() + fill_.bytes(); }
  double macs() const override {
    return rows_.computed_taps() * h_.params.output.c * h_.params.output.n;
  }
  std::string kernel() const override {
    return std::string(kernels_.isa) + " float16 " + std::to_string(kDepthwiseF16Rows) + "x" +
           std::to_string(kernels_.channels_f16.sizes.width);
  }

  void run(const RunArgs& run, int, int begin, int end) const override {
    const ConvParams& p = h_.params;
    const Half** rows = reinterpret_cast<const Half**>(run.scratch);
    const Half** residual = rows + std::size_t{1} * rows_.max_taps() * kDepthwiseF16Rows;
    Half** out = const_cast<Half**>(residual + kDepthwiseF16Rows);
    const Half** weights = const_cast<const Half**>(out + kDepthwiseF16Rows);
    DepthwiseF16Args args{};
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
      rows_.point(tile, 0, c.taps, run.in<Half>(0) + image * p.input.h * p.input.w * p.input.stride,
                  zeros_, rows);
      for (int r = 0; r < tile.rows; ++r) {
        const int64_t pixel =
            image * p.output.h * p.output.w + rows_.output_pixel(tile.positions[r]);
        out[r] = run.out<Half>(0) + pixel * p.output.stride;
        if (p.has_residual) residual[r] = run.in<Half>(1) + pixel * p.residual.stride;
      }
      kernels_.channels_f16.tile[tile.rows - 1](args);
      if (fill_.empty()) continue;
      Half* to = run.out<Half>(0) + image * p.output.h * p.output.w * p.output.stride;
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
  const Half *weights_, *zeros_;
  const float *bias_, *skipped_value_;
};

Blob pack(const OpSpec& spec, Isa isa) {
  const int width = kernels_for(isa).channels_f16.sizes.width;
  Header h{};
  h.params = conv_params_of(spec, DType::kFloat16);
  const ConvParams& p = h.params;
  h.padded_channels = (p.output.c + width - 1) / width * width;
  BlobWriter writer;
  writer.append<Header>(1);
  h.weights = writer.append<Half>(int64_t{p.taps()} * h.padded_channels);
  const float* weight = spec.float_array("weight");
  for (int t = 0; t < p.taps(); ++t)
    for (int c = 0; c < p.output.c; ++c)
      writer.at<Half>(h.weights)[t * h.padded_channels + c] =
          half_of(weight[int64_t{c} * p.taps() + t]);
  const auto of_channels = [&](const char* name) {
    const uint64_t offset = writer.append<float>(h.padded_channels);
    if (const float* values = spec.float_array(name))
      std::copy_n(values, p.output.c, writer.at<float>(offset));
    return offset;
  };
  h.bias = of_channels("bias");
  h.skipped_value = of_channels("skipped_value");
  h.zeros = writer.append<Half>(h.padded_channels);
  h.rows = RowPlan::pack(writer, spec, p, spec.array("source") == nullptr);
  h.fill = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa) {
  const int64_t group = spec.int_or("group", 1);
  if (spec.inputs[0].c != group || spec.outputs[0].c != group) return "it is not depthwise";
  const ArrayView* weight = spec.array("weight");
  if (weight != nullptr && weight->shape.size() == 4 &&
      weight->shape[2] * weight->shape[3] > kMostHalfTerms)
    return "its kernel has too many taps for a sum in float16";
  return RowPlan::unsupported(spec);
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv", "depthwise_f16", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             require_halves(isa);
             return std::make_unique<DepthwiseF16>(blob, isa);
           },
           bit(DType::kFloat16)}};
}

}  // namespace activsparse::depthwise_f16
