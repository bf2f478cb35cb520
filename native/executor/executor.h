// Runs a compiled plan: a list of operators over tensors that live in one arena.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "executor/page_buffer.h"
#include "executor/thread_pool.h"
#include "operators/operator.h"

namespace activsparse {

struct PlanTensor {
  TensorDesc desc;
  int64_t offset;  // bytes into the arena, whole cache lines for the first tensor of a block; -1:
                   // the caller's array (a graph input or output)
};

struct PlanStep {
  const Operator* op;                // must outlive the executor
  std::vector<int> inputs, outputs;  // tensor ids
};

// run() allocates nothing: memory and threads are taken once, at construction. One run at a time
// per executor (a second caller waits); Executors share nothing but, if their makers so wish, the
// threads.
class Executor {
 public:
  // Throws Error when ids, offsets, sizes and what operators were packed for do not fit together.
  Executor(std::vector<PlanTensor> tensors, std::vector<PlanStep> steps, std::vector<int> inputs,
           std::vector<int> outputs, int64_t arena_bytes, std::shared_ptr<ThreadPool> pool);

  // One pointer per graph input and output, in order; each holds tensor_bytes().
  void run(const void* const* inputs, void* const* outputs);

  // The same on somebody else's threads: `parallel` is called for every phase, with threads() parts
  // that need not run at once. The pool needs no workers.
  void run_on(const ParallelFor& parallel, const void* const* inputs, void* const* outputs);

  // Milliseconds of every step in each of `repeat` runs: element [r * steps + s].
  std::vector<double> profile(const void* const* inputs, void* const* outputs, int repeat);

  const TensorDesc& input(size_t i) const { return tensors_[inputs_[i]].desc; }
  const TensorDesc& output(size_t i) const { return tensors_[outputs_[i]].desc; }
  size_t input_count() const { return inputs_.size(); }
  size_t output_count() const { return outputs_.size(); }
  size_t step_count() const { return steps_.size(); }
  size_t arena_bytes() const { return arena_.size(); }
  size_t scratch_bytes() const { return scratch_.size(); }
  unsigned char* arena() { return arena_.data(); }
  unsigned char* scratch() { return scratch_.data(); }
  int threads() const { return pool_->threads(); }

 private:
  struct Phase {
    int step, phase, tasks;
  };
  struct StepPointers {
    std::vector<const void*> inputs;
    std::vector<void*> outputs;
    std::vector<Constants> ahead;  // what later steps read first
    int64_t fetched = 0;           // the part of its own constants in an earlier step's `ahead`
  };

  void check() const;
  void look_ahead();
  void look_far_ahead();
  void bind(const void* const* inputs, void* const* outputs);
  void run_phase(const Phase& phase, int thread, int begin, int end) const;
  template <class Reached>
  void run_phases(bool meet_first, const Reached& reached);

  std::vector<PlanTensor> tensors_;
  std::vector<PlanStep> steps_;
  std::vector<int> inputs_, outputs_;
  std::vector<Phase> phases_;  // of all steps, without those that have no tasks
  std::vector<StepPointers> pointers_;
  size_t thread_scratch_ = 0;
  PageBuffer arena_, scratch_;
  std::shared_ptr<ThreadPool> pool_;
  Barrier barrier_;
  TaskQueue queue_;
  std::mutex mutex_;
};

}  // namespace activsparse
