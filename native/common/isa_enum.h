// The instruction sets by number, for what is compiled with the flags of each of them (isa.h has
// the rest).
#pragma once

namespace activsparse {

// In rising order of preference on a machine that has several of them.
enum class Isa : int { kScalar = 0, kNeon = 1, kAvx2 = 2, kAvx512 = 3 };

}  // namespace activsparse
