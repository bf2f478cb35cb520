#include "operators/conv_params.h"

namespace activsparse {
namespace {

void require_conv(bool condition, const char* cause) {
  if (!condition) throw Error(std::string("convolution: ") + cause);
}

// Of the output along an axis.
bool follows(int64_t output, int64_t size, int64_t pad, int64_t pad_behind, int64_t kernel,
             int64_t stride, int64_t dilation) {
  return output == window_outputs(size, pad + pad_behind, kernel, stride, dilation);
}

}  // namespace

int64_t window_outputs(int64_t size, int64_t pads, int64_t kernel, int64_t stride,
                       int64_t dilation) {
  const int64_t padded = size + pads, reach = dilation * (kernel - 1) + 1;
  return reach > padded || stride < 1 ? 0 : (padded - reach) / stride + 1;
}

const char* fault_of(const ConvParams& p, DType type) {
  for (const TensorDesc* tensor : {&p.input, &p.output, p.has_residual ? &p.residual : &p.output})
    if (const char* fault =
            tensor->dtype == type || type == DType::kU8 ? fault_of_any(*tensor) : fault_of(*tensor))
      return fault;
    else if (type == DType::kFloat16 && tensor->dtype != type)
      return "a tensor is not float16";
  if (p.output.nchw || (p.has_residual && p.residual.nchw)) return "output or residual is NCHW";
  if (p.group < 1 || p.in_per_group < 1 || p.out_per_group < 1)
    return "the group count must divide the channels";
  if (p.input.c != int64_t{p.group} * p.in_per_group)
    return "the input's channels do not match the weight";
  if (p.output.c != int64_t{p.group} * p.out_per_group)
    return "the output's channels do not match the weight";
  if (p.kernel_h < 1 || p.kernel_w < 1 || p.kernel_h > kMostKernel || p.kernel_w > kMostKernel)
    return "a kernel's sides must be 1 to 32767";
  if (p.stride_h < 1 || p.stride_w < 1 || p.dilation_h < 1 || p.dilation_w < 1)
    return "strides and dilations must be positive";
  if (p.pad_top < 0 || p.pad_left < 0 || p.pad_bottom < 0 || p.pad_right < 0)
    return "padding must not be negative";
  if (int64_t{p.input.h} + p.pad_top + p.pad_bottom > kMostReach ||
      int64_t{p.input.w} + p.pad_left + p.pad_right > kMostReach)
    return "the padded input is too large";
  if (int64_t{p.in_per_group} * p.taps() > kMostFloats / p.output.c)
    return "the weight is too large";
  if (p.output.n != p.input.n ||
      !follows(p.output.h, p.input.h, p.pad_top, p.pad_bottom, p.kernel_h, p.stride_h,
               p.dilation_h) ||
      !follows(p.output.w, p.input.w, p.pad_left, p.pad_right, p.kernel_w, p.stride_w,
               p.dilation_w))
    return "the output's size does not follow from input, kernel, stride, dilation and padding";
  if (p.has_residual && (p.residual.n != p.output.n || p.residual.h != p.output.h ||
                         p.residual.w != p.output.w || p.residual.c != p.output.c))
    return "the residual's shape is not the output's";
  return nullptr;
}

void require_packed(const BlobView& blob, const ConvParams& p, bool nchw, DType type) {
  require_packed(fault_of(p, type) == nullptr && (nchw || !p.input.nchw));
  require_packed(p.has_residual == 0 || p.has_residual == 1);
  require_packed(p.epilogue);
  const int64_t weights = int64_t{p.in_per_group} * p.taps() * p.output.c;
  require_packed(static_cast<uint64_t>(weights) <= blob.size() / sizeof(uint16_t));
}

ConvParams conv_params_of(const OpSpec& spec, DType type) {
  const bool bytes = type == DType::kU8;
  const ArrayView* weight = spec.array("weight");
  require_conv(
      weight != nullptr && weight->shape.size() == 4 && weight->dtype == (bytes ? 'c' : 'f'),
      bytes ? "the weight must be an int8 array (O, I/group, KH, KW)"
            : "the weight must be a float32 array (O, I/group, KH, KW)");
  require_conv(spec.inputs.size() == 1 || spec.inputs.size() == 2,
               "one input and at most one residual");
  require_conv(spec.outputs.size() == 1, "exactly one output");
  ConvParams p{};
  p.input = spec.inputs[0];
  p.output = spec.outputs[0];
  const auto value = [&](const char* name, int64_t fallback) {
    return static_cast<int32_t>(spec.int_or(name, fallback));  // checks.h has seen that it fits
  };
  p.group = value("group", 1);
  p.in_per_group = static_cast<int32_t>(weight->shape[1]);
  require_conv(p.group >= 1 && weight->shape[0] % p.group == 0,
               "the group count must divide the output channels");
  p.out_per_group = static_cast<int32_t>(weight->shape[0] / p.group);
  p.kernel_h = static_cast<int32_t>(weight->shape[2]);
  p.kernel_w = static_cast<int32_t>(weight->shape[3]);
  p.stride_h = value("stride_h", 1), p.stride_w = value("stride_w", 1);
  p.dilation_h = value("dilation_h", 1), p.dilation_w = value("dilation_w", 1);
  p.pad_top = value("pad_top", 0), p.pad_left = value("pad_left", 0);
  p.pad_bottom = value("pad_bottom", 0), p.pad_right = value("pad_right", 0);
  p.has_residual = spec.inputs.size() == 2;
  if (p.has_residual) p.residual = spec.inputs[1];
  if (const char* fault = fault_of(p, type)) throw Error(std::string("convolution: ") + fault);
  const int64_t positions = int64_t{p.output.h} * p.output.w;
  if (const ArrayView* bias = spec.array("bias"))
    require_conv(bias->size() == p.output.c, "the bias must be (O)");
  if (const ArrayView* mask = spec.array("mask"))
    require_conv(mask->dtype == 'b' && mask->size() == positions,
                 "the mask must be uint8 (OH, OW)");
  if (const ArrayView* value = spec.array("skipped_value"))
    require_conv(value->size() == p.output.c, "the skipped value must be (O)");
  if (const ArrayView* mask = spec.array("input_mask"))
    require_conv(mask->dtype == 'b' && mask->size() == int64_t{p.input.h} * p.input.w,
                 "the input mask must be uint8 (IH, IW)");
  if (const ArrayView* source = spec.array("source")) {
    require_conv(spec.array("mask") != nullptr && !p.has_residual && source->dtype == 'i' &&
                     source->size() == positions,
                 "the fill source must be int32 (OH*OW), with a mask and without a residual");
    const auto* index = static_cast<const int32_t*>(source->data);
    const auto* mask = static_cast<const uint8_t*>(spec.array("mask")->data);
    for (int64_t i = 0; i < positions; ++i)
      require_conv(
          mask[i] ? index[i] == i
                  : index[i] == -1 || (index[i] >= 0 && index[i] < positions && mask[index[i]]),
          "the fill source must name kept positions or -1, and a kept position itself");
  }
  p.epilogue = epilogue_of(spec);
  return p;
}

ConvParams gemm_params_of(const OpSpec& spec, DType type) {
  const ArrayView* weight = spec.array("weight");
  auto require = [](bool condition, const char* cause) {
    if (!condition) throw Error(std::string("gemm: ") + cause);
  };
  require(weight != nullptr && weight->dtype == 'f' && weight->shape.size() == 2,
          "the weight must be a float32 array (O, F)");
  require(spec.inputs.size() == 1 && spec.outputs.size() == 1, "one input and one output");
  const TensorDesc &in = spec.inputs[0], &out = spec.outputs[0];
  require(in.h == 1 && in.w == 1 && out.h == 1 && out.w == 1 && in.n == out.n,
          "input and output must be (N, F) and (N, O)");
  require(weight->shape[0] == out.c && weight->shape[1] == in.c,
          "the weight's shape does not match input and output");
  const ArrayView* bias = spec.array("bias");
  require(bias == nullptr || bias->size() == out.c, "the bias must be (O)");
  ConvParams p{};
  p.input = in;
  p.output = out;
  p.group = p.kernel_h = p.kernel_w = p.stride_h = p.stride_w = p.dilation_h = p.dilation_w = 1;
  p.in_per_group = in.c;
  p.out_per_group = out.c;
  p.epilogue = epilogue_of(spec);
  if (const char* fault = fault_of(p, type)) throw Error(std::string("gemm: ") + fault);
  return p;
}

}  // namespace activsparse
