// How long one operator takes by itself: what the compiler chooses algorithms by.
#pragma once
#include <cstddef>
#include <vector>

#include "operators/operator.h"

namespace activsparse {

// Milliseconds of each of `repeat` runs on random data, after one run that is not counted. With
// `evict_bytes` > 0 every thread first reads that much other memory, then the inputs are written
// anew: as within a network, where the weights have left the near caches since the last run and the
// inputs have just been produced.
std::vector<double> time_operator(const Operator& op, const std::vector<TensorDesc>& inputs,
                                  const std::vector<TensorDesc>& outputs, int repeat, int threads,
                                  std::size_t evict_bytes);

// GFLOP/s of fused multiply-adds on registers alone, one thread: the ceiling of every kernel.
double fma_peak_gflops(Isa isa);

}  // namespace activsparse
