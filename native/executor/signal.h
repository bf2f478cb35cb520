// How threads wait for each other: a counter that only rises. Waiters first spin, because the next
// phase of a network usually starts within microseconds, then sleep, so that an idle process uses
// no CPU.
#pragma once
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

class Signal {
 public:
  std::uint32_t value() const { return value_.load(std::memory_order_acquire); }

  // Everything written before advance() is visible to a thread that saw the new value.
  void advance() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      value_.fetch_add(1, std::memory_order_release);
    }
    changed_.notify_all();
  }

  // Returns once the value differs from `seen`; spins for at most `spin` before it sleeps.
  void wait_past(std::uint32_t seen, std::chrono::nanoseconds spin) {
    if (spin.count() > 0) {
      const auto deadline = std::chrono::steady_clock::now() + spin;
      do {
        for (int i = 0; i < 32; ++i) {
          if (value() != seen) return;
          cpu_relax();
        }
      } while (std::chrono::steady_clock::now() < deadline);
    }
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return value() != seen; });
  }

 private:
  std::atomic<std::uint32_t> value_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace activsparse
