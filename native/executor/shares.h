// How evenly an operator's work is cut.
#pragma once
#include "operators/operator.h"

namespace activsparse {

// The longest share of an operator's work over the mean, on so many threads: 1 where all have as
// much to do. By the costs the operator estimates, and before anybody helps the others.
double longest_share(const Operator& op, int threads);

}  // namespace activsparse
