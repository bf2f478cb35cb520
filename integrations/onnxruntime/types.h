// Inputs and outputs of a plan, float32 for the executor, in the types a model gives them.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace activsparse {

// `count` elements of ONNX's type `type` as float32: where they lie, or in `room`. Throws, naming
// the value, where float32 does not hold them, or the type is none of numbers.
const float* as_floats(int type, const void* data, size_t count, const std::string& name,
                       std::vector<float>& room);

// What as_floats reads, the other way: `values` as `type`. float16 rounds to nearest, halves to
// even.
void from_floats(const std::vector<float>& values, int type, void* data, const std::string& name);

}  // namespace activsparse
