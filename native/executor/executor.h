// Runs a compiled plan: a list of operators over tensors that live in one arena.
#pragma once
#include <condition_variable>
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

// Who computes, and in how many pieces.
struct Workforce {
  std::shared_ptr<ThreadPool> pool;  // none where all runs are run_on()
  int threads = 1;                   // that share the work of one run, at most
  int parts = 1;                     // of a batch: see Executor
  int runs = 1;                      // at once

  static Workforce all_of(std::shared_ptr<ThreadPool> pool) {
    const int threads = pool->threads();
    return {std::move(pool), threads};
  }
};

// The caller's arrays hold what graph inputs and outputs do `parts` times, and the steps run once
// for each part: each thread runs parts of its own, in an arena of its own, without waiting for the
// others. Parts that are left over when all threads have had equally many, and a plan's only one,
// are run by all threads together, which share the tasks of every step.
//
// run() allocates nothing as long as one goes at a time. Each of several at once takes memory of
// its own, up to `runs`; further callers wait. Executors share nothing but threads.
class Executor {
 public:
  // Throws Error when ids, offsets, sizes and what operators were packed for do not fit together.
  Executor(std::vector<PlanTensor> tensors, std::vector<PlanStep> steps, std::vector<int> inputs,
           std::vector<int> outputs, int64_t arena_bytes, Workforce force);

  // One pointer per graph input and output, in order; each holds `parts` times tensor_bytes().
  void run(const void* const* inputs, void* const* outputs);

  // The same on somebody else's threads: `parallel` is called for all parts together, or for every
  // phase, with threads() pieces that need not run at once. It takes no pool.
  void run_on(const ParallelFor& parallel, const void* const* inputs, void* const* outputs);

  // Milliseconds of every step in each of `repeat` runs: element [r * steps + s]. Where threads run
  // parts of their own, their mean.
  std::vector<double> profile(const void* const* inputs, void* const* outputs, int repeat);

  const TensorDesc& input(size_t i) const { return tensors_[inputs_[i]].desc; }
  const TensorDesc& output(size_t i) const { return tensors_[outputs_[i]].desc; }
  size_t input_count() const { return inputs_.size(); }
  size_t output_count() const { return outputs_.size(); }
  size_t step_count() const { return steps_.size(); }
  int threads() const { return force_.threads; }
  int parts() const { return force_.parts; }
  // As many as have been under way at once so far.
  size_t runs_at_once();
  // Of one run.
  size_t arena_bytes() const;
  size_t scratch_bytes() const;
  // The first one's.
  unsigned char* scratch() { return contexts_[0]->lanes[0]->scratch.data(); }

 private:
  struct Phase {
    int step, phase, tasks;
  };
  // What a step knows of the others.
  struct Neighbours {
    std::vector<Constants> ahead;  // what later steps read first
    int64_t fetched = 0;           // the part of its own constants in an earlier step's `ahead`
  };
  // A step's tensor in the caller's memory.
  struct End {
    size_t step, place;
    bool written;  // by the step
    bool output;   // of the graph
    size_t number;
  };
  struct StepPointers {
    std::vector<const void*> inputs;
    std::vector<void*> outputs;
  };
  // The memory of one walk through the steps.
  struct Lane {
    Lane(size_t arena_bytes, size_t scratch_bytes) : arena(arena_bytes), scratch(scratch_bytes) {}
    PageBuffer arena, scratch;
    int threads = 1;  // that `scratch` has room for
    std::vector<StepPointers> pointers;
  };
  // The memory of one run.
  struct Context {
    explicit Context(int threads) : queue(threads) {}
    std::vector<std::unique_ptr<Lane>> lanes;  // the first has scratch for all threads
    Barrier barrier;
    TaskQueue queue;
    std::atomic<int> next_part{0};
  };
  // A context nobody else uses, until it goes out of scope.
  class Borrowed {
   public:
    explicit Borrowed(Executor& executor) : executor_(executor), context_(executor.borrow()) {}
    ~Borrowed() { executor_.give_back(context_); }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    Context& operator*() const { return *context_; }

   private:
    Executor& executor_;
    Context* context_;
  };
  struct Arrays {
    const void* const* inputs;
    void* const* outputs;
  };

  void check() const;
  void look_ahead();
  void look_far_ahead();
  void find_ends();
  std::unique_ptr<Lane> make_lane(int threads) const;
  std::unique_ptr<Context> make_context() const;
  Context* borrow();
  void give_back(Context* context);
  int apart(int threads) const;
  void bind(Lane& lane, const Arrays& arrays, int part) const;
  void run_phase(const Lane& lane, const Phase& phase, int thread, int begin, int end) const;
  template <class Reached>
  void run_alone(Lane& lane, const Reached& reached) const;
  template <class Reached>
  void run_together(Context& context, Crew& crew, bool meet_first, const Reached& reached) const;
  template <class Reached>
  void run_apart(Context& context, Crew& crew, const Arrays& arrays, int parts,
                 const Reached& reached) const;

  std::vector<PlanTensor> tensors_;
  std::vector<PlanStep> steps_;
  std::vector<int> inputs_, outputs_;
  const int64_t arena_bytes_;
  const Workforce force_;
  std::vector<Phase> phases_;  // of all steps, without those that have no tasks
  std::vector<Neighbours> neighbours_;
  std::vector<End> ends_;
  size_t thread_scratch_ = 0, shared_scratch_ = 0;
  std::mutex mutex_;  // of what follows
  std::condition_variable given_back_;
  std::vector<std::unique_ptr<Context>> contexts_;
  std::vector<Context*> idle_;
};

}  // namespace activsparse
