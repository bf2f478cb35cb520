#include "executor/thread_pool.h"

#include <unistd.h>

#include <system_error>

#include "common/error.h"
#include "common/machine.h"

namespace activsparse {
namespace {

int checked(int threads) {
  if (threads < 1 || threads > ThreadPool::kMost)
    throw Error("threads must be between 1 and " + std::to_string(ThreadPool::kMost) + ", got " +
                std::to_string(threads));
  return threads;
}

}  // namespace

ThreadPool::ThreadPool(int threads) : ThreadPool(checked(threads), threads - 1) {}

ThreadPool::ThreadPool(int threads, int workers)
    : owner_(getpid()), cores_(usable_cores()), threads_(threads) {
  try {
    start(workers);
  } catch (...) {
    end();
    throw;
  }
}

std::shared_ptr<ThreadPool> ThreadPool::of_process(int threads) {
  static std::mutex mutex;
  static std::weak_ptr<ThreadPool> pool;
  checked(threads);
  std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<ThreadPool> found = pool.lock();
  if (found == nullptr || found->owner_ != getpid())
    pool = found =
        std::shared_ptr<ThreadPool>(new ThreadPool(std::min(physical_cores(), kMost), threads - 1));
  else if (threads > 1)
    found->start(std::max(
        threads - 1,
        std::min(found->threads() - 1, static_cast<int>(found->workers_.size()) + threads - 1)));
  return found;
}

// So many of them in all.
void ThreadPool::start(int workers) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int started = static_cast<int>(workers_.size());
  if (workers <= started) return;
  workers_.reserve(workers);
  idle_.reserve(workers);
  for (int i = started; i < workers; ++i) {
    auto worker = std::make_unique<Worker>();
    Worker& self = *worker;
    try {
      self.thread = std::thread([this, &self] { work(self); });
    } catch (const std::system_error&) {
      throw Error("only " + std::to_string(i - started) + " of " +
                  std::to_string(workers - started) +
                  " worker threads could be started; ask for fewer threads");
    }
    workers_.push_back(std::move(worker));
    idle_.push_back(&self);
  }
}

ThreadPool::~ThreadPool() { end(); }

void ThreadPool::end() {
  for (auto& worker : workers_) {
    if (getpid() != owner_) {
      worker.release();  // nobody can end a wait of threads that are not there
      continue;
    }
    worker->first = nullptr;
    worker->start.advance();
    worker->thread.join();
  }
}

void ThreadPool::work(Worker& self) {
  std::uint32_t seen = 0;
  for (;;) {
    self.start.wait_past(seen, self.patience);
    ++seen;
    Worker* first = self.first;
    if (first == nullptr) return;
    first->function(first->context, self.index);
    if (first->running.fetch_sub(1, std::memory_order_acq_rel) == 1) first->finish.advance();
  }
}

Crew::Crew(ThreadPool& pool, int wanted) : pool_(pool) {
  if (wanted <= 1) {
    alone_ = true;
    pool.alone_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (getpid() != pool.owner_)
    throw Error(
        "the worker threads did not survive fork(); create the session in the child process");
  std::unique_lock<std::mutex> lock(pool.mutex_);
  pool.freed_.wait(lock, [&] { return pool.busy_ < pool.threads(); });
  const int computing = pool.busy_ + pool.alone_.load(std::memory_order_relaxed);
  const int spare = computing == 0 ? wanted : pool.threads() - computing;
  const int others = std::min({wanted, spare, static_cast<int>(pool.idle_.size()) + 1}) - 1;
  ThreadPool::Worker** end = &first_;
  for (; size_ <= others; ++size_) {
    ThreadPool::Worker* worker = pool.idle_.back();
    pool.idle_.pop_back();
    worker->index = size_;
    worker->next = nullptr;
    *end = worker;
    end = &worker->next;
  }
  pool.busy_ += size_;
}

bool Crew::crowded() const { return size_ > pool_.cores_; }

Crew::~Crew() {
  if (alone_) {
    pool_.alone_.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(pool_.mutex_);
    // In reverse, so that a thread has the same index, and what it left in its core's cache to work
    // on, next time.
    const std::size_t idle = pool_.idle_.size();
    for (ThreadPool::Worker* worker = first_; worker != nullptr; worker = worker->next)
      pool_.idle_.push_back(worker);
    std::reverse(pool_.idle_.begin() + static_cast<std::ptrdiff_t>(idle), pool_.idle_.end());
    pool_.busy_ -= size_;
  }
  pool_.freed_.notify_one();
}

void Crew::run_erased(ThreadPool::Function function, const void* context) {
  ThreadPool::Worker& first = *first_;
  first.function = function;
  first.context = context;
  first.running.store(size_ - 1, std::memory_order_relaxed);
  const std::uint32_t seen = first.finish.value();
  for (ThreadPool::Worker* worker = first_; worker != nullptr;) {
    ThreadPool::Worker* next = worker->next;
    worker->first = &first;
    worker->patience.reset(crowded());
    worker->start.advance();
    worker = next;
  }
  function(context, 0);
  first.finish_patience.reset(crowded());
  first.finish.wait_past(seen, first.finish_patience);
}

}  // namespace activsparse
