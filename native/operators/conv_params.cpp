#include "operators/conv_params.h"

namespace activsparse {
namespace {

void require(bool condition, const char* cause) {
  if (!condition) throw Error(std::string("convolution: ") + cause);
}

int32_t out_size(int64_t in, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) {
  return static_cast<int32_t>((in + pads - dilation * (kernel - 1) - 1) / stride + 1);
}

}  // namespace

ConvParams conv_params_of(const OpSpec& spec) {
  const ArrayView* weight = spec.array("weight");
  require(weight != nullptr && weight->shape.size() == 4 && weight->dtype == 'f',
          "the weight must be a float32 array (O, I/group, KH, KW)");
  require(spec.inputs.size() == 1 || spec.inputs.size() == 2, "one input and at most one residual");
  require(spec.outputs.size() == 1, "exactly one output");
  ConvParams p{};
  p.input = spec.inputs[0];
  p.output = spec.outputs[0];
  p.group = static_cast<int32_t>(spec.int_or("group", 1));
  p.in_per_group = static_cast<int32_t>(weight->shape[1]);
  require(p.group >= 1 && weight->shape[0] % p.group == 0,
          "the group count must divide the output channels");
  p.out_per_group = static_cast<int32_t>(weight->shape[0] / p.group);
  p.kernel_h = static_cast<int32_t>(weight->shape[2]);
  p.kernel_w = static_cast<int32_t>(weight->shape[3]);
  p.stride_h = static_cast<int32_t>(spec.int_or("stride_h", 1));
  p.stride_w = static_cast<int32_t>(spec.int_or("stride_w", 1));
  p.dilation_h = static_cast<int32_t>(spec.int_or("dilation_h", 1));
  p.dilation_w = static_cast<int32_t>(spec.int_or("dilation_w", 1));
  p.pad_top = static_cast<int32_t>(spec.int_or("pad_top", 0));
  p.pad_left = static_cast<int32_t>(spec.int_or("pad_left", 0));
  const int64_t pad_bottom = spec.int_or("pad_bottom", 0), pad_right = spec.int_or("pad_right", 0);
  require(p.stride_h >= 1 && p.stride_w >= 1 && p.dilation_h >= 1 && p.dilation_w >= 1,
          "strides and dilations must be positive");
  require(p.input.c == p.group * p.in_per_group, "the input's channels do not match the weight");
  require(p.output.c == p.group * p.out_per_group, "the output's channels do not match the weight");
  require(p.output.n == p.input.n &&
              p.output.h == out_size(p.input.h, p.pad_top + pad_bottom, p.kernel_h, p.stride_h,
                                     p.dilation_h) &&
              p.output.w ==
                  out_size(p.input.w, p.pad_left + pad_right, p.kernel_w, p.stride_w, p.dilation_w),
          "the output's size does not follow from input, kernel, stride, dilation and padding");
  p.has_residual = spec.inputs.size() == 2;
  if (p.has_residual) {
    p.residual = spec.inputs[1];
    require(p.residual.n == p.output.n && p.residual.h == p.output.h &&
                p.residual.w == p.output.w && p.residual.c == p.output.c,
            "the residual's shape is not the output's");
  }
  const int64_t positions = int64_t{p.output.h} * p.output.w;
  if (const ArrayView* bias = spec.array("bias"))
    require(bias->size() == p.output.c, "the bias must be (O)");
  if (const ArrayView* mask = spec.array("mask"))
    require(mask->dtype == 'b' && mask->size() == positions, "the mask must be uint8 (OH, OW)");
  if (const ArrayView* value = spec.array("skipped_value"))
    require(value->size() == p.output.c, "the skipped value must be (O)");
  if (const ArrayView* mask = spec.array("input_mask"))
    require(mask->dtype == 'b' && mask->size() == int64_t{p.input.h} * p.input.w,
            "the input mask must be uint8 (IH, IW)");
  if (const ArrayView* source = spec.array("source")) {
    require(spec.array("mask") != nullptr && !p.has_residual && source->dtype == 'i' &&
                source->size() == positions,
            "the fill source must be int32 (OH*OW), with a mask and without a residual");
    const auto* index = static_cast<const int32_t*>(source->data);
    const auto* mask = static_cast<const uint8_t*>(spec.array("mask")->data);
    for (int64_t i = 0; i < positions; ++i)
      require(
          index[i] >= 0 && index[i] < positions && mask[index[i]] && (!mask[i] || index[i] == i),
          "the fill source must name kept positions, and a kept position itself");
  }
  p.epilogue = epilogue_of(spec);
  return p;
}

}  // namespace activsparse
