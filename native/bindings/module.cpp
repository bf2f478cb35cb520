// The Python extension module activsparse._native.
#include <cstdlib>  // says whether the C library is glibc

#include "bindings/bindings.h"
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "common/machine.h"

using namespace activsparse;

NB_MODULE(_native, m) {
  static nb::handle error_type =
      nb::module_::import_("activsparse.errors").attr("ActivsparseError");
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const Error& e) {
      PyErr_SetString(error_type.ptr(), e.what());
    }
  });

  m.def(
      "available_isas",
      [] {
        std::vector<std::string> names;
        for (Isa isa : available_isas()) names.push_back(isa_name(isa));
        return names;
      },
      "Instruction sets compiled in and present on this CPU, best last.");
  m.def(
      "check_isa", [](const std::string& name) { isa_from_name(name); }, nb::arg("name"),
      "Raise ActivsparseError unless the instruction set can be used here.");
  m.def(
      "cpu_info",
      [] {
        const CpuInfo info = cpu_info();
        nb::list isas;
        for (Isa isa : available_isas()) isas.append(isa_name(isa));
        nb::dict d;
        d["name"] = info.name;
        d["cores"] = info.cores;
        d["usable_cores"] = usable_cores();
        d["physical_cores"] = physical_cores();
        d["l1d"] = info.l1d;
        d["l2"] = info.l2;
        d["l3"] = info.l3;
        d["isas"] = isas;
        return d;
      },
      "name, cores, usable_cores (by affinity), physical_cores (of those), l1d, l2, l3 (data cache "
      "bytes, 0: unknown), isas.");
  m.def(
      "release_memory",
      [] {
#if defined(__GLIBC__)
        malloc_trim(0);
#endif
      },
      "Give freed memory that the C library holds on to back to the system.");
  bind_operators(m);
  bind_executor(m);
  bind_choose(m);
  bind_plan(m);
}
