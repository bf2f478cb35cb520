#include "executor/timing.h"

#include <sys/resource.h>
#include <time.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "common/machine.h"
#include "executor/executor.h"
#include "kernels/kernels.h"

namespace activsparse {
namespace {

constexpr std::size_t kLine = 64;

// Values repeat after so many: enough for arithmetic not to notice, quick to draw.
constexpr std::size_t kDrawn = 4096;

// How often a run is taken again because the system gave a core to someone else meanwhile.
// Longer runs than the system's turns are interrupted always: taking them again changes nothing.
constexpr int kRetries = 4;
constexpr double kLongMs = 5;

// How often threads of this process have been made to wait for a core they could have used.
long interruptions() {
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_nivcsw : 0;
}

// Processor time of the calling thread, which stands still while another program has the core.
double thread_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

// The mean over a pool's threads. They wait for each other spinning, so that is counted. (The clock
// of the whole process lags behind for threads that are running.)
double mean_thread_ms(ThreadPool& pool) {
  std::vector<double> ms(pool.threads());
  Crew(pool, pool.threads()).run([&](int thread) { ms[thread] = thread_ms(); });
  return std::accumulate(ms.begin(), ms.end(), 0.0) / pool.threads();
}

struct Region {
  unsigned char* data;
  std::size_t size;
};

// Reads or rewrites one byte of every cache line of this thread's share.
void touch(const Region& region, int thread, int threads, bool write) {
  const std::size_t lines = (region.size + kLine - 1) / kLine;
  volatile unsigned char* data = region.data;
  for (std::size_t i = lines * thread / threads; i < lines * (thread + 1) / threads; ++i) {
    const unsigned char value = data[i * kLine];
    if (write) data[i * kLine] = value;
  }
}

// Writes the cache lines of packed data back and drops them from all caches.
#if defined(__x86_64__)
constexpr bool kCanFlush = true;
void flush(const std::uint8_t* data, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += kLine) _mm_clflush(data + i);
  _mm_mfence();
}
#elif defined(__aarch64__)
constexpr bool kCanFlush = true;
void flush(const std::uint8_t* data, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += kLine)
    asm volatile("dc civac, %0" ::"r"(data + i) : "memory");
  asm volatile("dsb ish" ::: "memory");
}
#else
constexpr bool kCanFlush = false;
void flush(const std::uint8_t*, std::size_t) {}
#endif

void fill_random(float* values, std::size_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = i < kDrawn ? uniform(random) : values[i - kDrawn];
}

void fill_random_halves(Half* values, std::size_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = i < kDrawn ? half_of(uniform(random)) : values[i - kDrawn];
}

// The tensors of one kind of operator, outside of any executor's arena.
class Tensors {
 public:
  Tensors(const std::vector<TensorDesc>& inputs, const std::vector<TensorDesc>& outputs)
      : memory_(bytes_of(inputs, outputs)) {
    const auto place = [&](const TensorDesc& desc, std::vector<int>& ids, auto& pointers) {
      ids.push_back(static_cast<int>(tensors_.size()));
      tensors_.push_back({desc, -1});
      pointers.push_back(memory_.data() + bytes_);
      bytes_ += room(desc);
    };
    for (const TensorDesc& desc : inputs) place(desc, step_.inputs, inputs_);
    const std::size_t input_bytes = bytes_;
    for (const TensorDesc& desc : outputs) place(desc, step_.outputs, outputs_);
    input_region_ = {memory_.data(), input_bytes};
    output_region_ = {memory_.data() + input_bytes, memory_.size() - input_bytes};
    const auto is_half = [](const TensorDesc& desc) { return desc.dtype == DType::kFloat16; };
    if (std::any_of(inputs.begin(), inputs.end(), is_half))
      fill_random_halves(reinterpret_cast<Half*>(memory_.data()), input_bytes / sizeof(Half));
    else
      fill_random(reinterpret_cast<float*>(memory_.data()), input_bytes / sizeof(float));
  }

  std::unique_ptr<Executor> executor(const Operator& op,
                                     const std::shared_ptr<ThreadPool>& pool) const {
    PlanStep step = step_;
    step.op = &op;
    return std::make_unique<Executor>(tensors_, std::vector<PlanStep>{step}, step.inputs,
                                      step.outputs, 0, Workforce::all_of(pool));
  }

  double run_ms(Executor& executor, ThreadPool& pool) const {
    const double begin = mean_thread_ms(pool);
    const double ms = executor.profile(inputs_.data(), outputs_.data(), 1)[0];
    return std::min(ms, mean_thread_ms(pool) - begin);
  }

  const Region& inputs() const { return input_region_; }
  const Region& outputs() const { return output_region_; }

 private:
  // A vector beyond the end: operators on padded tensors may read and write whole vectors.
  static std::size_t room(const TensorDesc& desc) {
    return (static_cast<std::size_t>(tensor_bytes(desc)) + 2 * kLine - 1) / kLine * kLine;
  }

  static std::size_t bytes_of(const std::vector<TensorDesc>& inputs,
                              const std::vector<TensorDesc>& outputs) {
    std::size_t bytes = 0;
    for (const TensorDesc& desc : inputs) bytes += room(desc);
    for (const TensorDesc& desc : outputs) bytes += room(desc);
    return bytes;
  }

  PageBuffer memory_;
  std::size_t bytes_ = 0;
  std::vector<PlanTensor> tensors_;
  PlanStep step_{nullptr, {}, {}};
  std::vector<const void*> inputs_;
  std::vector<void*> outputs_;
  Region input_region_{}, output_region_{};
};

}  // namespace

OperatorTimer::OperatorTimer(int threads)
    : pool_(std::make_shared<ThreadPool>(threads)), last_level_(cpu_info().l3) {}

void OperatorTimer::evict(const Timed& timed, std::size_t bytes) {
  if (kCanFlush && last_level_ > 0 && bytes >= last_level_) {
    flush(timed.data, timed.bytes);
    return;
  }
  if (other_ == nullptr || other_->size() < bytes) {
    other_.reset();
    other_ = std::make_unique<PageBuffer>(bytes);
    std::memset(other_->data(), 1, bytes);  // pages never written may all be one zero page
  }
  Crew(*pool_, pool_->threads()).run([&](int) { touch({other_->data(), bytes}, 0, 1, false); });
}

std::vector<std::vector<double>> OperatorTimer::time(const std::vector<Timed>& ops,
                                                     const std::vector<TensorDesc>& inputs,
                                                     const std::vector<TensorDesc>& outputs,
                                                     int repeat, std::size_t evict_bytes) {
  if (repeat < 1) throw Error("repeat must be at least 1, got " + std::to_string(repeat));
  const Tensors tensors(inputs, outputs);
  std::vector<std::unique_ptr<Executor>> executors;
  for (const Timed& timed : ops) executors.push_back(tensors.executor(*timed.op, pool_));
  const auto chill = [&](const Timed& timed, Executor& executor) {
    evict(timed, evict_bytes);
    const Region scratch{executor.scratch(), executor.scratch_bytes()};
    Crew(*pool_, pool_->threads()).run([&](int thread) {
      for (const Region& region : {tensors.outputs(), scratch, tensors.inputs()})
        touch(region, thread, pool_->threads(), true);
    });
  };
  std::vector<std::vector<double>> times(ops.size());
  for (const auto& executor : executors) tensors.run_ms(*executor, *pool_);
  for (int round = 0; round < repeat; ++round) {
    for (std::size_t i = 0; i < ops.size(); ++i) {
      double least = std::numeric_limits<double>::infinity();
      bool interrupted = true;
      for (int attempt = 0; interrupted && attempt <= kRetries; ++attempt) {
        if (evict_bytes > 0) chill(ops[i], *executors[i]);
        const long before = interruptions();
        least = std::min(least, tensors.run_ms(*executors[i], *pool_));
        interrupted = least < kLongMs && interruptions() != before;
      }
      times[i].push_back(least);
    }
  }
  return times;
}

std::vector<double> time_operator(const Timed& op, const std::vector<TensorDesc>& inputs,
                                  const std::vector<TensorDesc>& outputs, int repeat, int threads,
                                  std::size_t evict_bytes) {
  return OperatorTimer(threads).time({op}, inputs, outputs, repeat, evict_bytes)[0];
}

double fma_peak_gflops(Isa isa) {
  const PeakKernels& peak = kernels_for(isa).peak_f32;
  const int64_t rounds = 1 << 18;
  peak.run(rounds);
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  volatile float keep = peak.run(rounds);
  static_cast<void>(keep);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return 1e-9 * static_cast<double>(rounds * peak.flops_per_round) / seconds;
}

}  // namespace activsparse
