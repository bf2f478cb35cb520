// Products of bytes in AVX2 (vpmaddubsw) sum two of uint8 by int8 in 16 bits, which saturate. A
// pair of weights is safe where no inputs can make them: of the others, the second weight is taken
// apart and multiplied in another step, beside zeros. Of weights of a trained network, scaled by
// their largest, that is one step in three to ten.
#pragma once
#include <cstdint>

#include "common/isa_enum.h"

namespace activsparse {

constexpr bool needs_safe_pairs(Isa isa) { return isa == Isa::kAvx2; }

constexpr bool is_safe_pair(int a, int b) {
  const int most = (a > 0 ? a : 0) + (b > 0 ? b : 0), least = (a < 0 ? a : 0) + (b < 0 ? b : 0);
  return 255 * most <= INT16_MAX && 255 * least >= INT16_MIN;
}

// Moves what must not stay of a quad of weights to `apart`; whether anything did.
inline bool make_safe(int8_t* quad, int8_t* apart) {
  bool moved = false;
  for (int i = 0; i < 4; i += 2)
    if (!is_safe_pair(quad[i], quad[i + 1])) {
      apart[i + 1] = quad[i + 1];
      quad[i + 1] = 0;
      moved = true;
    }
  return moved;
}

}  // namespace activsparse
