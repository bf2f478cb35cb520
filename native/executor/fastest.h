// The choice of an algorithm by measurement, for callers without the Python compiler.
#pragma once
#include <string>

#include "operators/operator.h"

namespace activsparse {

// The algorithm of `spec`'s kind that runs it fastest on one thread; `reference` only when it is
// the only one. Throws Error, with every algorithm's reason, when none can run it.
std::string fastest_algorithm(const OpSpec& spec, Isa isa);

}  // namespace activsparse
