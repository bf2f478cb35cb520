// Sizes of each instruction set's vectors. With table.inc they decide how weights are packed, on
// any machine.
#pragma once

namespace activsparse {

// Whether a library that has to be small is being built. It has no scalar target, no shared
// halves of vectors, no blocks of 5x5 depthwise kernels, no normalisation, no rare activations, no
// Winograd tiles on chequerboards, and one output transform per shape of the others, with a
// residual or without.
#ifdef ACTIVSPARSE_COMPACT
inline constexpr bool kCompact = true;
#else
inline constexpr bool kCompact = false;
#endif

// Lanes of float32.
inline constexpr int kNeonWidth = 4, kAvx2Width = 8, kAvx512Width = 16;

// Lanes of float16, of NEON alone.
inline constexpr int kHalvesWidth = 8;

}  // namespace activsparse
