// What one operator shall compute, as Python says it.
#pragma once
#include "bindings/bindings.h"
#include "choose/slim.h"

namespace activsparse {

inline ArrayView view_of(const std::string& name, const ConstArray& array) {
  ArrayView view;
  view.data = array.data();
  for (size_t i = 0; i < array.ndim(); ++i)
    view.shape.push_back(static_cast<int64_t>(array.shape(i)));
  if (array.dtype() == nb::dtype<float>())
    view.dtype = 'f';
  else if (array.dtype() == nb::dtype<int32_t>())
    view.dtype = 'i';
  else if (array.dtype() == nb::dtype<int8_t>())
    view.dtype = 'c';
  else if (array.dtype() == nb::dtype<uint8_t>() || array.dtype() == nb::dtype<bool>())
    view.dtype = 'b';
  else
    throw Error("array '" + name + "': dtype must be float32, int32, int8, uint8 or bool");
  return view;
}

// Keeps the Python arrays alive while the spec is in use.
struct PySpec {
  OpSpec spec;
  std::vector<ConstArray> keep;
  std::shared_ptr<const SlimSpec> copied;

  PySpec(SlimSpec copy, std::vector<ConstArray> arrays)
      : keep(std::move(arrays)), copied(std::make_shared<SlimSpec>(std::move(copy))) {
    spec = copied->spec;
  }
  PySpec(std::string kind, const nb::dict& attributes, const nb::dict& arrays,
         std::vector<TensorDesc> inputs, std::vector<TensorDesc> outputs) {
    spec.kind = std::move(kind);
    spec.inputs = std::move(inputs);
    spec.outputs = std::move(outputs);
    for (auto [key, value] : attributes) {
      const auto name = nb::cast<std::string>(key);
      if (nb::isinstance<nb::str>(value))
        spec.strings[name] = nb::cast<std::string>(value);
      else if (nb::isinstance<nb::float_>(value))
        spec.floats[name] = nb::cast<double>(value);
      else
        spec.ints[name] = nb::cast<int64_t>(value);
    }
    for (auto [key, value] : arrays) {
      const auto name = nb::cast<std::string>(key);
      keep.push_back(nb::cast<ConstArray>(value));
      spec.arrays[name] = view_of(name, keep.back());
    }
  }
};

}  // namespace activsparse
