// Into how many parts units of work are cut so that threads get equal shares.
#pragma once
#include <cstdint>

namespace activsparse {

// The fewest parts of each of `units` equal pieces of work, up to `most`, with which the longest of
// `threads` shares is at most a tenth above the mean; else those with which it is least.
inline int even_parts(int64_t units, int most, int threads) {
  constexpr double kEven = 1.1;
  int best = 1;
  double least = 0;
  for (int parts = 1; parts <= most; ++parts) {
    const double all = static_cast<double>(units) * parts;
    const double longest = static_cast<double>((units * parts + threads - 1) / threads);
    const double over = longest * threads / all;
    if (least == 0 || over < least) best = parts, least = over;
    if (least <= kEven) break;
  }
  return best;
}

}  // namespace activsparse
