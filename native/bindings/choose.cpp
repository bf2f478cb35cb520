// Which algorithm runs an operator: estimates, and the decision by times.
#include "choose/choose.h"

#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>

#include "bindings/spec.h"
#include "choose/estimate.h"
#include "choose/measure.h"

namespace activsparse {
namespace {

std::vector<const OperatorType*> types_of(const std::string& kind,
                                          const std::vector<std::string>& algorithms) {
  std::vector<const OperatorType*> types;
  for (const std::string& name : algorithms) types.push_back(&find_operator_type(kind, name));
  return types;
}

const Costs& costs_by(const std::string& isa, bool here) {
  const Isa set = any_isa_from_name(isa);
  return here ? costs_here(set) : costs_of(set);
}

std::tuple<std::string, std::vector<std::optional<double>>> fastest_of(
    const std::string& kind, const std::vector<std::string>& algorithms,
    const std::vector<double>& costs, const std::string& favourite,
    const std::function<std::vector<double>(const std::string&)>& block, double hopeless) {
  if (costs.size() != algorithms.size() && !costs.empty())
    throw Error("there are " + std::to_string(algorithms.size()) + " algorithms, but " +
                std::to_string(costs.size()) + " estimates");
  const Measured found = fastest(
      types_of(kind, algorithms), costs, find_operator_type(kind, favourite),
      [&](const OperatorType& type) { return block(type.algorithm); }, hopeless);
  return {found.fastest->algorithm, found.ms};
}

}  // namespace

void bind_choose(nb::module_& m) {
  m.def(
      "able",
      [](const PySpec& py, const std::string& isa, bool winograd) {
        std::vector<std::string> names;
        for (const OperatorType* type : able(py.spec, any_isa_from_name(isa), winograd))
          names.emplace_back(type->algorithm);
        return names;
      },
      nb::arg("spec"), nb::arg("isa"), nb::arg("winograd") = true,
      "The algorithms that can run a spec; the reference only where it is alone. Raises\n"
      "ActivsparseError with every algorithm's reason when there is none.");
  m.def(
      "choose",
      [](const PySpec& py, const std::string& isa, bool winograd, bool here) {
        return std::string(choose(py.spec, costs_by(isa, here), winograd).algorithm);
      },
      nb::arg("spec"), nb::arg("isa"), nb::arg("winograd") = true, nb::arg("here") = false,
      "The algorithm that should be fastest, by rules and estimates: those of any processor with\n"
      "the instruction set, or those of this one.");
  m.def(
      "estimates",
      [](const PySpec& py, const std::string& isa, const std::vector<std::string>& algorithms,
         bool here) {
        return estimates(py.spec, costs_by(isa, here), types_of(py.spec.kind, algorithms));
      },
      nb::arg("spec"), nb::arg("isa"), nb::arg("algorithms"), nb::arg("here") = false,
      "Estimated times of a convolution's algorithms, in units of one multiply-add.");
  m.def(
      "work",
      [](const PySpec& py, const std::string& algorithm, const std::string& isa) {
        const Work work =
            work_of(py.spec, find_operator_type(py.spec.kind, algorithm), any_isa_from_name(isa));
        return std::tuple(work.macs, work.weight_bytes, work.channels, work.waits);
      },
      nb::arg("spec"), nb::arg("algorithm"), nb::arg("isa"),
      "(multiply-adds, bytes of weights, what Winograd's transforms are added by, whether "
      "fetching\n"
      "is not wholly hidden): what estimates are made of.");
  m.def(
      "costs",
      [](const std::string& isa, bool here) {
        const Costs& costs = costs_by(isa, here);
        return std::tuple(std::string(costs.cpu), costs.macs_per_byte, costs.not_hidden,
                          costs.transforms);
      },
      nb::arg("isa"), nb::arg("here") = false,
      "(part of the processor's name or '', multiply-adds that take as long as fetching a byte,\n"
      "share not hidden, what transforms add per channel): native/choose/costs.inc.");
  m.def("fastest", &fastest_of, nb::arg("kind"), nb::arg("algorithms"), nb::arg("costs"),
        nb::arg("favourite"), nb::arg("block"), nb::arg("hopeless") = kHopeless,
        "(the fastest algorithm, milliseconds of each or None) by blocks of times that\n"
        "`block(algorithm)` takes; those estimated at `hopeless` times the least are not timed.");
  m.def("evicted_between", &evicted_between, nb::arg("others"),
        "Bytes that are read between two uses of an operator's weights where the network has so\n"
        "many others.");
  nb::class_<PackedBlocks>(m, "PackedBlocks", "Blocks of times of an operator's algorithms.")
      .def(
          "__call__",
          [](PackedBlocks& blocks, const std::string& algorithm) { return blocks.of(algorithm); },
          nb::arg("algorithm"), nb::call_guard<nb::gil_scoped_release>(),
          "Milliseconds of each run of a block.");
  nb::class_<OperatorTimer>(m, "OperatorTimer",
                            "Times operators as they run within a network; see time_operator.")
      .def(nb::init<int>(), nb::arg("threads") = 1)
      .def(
          "blocks",
          [](OperatorTimer& timer, const PySpec& py, const std::string& isa, size_t evict_bytes) {
            return std::make_unique<PackedBlocks>(py.spec, isa_from_name(isa), timer, evict_bytes);
          },
          nb::arg("spec"), nb::arg("isa"), nb::arg("evict_bytes") = 0, nb::keep_alive<0, 1>(),
          nb::keep_alive<0, 2>(), "What times the algorithms of a spec, one after the other.");
}

}  // namespace activsparse
