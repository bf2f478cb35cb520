#include "executor/thread_pool.h"

#include <unistd.h>

#include <system_error>

#include "common/error.h"
#include "common/machine.h"

namespace activsparse {
namespace {

// Long enough to bridge the imbalance of a phase and the gap between two frames of a busy loop.
constexpr std::chrono::microseconds kSpin{100};

}  // namespace

ThreadPool::ThreadPool(int threads, Workers workers) : threads_(threads), owner_(getpid()) {
  if (threads < 1 || threads > kMost)
    throw Error("threads must be between 1 and " + std::to_string(kMost) + ", got " +
                std::to_string(threads));
  spin_ = threads <= usable_cores() ? kSpin : std::chrono::microseconds{0};
  if (workers == kNone) return;
  workers_.reserve(threads - 1);
  try {
    for (int t = 1; t < threads; ++t) workers_.emplace_back([this, t] { work(t); });
  } catch (const std::system_error&) {
    const size_t started = workers_.size();
    function_ = nullptr;
    start_.advance();
    for (std::thread& worker : workers_) worker.join();
    throw Error("only " + std::to_string(started) + " of " + std::to_string(threads - 1) +
                " worker threads could be started; ask for fewer threads");
  }
}

ThreadPool::~ThreadPool() {
  if (getpid() != owner_) {
    for (std::thread& worker : workers_) worker.detach();
    return;
  }
  function_ = nullptr;
  start_.advance();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_erased(Function function, const void* context) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (workers_.empty() && threads_ > 1) throw Error("this pool has no threads of its own");
  if (threads_ > 1) {
    if (getpid() != owner_)
      throw Error(
          "the worker threads did not survive fork(); create the session in the child process");
    function_ = function;
    context_ = context;
    running_.store(threads_ - 1, std::memory_order_relaxed);
  }
  const std::uint32_t seen = finish_.value();
  if (threads_ > 1) start_.advance();
  function(context, 0);
  if (threads_ > 1) finish_.wait_past(seen, spin_);
}

void ThreadPool::work(int thread) {
  std::uint32_t seen = 0;
  for (;;) {
    start_.wait_past(seen, spin_);
    ++seen;
    if (function_ == nullptr) return;
    function_(context_, thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) finish_.advance();
  }
}

}  // namespace activsparse
