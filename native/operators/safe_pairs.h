// Products of bytes in AVX2 (vpmaddubsw) sum two of uint8 by int8 in 16 bits, which saturate. A
// pair of weights is safe where no inputs can make them: of the others, what is too much is taken
// apart and multiplied in another step. Where two pairs are safe together, their sums may be added
// in 16 bits as well, which saves an instruction of six: so may most of what is taken apart, as it
// is little.
#pragma once
#include <cstdint>

#include "common/isa_enum.h"

namespace activsparse {

constexpr bool needs_safe_pairs(Isa isa) { return isa == Isa::kAvx2; }

// Sums of weights of one sign, of which 255 times as much fits 16 bits.
constexpr int kMostSafe = INT16_MAX / 255;

constexpr int positive(int a) { return a > 0 ? a : 0; }

constexpr bool are_safe(int a, int b, int c = 0, int d = 0) {
  return positive(a) + positive(b) + positive(c) + positive(d) <= kMostSafe &&
         positive(-a) + positive(-b) + positive(-c) + positive(-d) <= kMostSafe;
}

// Whether the products of two quads may be added in 16 bits.
inline bool are_safe_together(const int8_t* a, const int8_t* b) {
  return are_safe(a[0], a[1], b[0], b[1]) && are_safe(a[2], a[3], b[2], b[3]);
}

// Moves what is too much of a quad of weights to `apart`; whether anything was.
inline bool make_safe(int8_t* quad, int8_t* apart) {
  bool moved = false;
  for (int i = 0; i < 4; i += 2) {
    const int sum = quad[i] + quad[i + 1];
    if (are_safe(quad[i], quad[i + 1])) continue;
    const int excess = sum > 0 ? sum - kMostSafe : sum + kMostSafe;
    apart[i + 1] = static_cast<int8_t>(excess);
    quad[i + 1] = static_cast<int8_t>(quad[i + 1] - excess);
    moved = true;
  }
  return moved;
}

}  // namespace activsparse
