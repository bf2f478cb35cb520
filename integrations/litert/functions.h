// Functions of one byte, as tables of what they give for each of the 256.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "integrations/litert/quantised.h"

namespace activsparse::litert {

// Of bytes that stay within bounds: in steps from the zero point of what they become.
struct Bounds {
  float lo, hi;

  // All that a byte holds, and what an activation of the runtime leaves of it.
  explicit Bounds(const Bytes& of)
      : lo(static_cast<float>(-of.zero)), hi(static_cast<float>(255 - of.zero)) {}
  Bounds(const Bytes& of, int fused);
};

std::vector<uint8_t> table_of(const Bytes& from, const Bytes& to,
                              const std::function<double(double)>& function);
// Of another scale, and clipped.
std::vector<uint8_t> rescaling_table(const Bytes& from, const Bytes& to, const Bounds& bounds);

}  // namespace activsparse::litert
