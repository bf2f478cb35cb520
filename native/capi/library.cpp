// Version, error text, instruction sets.
#include <cstdio>

#include "capi/status.h"
#include "common/isa.h"
#include "plan/plan_file.h"

namespace activsparse {
namespace {

thread_local char last_error[1024] = "";

}  // namespace

as_status fail(as_status status, const char* text) noexcept {
  std::snprintf(last_error, sizeof(last_error), "%s", text);
  return status;
}

}  // namespace activsparse

using namespace activsparse;

const char* as_version(void) { return engine_version(); }

int as_abi_version(void) { return AS_ABI_VERSION; }

const char* as_last_error(void) { return last_error; }

int as_isa_count(void) {
  int count = 0;
  guarded([&] { count = static_cast<int>(available_isas().size()); });
  return count;
}

const char* as_isa_name(int index) {
  const char* name = nullptr;
  guarded([&] {
    const std::vector<Isa> isas = available_isas();
    if (index >= 0 && static_cast<size_t>(index) < isas.size()) name = isa_name(isas[index]);
  });
  return name;
}
