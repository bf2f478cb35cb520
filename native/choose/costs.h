// The constants of the model by which times of convolutions are estimated; costs.inc says where
// they come from.
#pragma once
#include "common/isa_enum.h"

namespace activsparse {

struct Costs {
  const char* cpu;  // part of the names of the processors they hold for; all of them if empty
  Isa isa;
  double macs_per_byte;  // multiply-adds that take as long as fetching a byte of weights
  double not_hidden;     // share of fetching that `direct` does not hide behind its products
  double transforms;     // of Winograd, added to its products per input and per output channel
};

// Of any processor with the instruction set: the same choices on every machine.
const Costs& costs_of(Isa isa);

// Of this machine's processor where it was measured: what its own measurements begin with.
const Costs& costs_here(Isa isa);

}  // namespace activsparse
