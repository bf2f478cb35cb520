// The builder of specs.
#include "capi/spec.h"

#include "capi/status.h"
#include "operators/checks.h"

using namespace activsparse;

namespace {

// Runs `body`, and remembers in the spec that it failed.
template <class Body>
as_status build(as_spec* spec, const char* name, const Body& body) {
  if (spec == nullptr) return fail(AS_INVALID, "argument 'spec' is NULL");
  const as_status status = guarded([&] {
    require_argument(name != nullptr, "name");
    body();
  });
  if (status != AS_OK && spec->failure.empty()) guarded([&] { spec->failure = as_last_error(); });
  return status;
}

TensorDesc desc_of(const as_tensor* t, as_dtype dtype) {
  require_argument(t != nullptr, "tensor");
  if (dtype != AS_FLOAT32 && dtype != AS_UINT8 && dtype != AS_FLOAT16)
    throw Error("a tensor is float32, uint8 or float16");
  const TensorDesc desc{t->n,
                        t->h,
                        t->w,
                        t->c,
                        t->nchw ? t->c : t->stride,
                        t->nchw != 0,
                        t->padded != 0,
                        dtype == AS_UINT8     ? DType::kU8
                        : dtype == AS_FLOAT16 ? DType::kFloat16
                                              : DType::kFloat32};
  if (const char* fault = fault_of_any(desc)) throw Error(fault);
  return desc;
}

ArrayView view_of(as_dtype dtype, const void* data, int rank, const int64_t* shape) {
  if (dtype < AS_FLOAT32 || dtype > AS_INT8)
    throw Error("an array is of float32, int32, uint8 or int8");
  if (rank < 0 || rank > 8) throw Error("an array's rank must be 0 to 8");
  require_argument(shape != nullptr || rank == 0, "shape");
  ArrayView view;
  view.dtype = "fibc"[dtype];
  view.data = data;
  for (int i = 0; i < rank; ++i) {
    if (shape[i] < 0) throw Error("an array's shape must not be negative");
    view.shape.push_back(shape[i]);
  }
  require_argument(data != nullptr || view.size() == 0, "data");
  return view;
}

}  // namespace

as_spec* as_spec_new(const char* kind) {
  as_spec* spec = nullptr;
  guarded([&] {
    require_argument(kind != nullptr, "kind");
    auto made = std::make_unique<as_spec>();
    made->spec.kind = kind;
    spec = made.release();
  });
  return spec;
}

void as_spec_free(as_spec* spec) { delete spec; }

as_status as_spec_int(as_spec* spec, const char* name, int64_t value) {
  return build(spec, name, [&] { spec->spec.ints[name] = value; });
}

as_status as_spec_float(as_spec* spec, const char* name, double value) {
  return build(spec, name, [&] { spec->spec.floats[name] = value; });
}

as_status as_spec_string(as_spec* spec, const char* name, const char* value) {
  return build(spec, name, [&] {
    require_argument(value != nullptr, "value");
    spec->spec.strings[name] = value;
  });
}

as_status as_spec_array(as_spec* spec, const char* name, as_dtype dtype, const void* data, int rank,
                        const int64_t* shape) {
  return build(spec, name, [&] { spec->spec.arrays[name] = view_of(dtype, data, rank, shape); });
}

as_status as_spec_input(as_spec* spec, const as_tensor* tensor) {
  return as_spec_input_of(spec, AS_FLOAT32, tensor);
}

as_status as_spec_output(as_spec* spec, const as_tensor* tensor) {
  return as_spec_output_of(spec, AS_FLOAT32, tensor);
}

as_status as_spec_input_of(as_spec* spec, as_dtype dtype, const as_tensor* tensor) {
  return build(spec, "input", [&] { spec->spec.inputs.push_back(desc_of(tensor, dtype)); });
}

as_status as_spec_output_of(as_spec* spec, as_dtype dtype, const as_tensor* tensor) {
  return build(spec, "output", [&] { spec->spec.outputs.push_back(desc_of(tensor, dtype)); });
}
