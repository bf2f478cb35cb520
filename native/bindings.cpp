// The Python extension module activsparse._native: specs in, packed operators out. No logic of its own.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "common/isa.h"
#include "operators/operator.h"

namespace nb = nanobind;
using namespace activsparse;

namespace {

using ConstArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using FloatArray = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

ArrayView view_of(const std::string& name, const ConstArray& array) {
  ArrayView view;
  view.data = array.data();
  for (size_t i = 0; i < array.ndim(); ++i) view.shape.push_back(static_cast<int64_t>(array.shape(i)));
  if (array.dtype() == nb::dtype<float>())
    view.dtype = 'f';
  else if (array.dtype() == nb::dtype<int32_t>())
    view.dtype = 'i';
  else if (array.dtype() == nb::dtype<uint8_t>() || array.dtype() == nb::dtype<bool>())
    view.dtype = 'b';
  else
    throw Error("array '" + name + "': dtype must be float32, int32, uint8 or bool");
  return view;
}

// Keeps the Python arrays alive while the spec is in use.
struct PySpec {
  OpSpec spec;
  std::vector<ConstArray> keep;

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

struct PyBlob {
  std::string kind, algorithm;
  Isa isa;
  Blob data;
  std::unique_ptr<Operator> op;
};

PyBlob* pack(const PySpec& spec, const std::string& algorithm, const std::string& isa_name) {
  const OperatorType& type = find_operator_type(spec.spec.kind, algorithm);
  const Isa isa = isa_from_name(isa_name);
  const std::string reason = type.unsupported(spec.spec, isa);
  if (!reason.empty())
    throw Error(spec.spec.kind + "/" + algorithm + " cannot run this operator: " + reason);
  auto packed = std::make_unique<PyBlob>();
  packed->kind = spec.spec.kind;
  packed->algorithm = algorithm;
  packed->isa = isa;
  packed->data = type.pack(spec.spec, isa);
  packed->op = type.create(BlobView(packed->data.data(), packed->data.size()), isa);
  return packed.release();
}

// Runs one operator on plain arrays, single-threaded: for tests and kernel benchmarks.
void run_operator(const PyBlob& packed, const std::vector<FloatArray>& inputs, std::vector<FloatArray> outputs) {
  std::vector<const float*> in;
  std::vector<float*> out;
  for (const auto& a : inputs) in.push_back(a.data());
  for (auto& a : outputs) out.push_back(a.data());
  Blob scratch(packed.op->scratch_bytes()), shared(packed.op->shared_scratch_bytes());
  const RunArgs args{in.data(), out.data(), scratch.data(), shared.data()};
  nb::gil_scoped_release release;
  for (int phase = 0; phase < packed.op->phases(); ++phase)
    packed.op->run(args, phase, 0, packed.op->tasks(phase));
}

}  // namespace

NB_MODULE(_native, m) {
  static nb::handle error_type = nb::module_::import_("activsparse.errors").attr("ActivsparseError");
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const Error& e) {
      PyErr_SetString(error_type.ptr(), e.what());
    }
  });

  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (Isa isa : available_isas()) names.push_back(isa_name(isa));
    return names;
  }, "Instruction sets compiled in and present on this CPU, best last.");
  m.def("check_isa", [](const std::string& name) { isa_from_name(name); }, nb::arg("name"),
        "Raise ActivsparseError unless the instruction set can be used here.");

  nb::class_<TensorDesc>(m, "TensorDesc", "Shape and layout of one activation tensor (NHWC).")
      .def("__init__",
           [](TensorDesc* t, int n, int h, int w, int c, int stride, bool nchw, bool padded) {
             new (t) TensorDesc{n, h, w, c, stride, nchw, padded, DType::kFloat32};
           },
           nb::arg("n"), nb::arg("h"), nb::arg("w"), nb::arg("c"), nb::arg("stride"),
           nb::arg("nchw") = false, nb::arg("padded") = false)
      .def_ro("n", &TensorDesc::n).def_ro("h", &TensorDesc::h).def_ro("w", &TensorDesc::w)
      .def_ro("c", &TensorDesc::c).def_ro("stride", &TensorDesc::stride)
      .def_ro("nchw", &TensorDesc::nchw).def_ro("padded", &TensorDesc::padded);

  nb::class_<PySpec>(m, "Spec", "What one operator shall compute; see docs/operators.md.")
      .def(nb::init<std::string, nb::dict, nb::dict, std::vector<TensorDesc>, std::vector<TensorDesc>>(),
           nb::arg("kind"), nb::arg("attributes"), nb::arg("arrays"), nb::arg("inputs"), nb::arg("outputs"))
      .def("algorithms", [](const PySpec& spec, const std::string& isa) {
        std::vector<std::tuple<std::string, std::string>> rows;
        for (const OperatorType& type : operator_types())
          if (spec.spec.kind == type.kind)
            rows.emplace_back(type.algorithm, type.unsupported(spec.spec, isa_from_name(isa)));
        return rows;
      }, nb::arg("isa"), "(algorithm, why it cannot run this spec or '') for every algorithm of this kind.");

  nb::class_<PyBlob>(m, "PackedOperator", "One operator packed for one algorithm and instruction set.")
      .def_ro("kind", &PyBlob::kind)
      .def_ro("algorithm", &PyBlob::algorithm)
      .def_prop_ro("isa", [](const PyBlob& b) { return std::string(isa_name(b.isa)); })
      .def_prop_ro("nbytes", [](const PyBlob& b) { return b.data.size(); })
      .def_prop_ro("kernel", [](const PyBlob& b) { return b.op->kernel(); })
      .def_prop_ro("macs", [](const PyBlob& b) { return b.op->macs(); })
      .def_prop_ro("index_bytes", [](const PyBlob& b) { return b.op->index_bytes(); })
      .def_prop_ro("data", [](nb::handle_t<PyBlob> self) {
        const auto& b = nb::cast<const PyBlob&>(self);
        return nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>>(b.data.data(), {b.data.size()}, self);
      }, "The blob's bytes, read-only uint8 (nbytes,).");
  m.def("pack", &pack, nb::rv_policy::take_ownership, nb::arg("spec"), nb::arg("algorithm"), nb::arg("isa"));
  m.def("run_operator", &run_operator, nb::arg("packed"), nb::arg("inputs"), nb::arg("outputs"),
        "Run one operator on contiguous float32 arrays, one thread.");
}
