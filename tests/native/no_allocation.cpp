// Runs of every operator of the small networks take no memory: a thread that runs out of it in the
// middle of a run would have nobody to tell. Exits with 0 when operator new is never called.
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "plan/loaded_plan.h"
#include "small_plans.h"

namespace {

std::atomic<bool> watching{false};
std::atomic<int> calls{0};

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (watching) ++calls;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes > 0 ? bytes : 1) != 0) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

int main() {
  using namespace activsparse;
  int failures = 0;
  for (const small_plans::Network& network : small_plans::kAll) {
    SmallPlan small(best_isa());
    network.build(small);
    const std::vector<uint8_t> bytes = small.write();
    const LoadedPlan plan(PlanFile::in_memory(bytes.data(), bytes.size()));
    for (const int threads : {1, 3}) {
      const auto executor = plan.executor(Workforce::all_of(std::make_shared<ThreadPool>(threads)));
      std::vector<std::vector<float>> arrays;
      std::vector<const void*> inputs;
      std::vector<void*> outputs;
      for (std::size_t i = 0; i < executor->input_count(); ++i) {
        arrays.emplace_back(tensor_extent(executor->input(i)), 0.5f);
        inputs.push_back(arrays.back().data());
      }
      for (std::size_t i = 0; i < executor->output_count(); ++i) {
        arrays.emplace_back(tensor_extent(executor->output(i)));
        outputs.push_back(arrays.back().data());
      }
      executor->run(inputs.data(), outputs.data());
      calls = 0;
      watching = true;
      executor->run(inputs.data(), outputs.data());
      watching = false;
      if (calls > 0) std::printf("%s: %d allocations in a run\n", network.name, calls.load());
      failures += calls > 0;
    }
  }
  if (failures == 0) std::puts("ok");
  return failures > 0;
}
