// The order of a tap's steps where sums of products have to fit 16 bits; see StepCounts in
// kernels/bytes.h and safe_pairs.h.
#pragma once
#include <vector>

#include "common/blob.h"
#include "kernels/bytes.h"

namespace activsparse {

// Of one tap of a panel: weights and offsets in the order of the counts.
struct SafeSteps {
  StepCounts counts{};
  Blob weights;
  std::vector<int32_t> offsets;
};

// Of weights (quads, vectors * width, 4), which lose what is taken apart.
SafeSteps safe_steps(int8_t* weights, int quads, int vectors, int width);

// How many quads are multiplied with one vector of weights each, and how many offsets there are.
inline int64_t vector_quads(const StepCounts& counts, int vectors) {
  int64_t apart = 0;
  for (int v = 0; v < vectors; ++v) apart += counts.apart[v];
  return (int64_t{2} * counts.twos + counts.ones) * vectors + 2 * apart;
}
inline int64_t offset_count(const StepCounts& counts, int vectors) {
  int64_t apart = 0;
  for (int v = 0; v < vectors; ++v) apart += counts.apart[v];
  return int64_t{2} * counts.twos + counts.ones + 2 * apart;
}

}  // namespace activsparse
