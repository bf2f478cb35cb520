#include "operators/residual_stages.h"

#include <algorithm>

namespace activsparse {
namespace {

template <class Value>
void take(const std::map<std::string, Value>& from, const std::string& prefix,
          std::map<std::string, Value>& to) {
  for (auto it = from.lower_bound(prefix);
       it != from.end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it)
    to.emplace(it->first.substr(prefix.size()), it->second);
}

OpSpec stage_of(const OpSpec& spec, const std::string& prefix) {
  OpSpec stage;
  stage.kind = "conv";
  take(spec.ints, prefix, stage.ints);
  take(spec.floats, prefix, stage.floats);
  take(spec.strings, prefix, stage.strings);
  take(spec.arrays, prefix, stage.arrays);
  return stage;
}

// Rows or columns of the expansion, of which only a stem has more than one tap or another stride.
int32_t expanded(const OpSpec& expand, int32_t size, const char* axis, const char* before,
                 const char* after, std::size_t kernel_axis) {
  const std::vector<int64_t>& shape = expand.array("weight")->shape;
  if (shape.size() != 4) return size;
  const auto of = [&](const char* name, int64_t fallback) {
    return expand.int_or((std::string(name) + axis).c_str(), fallback);
  };
  return static_cast<int32_t>(
      window_outputs(size, expand.int_or(before, 0) + expand.int_or(after, 0), shape[kernel_axis],
                     of("stride_", 1), of("dilation_", 1)));
}

// What lies between two stages.
TensorDesc between(const TensorDesc& shape, int32_t channels) {
  TensorDesc desc = shape;
  desc.nchw = 0;
  desc.c = channels;
  desc.padded = 1;
  desc.stride = static_cast<int32_t>(least_stride(desc));
  return desc;
}

}  // namespace

ResidualStages residual_stages_of(const OpSpec& spec) {
  ResidualStages stages{};
  stages.expand = stage_of(spec, "expand.");
  stages.depthwise = stage_of(spec, "depthwise.");
  stages.project = stage_of(spec, "project.");
  stages.has_expand = stages.expand.array("weight") != nullptr;
  stages.has_project = stages.project.array("weight") != nullptr;
  const ArrayView* weight = stages.depthwise.array("weight");
  if (weight == nullptr || weight->shape.empty() || spec.inputs.empty() ||
      spec.outputs.size() != 1 || (!stages.has_expand && !stages.has_project))
    throw Error(
        "inverted_residual: it needs an input, an output, a depthwise convolution, and one before "
        "or after it");
  const auto channels = static_cast<int32_t>(weight->shape[0]);
  TensorDesc at = spec.inputs[0];
  if (stages.has_expand) {
    stages.expand.inputs = {at};
    at = between(at, channels);
    at.h = expanded(stages.expand, at.h, "h", "pad_top", "pad_bottom", 2);
    at.w = expanded(stages.expand, at.w, "w", "pad_left", "pad_right", 3);
    stages.expand.outputs = {at};
  }
  stages.depthwise.inputs = {at};
  at = spec.outputs[0];
  if (stages.has_project) {
    at = between(at, channels);
    stages.project.inputs = {at};
    stages.project.outputs = {spec.outputs[0]};
  }
  stages.depthwise.outputs = {at};
  OpSpec& last = stages.has_project ? stages.project : stages.depthwise;
  last.inputs.insert(last.inputs.end(), spec.inputs.begin() + 1, spec.inputs.end());
  return stages;
}

}  // namespace activsparse
