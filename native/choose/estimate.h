// How long an algorithm takes over a convolution, by estimate.
#pragma once
#include "choose/costs.h"
#include "operators/operator.h"

namespace activsparse {

struct Work {
  double macs;          // multiply-adds, with what goes beside them in proportion
  double weight_bytes;  // fetched once
  double channels;      // of Winograd: 1 / input + 1 / output channels; else 0
  bool waits;           // whether fetching is not wholly hidden
};

// What `type` does for a convolution it can run, as its slim copy shows; infinite where it cannot
// run that. Throws Error where the spec is impossible.
Work work_of(const OpSpec& spec, const OperatorType& type, Isa isa);

// In units of one multiply-add: what the multiply-adds and what the weights, fetched once from
// memory, take, whichever is more. Winograd saves the former and multiplies the latter.
double estimate(const Work& work, const Costs& costs);

}  // namespace activsparse
