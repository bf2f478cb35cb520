#include "executor/timing.h"

#include <atomic>
#include <chrono>
#include <random>

#include "executor/executor.h"
#include "kernels/kernels.h"

namespace activsparse {
namespace {

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// One word per cache line; the sum is kept so that the reads are.
void read_all(const PageBuffer& buffer, std::atomic<unsigned>& sink) {
  unsigned sum = 0;
  for (std::size_t i = 0; i < buffer.size(); i += 64) sum += buffer.data()[i];
  sink.fetch_add(sum, std::memory_order_relaxed);
}

}  // namespace

std::vector<double> time_operator(const Operator& op, const std::vector<TensorDesc>& inputs,
                                  const std::vector<TensorDesc>& outputs, int repeat, int threads,
                                  std::size_t evict_bytes) {
  std::vector<PlanTensor> tensors;
  PlanStep step{&op, {}, {}};
  int64_t floats = 0, input_floats = 0;
  const auto place = [&](TensorDesc desc, std::vector<int>& ids) {
    ids.push_back(static_cast<int>(tensors.size()));
    tensors.push_back({desc, floats});
    // A vector beyond the end: operators on padded tensors may read and write whole vectors.
    floats += round_up(tensor_extent(desc) + 16, 16);
  };
  for (const TensorDesc& desc : inputs) place(desc, step.inputs);
  input_floats = floats;
  for (const TensorDesc& desc : outputs) place(desc, step.outputs);
  const auto pool = std::make_shared<ThreadPool>(threads);
  Executor executor(std::move(tensors), {std::move(step)}, {}, {}, floats, pool);

  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(input_floats);
  for (float& value : values) value = uniform(random);
  std::copy(values.begin(), values.end(), executor.arena());
  executor.profile(nullptr, nullptr, 1);
  if (evict_bytes == 0) return executor.profile(nullptr, nullptr, repeat);

  if (repeat < 1) throw Error("repeat must be at least 1, got " + std::to_string(repeat));
  PageBuffer other(evict_bytes);
  std::memset(other.data(), 1, other.size());
  std::atomic<unsigned> sink{0};
  std::vector<double> times;
  for (int r = 0; r < repeat; ++r) {
    pool->run([&](int) { read_all(other, sink); });
    std::copy(values.begin(), values.end(), executor.arena());
    times.push_back(executor.profile(nullptr, nullptr, 1)[0]);
  }
  return times;
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
