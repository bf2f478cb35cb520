// How long operators take by themselves: what the compiler chooses algorithms by.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "executor/page_buffer.h"
#include "executor/thread_pool.h"
#include "operators/operator.h"

namespace activsparse {

// An operator to be timed, and the packed data it reads.
struct Timed {
  const Operator* op;
  const std::uint8_t* data;
  std::size_t bytes;
};

// Times operators the way they run within a network: before each run the weights have left the
// near caches, while inputs, output and scratch have just been touched by the operators before.
// Keeps its threads and the memory that pushes weights out from one call to the next.
class OperatorTimer {
 public:
  explicit OperatorTimer(int threads);

  // Milliseconds of each of `repeat` runs of each operator on random data: element [operator][r].
  // All operators take the same tensors. They take turns, so that noise that lasts hits them all;
  // the first round is not counted. A run during which another program got the core is taken again,
  // a few times at most, and the least counts, or its threads' mean processor time, if that is
  // less. Before each run `evict_bytes` of other memory are read; if that is the last-level cache
  // or more, the packed data are flushed from all caches instead, which takes no memory. With 0
  // nothing is touched in between, and weights stay where the last run left them.
  std::vector<std::vector<double>> time(const std::vector<Timed>& ops,
                                        const std::vector<TensorDesc>& inputs,
                                        const std::vector<TensorDesc>& outputs, int repeat,
                                        std::size_t evict_bytes);

 private:
  void evict(const Timed& timed, std::size_t bytes);

  std::shared_ptr<ThreadPool> pool_;
  std::size_t last_level_;
  std::unique_ptr<PageBuffer> other_;
};

// The same for one operator and one call.
std::vector<double> time_operator(const Timed& op, const std::vector<TensorDesc>& inputs,
                                  const std::vector<TensorDesc>& outputs, int repeat, int threads,
                                  std::size_t evict_bytes);

// GFLOP/s of fused multiply-adds on registers alone, one thread: the ceiling of every kernel.
double fma_peak_gflops(Isa isa);

}  // namespace activsparse
