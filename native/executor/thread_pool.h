// Persistent threads that all execute the same function, and the two things they need inside it: a
// barrier, and a fair share of an operator's tasks.
#pragma once
#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "executor/signal.h"

namespace activsparse {

// Somebody else's threads: calls body(context, i) for every i < count, in any order, on any
// threads, and returns when all are done.
using ParallelFor = std::function<void(void (*body)(void*, std::size_t), int count, void* context)>;

class ThreadPool {
 public:
  enum Workers { kStart, kNone };
  static constexpr int kMost = 1024;  // threads
  // `threads` includes the calling thread, so threads - 1 are started. Throws Error when that
  // fails. Without workers it is only a number, for Executor::run_on().
  explicit ThreadPool(int threads, Workers workers = kStart);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  // How long a thread spins before it sleeps; zero when there are more threads than cores to run
  // them, where spinning would only keep the others from working.
  std::chrono::nanoseconds spin() const { return spin_; }

  // Calls body(thread) once for every thread index 0..threads-1, index 0 on the caller; returns
  // when all are done. `body` must not throw, nor call run(). One call at a time: a second caller
  // waits.
  template <class Body>
  void run(const Body& body) {
    run_erased(
        [](const void* context, int thread) { (*static_cast<const Body*>(context))(thread); },
        &body);
  }

 private:
  using Function = void (*)(const void*, int);
  void run_erased(Function function, const void* context);
  void work(int thread);

  const int threads_;
  std::chrono::nanoseconds spin_;
  pid_t owner_;                  // a forked child inherits this object, but not its threads
  Function function_ = nullptr;  // nullptr asks the workers to end
  const void* context_ = nullptr;
  std::mutex mutex_;  // of the callers
  Signal start_, finish_;
  std::atomic<int> running_{0};
  std::vector<std::thread> workers_;
};

// All threads of a pool meet here; the last one runs `completion` before the others go on.
class Barrier {
 public:
  explicit Barrier(const ThreadPool& pool) : threads_(pool.threads()), spin_(pool.spin()) {}

  template <class Completion>
  void arrive(const Completion& completion) {
    const std::uint32_t seen = signal_.value();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      arrived_.store(0, std::memory_order_relaxed);
      completion();
      signal_.advance();
    } else {
      signal_.wait_past(seen, spin_);
    }
  }

 private:
  const int threads_;
  const std::chrono::nanoseconds spin_;
  std::atomic<int> arrived_{0};
  Signal signal_;
};

// Splits tasks 0..n-1 over threads. Each thread owns one contiguous range, which keeps what it
// reads in its own cache from layer to layer; a thread that is done helps the others. A thread
// takes three quarters of what is left of a range at a time: few calls while there is much to do,
// since every call has to find out anew what its first task shares with the one before, single
// tasks at the end, where imbalance shows.
class TaskQueue {
 public:
  explicit TaskQueue(int threads) : ranges_(threads) {}

  // The first of a thread's own tasks.
  static int first(int64_t thread, int tasks, int64_t threads) {
    return static_cast<int>(thread * tasks / threads);
  }

  // Only while no thread is in drain().
  void reset(int tasks) {
    const int64_t count = static_cast<int64_t>(ranges_.size());
    for (int64_t t = 0; t < count; ++t) {
      ranges_[t].next.store(first(t, tasks, count), std::memory_order_relaxed);
      ranges_[t].end = first(t + 1, tasks, count);
    }
  }

  // Calls run(begin, end) for tasks of this thread's range, then of the others', until none is
  // left.
  template <class Run>
  void drain(int thread, const Run& run) {
    const int count = static_cast<int>(ranges_.size());
    for (int i = 0; i < count; ++i) {
      Range& range = ranges_[(thread + i) % count];
      int begin = range.next.load(std::memory_order_relaxed);
      while (begin < range.end) {
        // Alone, nobody waits for what is left.
        const int end = count == 1 ? range.end : begin + (3 * (range.end - begin) + 3) / 4;
        if (!range.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
        run(begin, end);
        begin = range.next.load(std::memory_order_relaxed);
      }
    }
  }

 private:
  struct alignas(64) Range {
    std::atomic<int> next{0};
    int end = 0;
  };
  std::vector<Range> ranges_;
};

}  // namespace activsparse
