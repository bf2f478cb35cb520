#include "choose/slim.h"

#include <algorithm>

#include "operators/checks.h"

namespace activsparse {
namespace {

constexpr int64_t kSlim = 64;

TensorDesc with_channels(TensorDesc tensor, int64_t channels) {
  tensor.c = static_cast<int32_t>(channels);
  tensor.stride = tensor.nchw ? tensor.c : static_cast<int32_t>(kSlim);
  tensor.padded = tensor.nchw ? 0 : 1;
  return tensor;
}

}  // namespace

SlimSpec slim(const OpSpec& spec, const std::vector<std::string>& keep) {
  check_spec(spec, kFloatsAndHalves);
  const ArrayView* weight = spec.array("weight");
  if (spec.kind != "conv" || weight == nullptr || weight->dtype != 'f' || weight->shape.size() != 4)
    throw Error(spec.kind + ": slim copies are of convolutions with a float32 weight (O, I, H, W)");
  const int64_t group = spec.int_or("group", 1);
  int64_t in = std::min<int64_t>(spec.inputs[0].c, kSlim);
  int64_t out = std::min<int64_t>(spec.outputs[0].c, kSlim);
  if (group != 1) in = out = std::min(group, kSlim);
  const int64_t rows = std::min(out, weight->shape[0]);
  const int64_t columns = std::min(group == 1 ? in : 1, weight->shape[1]);
  const int64_t taps = weight->shape[2] * weight->shape[3], whole = weight->shape[1] * taps;

  SlimSpec copy{spec, {}, 0};
  const float* from = spec.float_array("weight");
  for (int64_t row = 0; row < rows; ++row)
    copy.weight.insert(copy.weight.end(), from + row * whole, from + row * whole + columns * taps);
  copy.share = static_cast<double>(weight->size()) / static_cast<double>(copy.weight.size());
  if (group != 1) copy.spec.ints["group"] = in;
  copy.spec.arrays.clear();
  copy.spec.arrays["weight"] = {
      copy.weight.data(), 'f', {rows, columns, weight->shape[2], weight->shape[3]}};
  for (const std::string& name : keep)
    if (const ArrayView* array = spec.array(name.c_str())) copy.spec.arrays[name] = *array;
  copy.spec.inputs = {with_channels(spec.inputs[0], in)};
  copy.spec.outputs = {with_channels(spec.outputs[0], out)};
  copy.spec.threads = 1;
  return copy;
}

}  // namespace activsparse
