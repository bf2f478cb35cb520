// How threads wait for each other: a counter that only rises. Waiters first spin, because the next
// phase of a network usually starts within microseconds, then sleep, so that an idle process uses
// no CPU.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace activsparse {

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

// For how long threads that wait at one place spin before they sleep: up to a tenth of a
// millisecond as long as that is usually enough, and the less the more often it is not. Then
// whoever they wait for has no core, as another program's threads run there, and spinning only
// keeps those from using this one.
class Patience {
 public:
  // Long enough to bridge the imbalance of a phase and the gap between two frames of a busy loop.
  static constexpr std::chrono::nanoseconds kMost = std::chrono::microseconds{100};

  // `never` where there are more threads than cores to run them.
  void reset(bool never) { never_.store(never, std::memory_order_relaxed); }

  std::chrono::nanoseconds spin() const {
    if (never_.load(std::memory_order_relaxed)) return std::chrono::nanoseconds{0};
    return kMost * trust_.load(std::memory_order_relaxed) / kFull;
  }
  // Sleeping and being woken costs about an eighth of spinning in vain: so spinning ends where it
  // is in vain more than once in nine times.
  void learn(std::chrono::nanoseconds waited) {
    const int trust = trust_.load(std::memory_order_relaxed);
    trust_.store(waited < kMost ? std::min(trust + 1, kFull) : std::max(trust - kInVain, 0),
                 std::memory_order_relaxed);
  }

 private:
  static constexpr int kFull = 16, kInVain = 8;
  std::atomic<int> trust_{kFull};  // several threads may learn at once; what is lost is one lesson
  std::atomic<bool> never_{false};
};

class Signal {
 public:
  std::uint32_t value() const { return value_.load(std::memory_order_acquire); }

  // Everything written before advance() is visible to a thread that saw the new value. A waiter
  // counts itself before it looks at the value for the last time, and this looks for waiters after
  // it has changed the value: one of the two sees the other.
  void advance() {
    value_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    changed_.notify_all();
  }

  // Returns once the value differs from `seen`.
  void wait_past(std::uint32_t seen, Patience& patience) {
    const std::chrono::nanoseconds spin = patience.spin();
    const auto begin = std::chrono::steady_clock::now();
    std::chrono::nanoseconds waited{0};
    while (waited < spin) {
      for (int i = 0; i < 32; ++i) {
        if (value() != seen) return patience.learn(waited);
        cpu_relax();
      }
      waited = std::chrono::steady_clock::now() - begin;
    }
    {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      changed_.wait(lock, [&] { return value_.load(std::memory_order_seq_cst) != seen; });
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
    patience.learn(std::chrono::steady_clock::now() - begin);
  }

 private:
  std::atomic<std::uint32_t> value_{0};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace activsparse
