// Persistent threads that any number of executors share, a few of them at a time, and the two
// things a run needs on them: a barrier, and a fair share of an operator's tasks.
#pragma once
#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "executor/signal.h"

namespace activsparse {

// Somebody else's threads: calls body(context, i) for every i < count, in any order, on any
// threads, and returns when all are done.
using ParallelFor = std::function<void(void (*body)(void*, std::size_t), int count, void* context)>;

// A pool lets at most threads() threads compute at once, the callers' own among them, however many
// executors run on it: who comes when all are busy waits, who comes when some are gets the others.
class ThreadPool {
 public:
  static constexpr int kMost = 1024;  // threads
  // Starts threads - 1 of them. Throws Error when that fails.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // The process's own pool, as long as somebody holds it: as many threads as there are cores for
  // them, started as far as those who hold it can use them. Whoever asks for more than that gets
  // them while nobody else computes. A forked child gets another pool.
  static std::shared_ptr<ThreadPool> of_process(int threads);

  int threads() const { return threads_; }

 private:
  friend class Crew;
  using Function = void (*)(const void*, int);

  // A thread, and what the crew whose first one it is needs.
  struct Worker {
    Signal start;
    Worker* first = nullptr;  // of its crew; nullptr asks it to end
    Worker* next = nullptr;
    int index = 0;
    Function function = nullptr;
    const void* context = nullptr;
    Patience patience;
    std::atomic<int> running{0};
    Signal finish;
    Patience finish_patience;
    std::thread thread;
  };

  ThreadPool(int threads, int workers);
  void start(int workers);
  void work(Worker& self);
  void end();

  const pid_t owner_;  // a forked child inherits this object, but not its threads
  const int cores_, threads_;
  std::atomic<int> alone_{0};  // callers that wanted no other thread
  std::mutex mutex_;           // of what follows
  std::condition_variable freed_;
  int busy_ = 0;  // threads of crews, without those callers
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
};

// The calling thread and as many others as it wants and the pool can spare, for one run.
class Crew {
 public:
  // Waits while all threads of the pool are busy. One that wants no other thread never waits.
  // Throws Error where the pool's threads did not survive fork().
  Crew(ThreadPool& pool, int wanted);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  int size() const { return size_; }
  // Whether there are more threads than cores to run them.
  bool crowded() const;

  // Calls body(thread) once for every thread index 0..size()-1, index 0 on the caller; returns when
  // all are done. `body` must not throw.
  template <class Body>
  void run(const Body& body) {
    if (size_ == 1) return body(0);
    run_erased(
        [](const void* context, int thread) { (*static_cast<const Body*>(context))(thread); },
        &body);
  }

 private:
  void run_erased(ThreadPool::Function function, const void* context);

  ThreadPool& pool_;
  int size_ = 1;
  bool alone_ = false;
  ThreadPool::Worker* first_ = nullptr;
};

// All threads of a run meet here; the last one runs `completion` before the others go on.
class Barrier {
 public:
  // Only while nobody is in arrive().
  void reset(int threads, bool crowded) {
    threads_ = threads;
    patience_.reset(crowded);
  }

  template <class Completion>
  void arrive(const Completion& completion) {
    const std::uint32_t seen = signal_.value();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      arrived_.store(0, std::memory_order_relaxed);
      completion();
      signal_.advance();
    } else {
      signal_.wait_past(seen, patience_);
    }
  }

 private:
  int threads_ = 1;
  Patience patience_;
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
  explicit TaskQueue(int most_threads) : ranges_(most_threads) {}

  // The first of a thread's own tasks.
  static int first(int64_t thread, int tasks, int64_t threads) {
    return static_cast<int>(thread * tasks / threads);
  }

  // Only while no thread is in drain().
  void reset(int tasks, int threads) {
    threads_ = threads;
    for (int t = 0; t < threads; ++t) {
      ranges_[t].next.store(first(t, tasks, threads), std::memory_order_relaxed);
      ranges_[t].end = first(t + 1, tasks, threads);
    }
  }

  // Calls run(begin, end) for tasks of this thread's range, then of the others', until none is
  // left.
  template <class Run>
  void drain(int thread, const Run& run) {
    for (int i = 0; i < threads_; ++i) {
      Range& range = ranges_[(thread + i) % threads_];
      int begin = range.next.load(std::memory_order_relaxed);
      while (begin < range.end) {
        // Alone, nobody waits for what is left.
        const int end = threads_ == 1 ? range.end : begin + (3 * (range.end - begin) + 3) / 4;
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
  int threads_ = 1;
};

}  // namespace activsparse
