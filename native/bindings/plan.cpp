// Plan files to and from Python objects.
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string_view.h>

#include <cerrno>
#include <cstring>

#include "bindings/bindings.h"
#include "plan/layout.h"
#include "plan/plan_file.h"

namespace activsparse {
namespace {

using Values = std::vector<std::tuple<std::string, std::vector<int64_t>, int, int>>;
using Tensors = std::vector<std::pair<TensorDesc, int64_t>>;
using Steps = std::vector<std::tuple<nb::object, std::vector<int>, std::vector<int>>>;
using Plan = std::shared_ptr<const PlanFile>;

std::vector<PlanValue> values_of(const Values& values) {
  std::vector<PlanValue> result;
  for (const auto& [name, shape, tensor, type] : values)
    result.push_back({name, shape, tensor, type});
  return result;
}

nb::list list_of(const std::vector<PlanValue>& values) {
  nb::list result;
  for (const PlanValue& value : values) {
    nb::list shape;
    for (int64_t size : value.shape) shape.append(size);
    result.append(nb::make_tuple(value.name, nb::tuple(shape), value.tensor, value.type));
  }
  return result;
}

Tensors tensors_in(const Plan& plan) {
  Tensors result;
  for (const PlanTensor& tensor : plan->content().tensors)
    result.emplace_back(tensor.desc, tensor.offset);
  return result;
}

// (operator, input ids, output ids) of every step; the operators keep the plan alive.
nb::list steps_of(const Plan& plan) {
  const PlanContent& content = plan->content();
  nb::list result;
  for (std::size_t i = 0; i < content.steps.size(); ++i) {
    const PlanFileStep& step = content.steps[i];
    auto packed = std::make_unique<PackedOperator>();
    packed->kind = step.kind;
    packed->algorithm = step.algorithm;
    packed->isa = content.isa;
    for (int id : step.inputs) packed->inputs.push_back(content.tensors[id].desc);
    for (int id : step.outputs) packed->outputs.push_back(content.tensors[id].desc);
    packed->plan = plan;
    packed->blob = step.data;
    packed->op = plan->create(i);
    result.append(nb::make_tuple(std::move(packed), step.inputs, step.outputs));
  }
  return result;
}

void write(int file, const std::string& isa, int threads, const Values& inputs,
           const Values& outputs, const Tensors& tensors, const Steps& steps, int64_t arena_bytes,
           const nb::bytes& metadata) {
  PlanContent content;
  content.isa = any_isa_from_name(isa);
  content.threads = threads;
  content.inputs = values_of(inputs);
  content.outputs = values_of(outputs);
  for (const auto& [desc, offset] : tensors) content.tensors.push_back({desc, offset});
  for (const auto& [object, in, out] : steps) {
    const auto& packed = nb::cast<const PackedOperator&>(object);
    content.steps.push_back({packed.kind, packed.algorithm, in, out, packed.blob});
  }
  content.arena_bytes = arena_bytes;
  content.metadata = {metadata.c_str(), metadata.size()};
  int failure = 0;
  {
    nb::gil_scoped_release release;
    failure = write_plan(content, file);
  }
  if (failure == 0) return;
  errno = failure;
  PyErr_SetFromErrno(PyExc_OSError);
  throw nb::python_error();
}

}  // namespace

void bind_plan(nb::module_& m) {
  m.attr("PLAN_MAGIC") = nb::bytes(kPlanMagic, sizeof(kPlanMagic));
  m.attr("PLAN_FORMAT") = kPlanFormat;
  m.attr("ENGINE_BUILD") = engine_build();
  nb::class_<PlanFile>(m, "PlanFile", "A compiled plan, mapped into memory.")
      .def_prop_ro("isa",
                   [](const Plan& plan) { return std::string(isa_name(plan->content().isa)); })
      .def_prop_ro("threads", [](const Plan& plan) { return plan->content().threads; })
      .def_prop_ro("inputs", [](const Plan& plan) { return list_of(plan->content().inputs); })
      .def_prop_ro("outputs", [](const Plan& plan) { return list_of(plan->content().outputs); })
      .def_prop_ro("tensors", &tensors_in)
      .def_prop_ro("parts", [](const Plan& plan) { return plan->content().parts; })
      .def_prop_ro("arena_bytes", [](const Plan& plan) { return plan->content().arena_bytes; })
      .def_prop_ro("metadata",
                   [](const Plan& plan) {
                     const std::string_view text = plan->content().metadata;
                     return nb::bytes(text.data(), text.size());
                   })
      .def("steps", &steps_of);
  m.def("open_plan", &PlanFile::open, nb::arg("path"), nb::call_guard<nb::gil_scoped_release>());
  m.def("write_plan", &write, nb::arg("file"), nb::arg("isa"), nb::arg("threads"),
        nb::arg("inputs"), nb::arg("outputs"), nb::arg("tensors"), nb::arg("steps"),
        nb::arg("arena_bytes"), nb::arg("metadata"),
        "Write a plan to an open file descriptor; docs/plan-format.md.");
}

}  // namespace activsparse
