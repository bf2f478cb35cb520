// Instruction sets: what was compiled in, what this CPU has, and which one to use.
#pragma once
#include <string>
#include <vector>

#include "common/isa_enum.h"

namespace activsparse {

const char* isa_name(Isa isa);  // "scalar", "neon", "avx2", "avx512"

// Throws Error when `name` is unknown, was not compiled in, or is missing on this CPU.
Isa isa_from_name(const std::string& name);

// Any instruction set the engine has kernels for, on whatever machine: weights can be packed for
// it. Throws Error when `name` is unknown.
Isa any_isa_from_name(const std::string& name);

// Throws Error unless operators packed for `isa` can run here.
void require_available(Isa isa);

// Compiled in and present on this CPU (operating system support of the registers included), best
// last. Never executes an instruction the CPU may lack.
std::vector<Isa> available_isas();

Isa best_isa();

}  // namespace activsparse
