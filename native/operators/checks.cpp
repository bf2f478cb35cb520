#include "operators/checks.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

namespace activsparse {
namespace {

struct Range {
  const char* name;
  int64_t least, most;
};

// By the name's end: stages of a fused operator carry a prefix.
constexpr Range kRanges[] = {
    {"group", 1, INT32_MAX},       {"kernel_h", 1, kMostKernel}, {"kernel_w", 1, kMostKernel},
    {"stride_h", 1, kMostReach},   {"stride_w", 1, kMostReach},  {"dilation_h", 1, kMostReach},
    {"dilation_w", 1, kMostReach}, {"pad_top", 0, kMostReach},   {"pad_left", 0, kMostReach},
    {"pad_bottom", 0, kMostReach}, {"pad_right", 0, kMostReach}, {"scale_h", 1, INT32_MAX},
    {"scale_w", 1, INT32_MAX},
};

constexpr struct {
  const char* name;
  const char* dtypes;
} kArrays[] = {{"weight", "f"},   {"bias", "f"},      {"skipped_value", "f"}, {"scale", "f"},
               {"shift", "f"},    {"mask", "bf"},     {"input_mask", "b"},    {"source", "i"},
               {"shape", "i"},    {"y_strides", "i"}, {"x_strides", "i"},     {"a_strides", "i"},
               {"b_strides", "i"}};

std::string without_prefix(const std::string& name) {
  return name.substr(name.rfind('.') + 1);  // npos + 1 is 0
}

void check_int(const OpSpec& spec, const std::string& name, int64_t value) {
  const std::string key = without_prefix(name);
  const bool offset = key.size() > 7 && key.compare(key.size() - 7, 7, "_offset") == 0;
  Range range{"", offset ? 0 : INT32_MIN, offset ? kMostFloats : INT32_MAX};
  for (const Range& known : kRanges)
    if (key == known.name) range = known;
  require(spec, value >= range.least && value <= range.most,
          "'" + name + "' is " + std::to_string(value) + ", not within " +
              std::to_string(range.least) + " to " + std::to_string(range.most));
}

void check_array(const OpSpec& spec, const std::string& name, const ArrayView& array, bool bytes) {
  const std::string key = without_prefix(name);
  for (const auto& known : kArrays)
    if (key == known.name && !bytes)  // operators on bytes look for themselves
      require(spec, std::string(known.dtypes).find(array.dtype) != std::string::npos,
              "the array '" + name + "' is of the wrong type");
  require(spec, array.shape.size() <= 8, "the array '" + name + "' has more than 8 dimensions");
  for (int64_t size : array.shape)
    require(spec, size >= (key == "weight") && size <= INT32_MAX,
            "the array '" + name + "' has an impossible shape");
  const int64_t size = array.size();
  require(spec, size <= kMostFloats, "the array '" + name + "' is too large");
  require(spec, array.data != nullptr || size == 0, "the array '" + name + "' has no data");
}

}  // namespace

const char* fault_of_memory(const TensorDesc& d) {
  const bool known = d.dtype == DType::kU8 || d.dtype == DType::kFloat16;
  if (d.dtype != DType::kFloat32 && (!known || d.nchw)) return "a tensor is of an unknown type";
  if (d.n < 0 || d.h < 1 || d.w < 1 || d.c < 1) return "a tensor's sizes must be positive";
  if ((d.nchw != 0 && d.nchw != 1) || (d.padded != 0 && d.padded != 1))
    return "a tensor's layout is impossible";
  if (!d.nchw && d.stride < least_stride(d))
    return "a tensor's stride must be at least its channels, rounded up to 16 when padded";
  const int64_t stride = d.nchw ? d.c : d.stride;
  if (int64_t{d.h} * d.w > kMostPixels / std::max(d.n, 1))
    return "a tensor has more than 2147483647 pixels";
  if (d.pixels() > kMostFloats / stride) return "a tensor is too large";
  return nullptr;
}

const char* fault_of_any(const TensorDesc& d) {
  if (const char* fault = fault_of_memory(d)) return fault;
  if (int64_t{d.w} * (d.nchw ? d.c : d.stride) > kMostRowFloats)
    return "a tensor's rows are too long";
  return nullptr;
}

const char* fault_of(const TensorDesc& d) {
  return d.dtype == DType::kFloat32 ? fault_of_any(d) : "a tensor is not float32";
}

void require_tensors(const Operator& op, const std::vector<TensorDesc>& inputs,
                     const std::vector<TensorDesc>& outputs) {
  const auto fit = [](const std::vector<TensorDesc>& packed, const std::vector<TensorDesc>& given) {
    return std::equal(packed.begin(), packed.end(), given.begin(), given.end(), fits);
  };
  if (!fit(op.inputs(), inputs) || !fit(op.outputs(), outputs))
    throw Error("its tensors are not those that it was packed for; compile the model again");
}

void check_spec(const OpSpec& spec, DTypes types) {
  const bool bytes = (types & bit(DType::kU8)) != 0;
  require(spec, spec.outputs.size() == 1 && (!spec.inputs.empty() || spec.kind == "constant"),
          "it needs inputs and exactly one output");
  for (const auto* tensors : {&spec.inputs, &spec.outputs})
    for (const TensorDesc& tensor : *tensors)
      if (const char* fault = fault_of_memory(tensor) != nullptr || (types & bit(tensor.dtype))
                                  ? fault_of_any(tensor)
                                  : fault_of(tensor))
        throw Error(spec.kind + ": " + fault);
  for (const auto& [name, value] : spec.ints) check_int(spec, name, value);
  for (const auto& [name, value] : spec.floats)
    require(spec, std::isinf(value) || std::fabs(value) <= double{FLT_MAX},
            "'" + name + "' is no float32 number");
  for (const auto& [name, array] : spec.arrays) check_array(spec, name, array, bytes);
}

}  // namespace activsparse
