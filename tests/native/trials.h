// Trials in child processes, so that one that crashes or hangs is counted, named and left behind.
#pragma once
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <new>
#include <string>

#include "verdict.h"

namespace activsparse {

class Trials {
 public:
  // `program` is how one trial is repeated: PROGRAM --one NAME SEED.
  explicit Trials(const char* program) : program_(program) {
    void* memory =
        mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    counts_ = static_cast<Counts*>(memory);
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
  }

  // `trial(seed)` for `count` seeds from `seed` on.
  template <class Trial>
  void run(const char* name, std::uint64_t seed, std::uint64_t count, const Trial& trial) {
    *counts_ = {};
    while (counts_->next < count) {
      const pid_t child = fork();
      if (child == 0) {
        while (counts_->next < count) {
          alarm(kSeconds);
          ++counts_->verdicts[static_cast<int>(trial(seed + counts_->next++))];
        }
        _exit(0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
      ++faults_;
      std::printf("FAULT: %s --one %s %llu\n", program_, name, number(seed + counts_->next - 1));
    }
    all_ += count;
    std::printf("%s: %llu tried, %llu refused, %llu too large, %llu ran\n", name, number(count),
                number(counts_->verdicts[0]), number(counts_->verdicts[1]),
                number(counts_->verdicts[2]));
  }

  // Prints the sum and returns what the program exits with.
  int finish(const char* what) const {
    std::printf("%llu %s, %llu faults\n", number(all_), what, number(faults_));
    return faults_ > 0;
  }

 private:
  static constexpr unsigned kSeconds = 30;  // that one trial may take
  struct Counts {
    std::uint64_t next, verdicts[3];
  };

  static unsigned long long number(std::uint64_t value) { return value; }

  const char* program_;
  Counts* counts_;
  std::uint64_t all_ = 0, faults_ = 0;
};

}  // namespace activsparse
