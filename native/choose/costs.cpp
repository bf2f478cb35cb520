#include "choose/costs.h"

#include <string>

#include "common/machine.h"

namespace activsparse {
namespace {

constexpr Costs kCosts[] = {
#define COSTS(cpu, isa, macs_per_byte, not_hidden, transforms) \
  {cpu, Isa::isa, macs_per_byte, not_hidden, transforms},
#include "choose/costs.inc"
#undef COSTS
};

// The first line of an instruction set that holds for a processor; the last one holds for all.
const Costs& first_for(Isa isa, const std::string& cpu) {
  const Costs* found = nullptr;
  for (const Costs& costs : kCosts)
    if (found == nullptr && costs.isa == isa && cpu.find(costs.cpu) != std::string::npos)
      found = &costs;
  return *found;
}

}  // namespace

const Costs& costs_of(Isa isa) { return first_for(isa, ""); }

const Costs& costs_here(Isa isa) {
  static const std::string cpu = cpu_info().name;
  return first_for(isa, cpu);
}

}  // namespace activsparse
