// The three convolutions of an `inverted_residual` spec (docs/operators.md): their attributes carry
// the prefixes `expand.`, `depthwise.` and `project.`; expand or project may be absent.
#pragma once
#include <string>

#include "operators/conv_params.h"

namespace activsparse {

struct ResidualStages {
  bool has_expand, has_project;
  OpSpec expand, depthwise, project;  // `conv` specs; that of an absent stage is empty
};

// Throws Error when the stages do not fit together.
ResidualStages residual_stages_of(const OpSpec& spec);

}  // namespace activsparse
