// Which algorithm runs an operator, by rules and estimates: for any instruction set on any machine.
#pragma once
#include <vector>

#include "choose/costs.h"
#include "operators/operator.h"

namespace activsparse {

// Those that can run it; the reference only where it is alone. Throws Error when there is none,
// with every algorithm's reason. Without `winograd` its algorithms, which round more, are left out.
std::vector<const OperatorType*> able(const OpSpec& spec, Isa isa, bool winograd = true);

// The one that should be fastest by the costs of an instruction set or a processor. One made for
// the operator wins if there is one, but for `pointwise` under a mask at the input; of others, the
// least estimate (choose/estimate.h).
const OperatorType& choose(const OpSpec& spec, const Costs& costs, bool winograd = true);

// Estimates of those in their order, in multiply-adds; none for what are no float32 convolutions.
std::vector<double> estimates(const OpSpec& spec, const Costs& costs,
                              const std::vector<const OperatorType*>& types);

}  // namespace activsparse
