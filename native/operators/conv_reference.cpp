// The definition of a convolution, in double precision and in the order it is written on paper: the
// oracle every other algorithm is tested against. It ignores `input_mask`, which never changes a
// result.
#include <vector>

#include "operators/conv_params.h"

namespace activsparse::conv_reference {
namespace {

struct Header {
  ConvParams params;
  int32_t has_mask, has_source;
  uint64_t weight, bias, mask, skipped_value, source;
};

class ConvReference : public ConvOperator {
 public:
  explicit ConvReference(const BlobView& blob) : h_(conv_header<Header>(blob, true)) {
    const ConvParams& p = h_.params;
    const int64_t positions = int64_t{p.output.h} * p.output.w;
    weight_ = blob.array<float>(h_.weight, int64_t{p.output.c} * p.in_per_group * p.taps());
    bias_ = blob.array<float>(h_.bias, p.output.c);
    skipped_value_ = blob.array<float>(h_.skipped_value, p.output.c);
    mask_ = h_.has_mask ? blob.array<uint8_t>(h_.mask, positions) : nullptr;
    source_ = h_.has_source ? blob.array<int32_t>(h_.source, positions) : nullptr;
    for (int64_t i = 0; source_ && i < positions; ++i)
      require_packed(source_[i] >= -1 && source_[i] < positions);
  }
  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return static_cast<int>(h_.params.output.pixels()); }
  std::string kernel() const override { return "scalar naive"; }

  void run(const RunArgs& args, int, int begin, int end) const override {
    const ConvParams& p = h_.params;
    const int positions = p.output.h * p.output.w;
    for (int pixel = begin; pixel < end; ++pixel) {
      const int image = pixel / positions, position = pixel % positions;
      const int computed = source_ ? source_[position] : position;
      if (computed < 0) continue;  // nobody reads it
      for (int o = 0; o < p.output.c; ++o) {
        double value = !mask_ || mask_[computed] ? convolve(args.in(0), image, computed, o)
                                                 : double{skipped_value_[o]};
        if (p.has_residual) value += args.in(1)[int64_t{pixel} * p.residual.stride + o];
        args.out(0)[int64_t{pixel} * p.output.stride + o] =
            activate(static_cast<float>(value), p.epilogue);
      }
    }
  }

 private:
  double convolve(const float* input, int image, int position, int o) const {
    const ConvParams& p = h_.params;
    const int oy = position / p.output.w, ox = position % p.output.w;
    const int first_channel = o / p.out_per_group * p.in_per_group;
    double sum = bias_[o];
    for (int c = 0; c < p.in_per_group; ++c)
      for (int ky = 0; ky < p.kernel_h; ++ky)
        for (int kx = 0; kx < p.kernel_w; ++kx) {
          const int64_t at = p.input_pixel(oy, ox, ky, kx);
          if (at < 0) continue;
          const float w =
              weight_[((int64_t{o} * p.in_per_group + c) * p.kernel_h + ky) * p.kernel_w + kx];
          sum += double{input[input_index(image, at, first_channel + c)]} * w;
        }
    return sum;
  }

  int64_t input_index(int64_t image, int64_t position, int c) const {
    const TensorDesc& in = h_.params.input;
    const int64_t positions = int64_t{in.h} * in.w;
    if (in.nchw) return (image * in.c + c) * positions + position;
    return (image * positions + position) * in.stride + c;
  }

  const Header& h_;
  const float *weight_, *bias_, *skipped_value_;
  const uint8_t* mask_;
  const int32_t* source_;
};

uint64_t append_or_zeros(BlobWriter& writer, const ArrayView* values, int64_t count) {
  return values ? writer.append(static_cast<const float*>(values->data), count)
                : writer.append<float>(count);
}

Blob pack(const OpSpec& spec, Isa) {
  Header h{};
  h.params = conv_params_of(spec);
  BlobWriter writer;
  writer.append<Header>(1);
  const ArrayView* weight = spec.array("weight");
  h.weight = writer.append(static_cast<const float*>(weight->data), weight->size());
  h.bias = append_or_zeros(writer, spec.array("bias"), h.params.output.c);
  h.skipped_value = append_or_zeros(writer, spec.array("skipped_value"), h.params.output.c);
  if (const ArrayView* mask = spec.array("mask")) {
    h.has_mask = 1;
    h.mask = writer.append(static_cast<const uint8_t*>(mask->data), mask->size());
  }
  if (const ArrayView* source = spec.array("source")) {
    h.has_source = 1;
    h.source = writer.append(static_cast<const int32_t*>(source->data), source->size());
  }
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv", "reference",
           [](const OpSpec& spec, Isa) {
             return std::string(spec.outputs[0].nchw ? "the output is NCHW" : "");
           },
           pack,
           [](const BlobView& blob, Isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvReference>(blob);
           }}};
}

}  // namespace activsparse::conv_reference
