// Shared by the parts of the extension module activsparse._native. No logic of its own: only
// conversions.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <vector>

#include "executor/page_buffer.h"
#include "operators/operator.h"
#include "plan/plan_file.h"

namespace activsparse {

namespace nb = nanobind;

using ConstArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
// Deliberately without a type: nanobind would convert other arrays to a copy, and results written
// to it would be lost.
using InputArray = nb::ndarray<nb::ro, nb::device::cpu>;
using OutputArray = nb::ndarray<nb::device::cpu>;

// One operator, packed and created. The bytes are its own, or lie in memory, an array or a plan it
// keeps alive. Packed for an instruction set this machine lacks, it can be stored, but not run.
struct PackedOperator {
  std::string kind, algorithm;
  Isa isa;
  std::vector<TensorDesc> inputs, outputs;
  int threads = 1;  // that it was packed for
  Blob owned;
  std::shared_ptr<PageBuffer> gathered;
  ConstArray borrowed;
  std::shared_ptr<const PlanFile> plan;
  BlobView blob{nullptr, 0};
  std::unique_ptr<Operator> op;
};

template <class Array>
std::string shape_text(const Array& array) {
  std::string text;
  for (size_t i = 0; i < array.ndim(); ++i)
    text += (i ? ", " : "") + std::to_string(array.shape(i));
  return "(" + text + ")";
}

inline const char* name_of(DType type) {
  return type == DType::kU8 ? "uint8" : type == DType::kFloat16 ? "float16" : "float32";
}

inline DType dtype_of(const std::string& name) {
  for (DType type : {DType::kFloat32, DType::kU8, DType::kFloat16})
    if (name == name_of(type)) return type;
  throw Error("tensors are float32, uint8 or float16, not " + name);
}

// Throws Error unless the array is contiguous and of the type.
template <class Array>
auto data_of(const Array& array, DType type, const std::string& name) {
  int64_t expected = 1;
  bool contiguous = true;
  for (size_t i = array.ndim(); i-- > 0;) {
    contiguous = contiguous && (array.shape(i) == 1 || array.stride(i) == expected);
    expected *= static_cast<int64_t>(array.shape(i));
  }
  constexpr nb::dlpack::dtype kFloat16{static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
  const std::string wanted = name_of(type);
  if (array.dtype() != (type == DType::kU8        ? nb::dtype<uint8_t>()
                        : type == DType::kFloat16 ? kFloat16
                                                  : nb::dtype<float>()) ||
      !(contiguous || expected == 0))
    throw Error(name + " of shape " + shape_text(array) + " must be C-contiguous " + wanted +
                "; use numpy.ascontiguousarray(x, numpy." + wanted + ")");
  return array.data();
}

void bind_operators(nb::module_& m);
void bind_choose(nb::module_& m);
void bind_executor(nb::module_& m);
void bind_plan(nb::module_& m);

}  // namespace activsparse
