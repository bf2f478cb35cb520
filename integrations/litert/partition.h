// A claimed part of a model, compiled: packed operators and what runs them.
#pragma once
#include <memory>
#include <vector>

#include "executor/executor.h"
#include "integrations/litert/graph.h"

namespace activsparse::litert {

// An operator in the algorithm chosen for it.
struct Packed {
  Blob blob;
  std::unique_ptr<Operator> op;
};

// Chooses the algorithm of every convolution: by measurement on this machine, or, without `tune`,
// by estimates alone.
class Chooser {
 public:
  // `weight_bytes`: of the whole part; the more, the less of an operator's is left in caches.
  Chooser(Isa isa, int threads, bool tune, size_t weight_bytes);
  ~Chooser();
  Packed operator()(const OpSpec& spec);

 private:
  Isa isa_;
  int threads_;
  bool tune_;
  size_t weight_bytes_;
  double seconds_;  // left to measure
  std::unique_ptr<class TimerOnDemand> timer_;
};

class Partition {
 public:
  // `graph` has been fused.
  Partition(const Graph& graph, Isa isa, bool tune, const std::shared_ptr<ThreadPool>& pool);

  // One pointer per input and output of the graph, in order.
  void run(const void* const* inputs, void* const* outputs) { executor_->run(inputs, outputs); }

 private:
  std::vector<Packed> packed_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace activsparse::litert
