#include "integrations/litert/functions.h"

#include <algorithm>
#include <cmath>

#include "integrations/litert/abi.h"

namespace activsparse::litert {

Bounds::Bounds(const Bytes& of, int fused) : Bounds(of) {
  // A bound that leaves what a float holds is none.
  const auto steps = [&](float value) { return std::round(value / of.scale); };
  if (fused == abi::kRelu || fused == abi::kRelu6) lo = 0;
  if (fused == abi::kRelu6) hi = std::min(hi, steps(6));
  if (fused == abi::kReluN1To1) lo = std::max(lo, steps(-1)), hi = std::min(hi, steps(1));
}

std::vector<uint8_t> table_of(const Bytes& from, const Bytes& to,
                              const std::function<double(double)>& function) {
  std::vector<uint8_t> table(256);
  for (int q = 0; q < 256; ++q) {
    const double steps = function((q - from.zero) * double{from.scale}) / double{to.scale};
    table[q] = static_cast<uint8_t>(std::clamp(std::nearbyint(steps) + to.zero, 0.0, 255.0));
  }
  return table;
}

std::vector<uint8_t> rescaling_table(const Bytes& from, const Bytes& to, const Bounds& bounds) {
  const float kept = from.scale / to.scale;
  std::vector<uint8_t> table(256);
  for (int q = 0; q < 256; ++q) {
    const float steps = static_cast<float>(q - from.zero) * kept;
    const float whole = std::clamp(std::nearbyint(steps), bounds.lo, bounds.hi);
    table[q] = static_cast<uint8_t>(whole + static_cast<float>(to.zero));
  }
  return table;
}

}  // namespace activsparse::litert
