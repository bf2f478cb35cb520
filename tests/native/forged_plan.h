// Plans that were altered and sealed again: what the forger and the fuzzer share.
#pragma once
#include <cstddef>
#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <vector>

#include "guarded.h"
#include "plan/crc32.h"
#include "plan/layout.h"
#include "plan/loaded_plan.h"
#include "verdict.h"

namespace activsparse {

// Makes the checksum fit.
inline void seal(Blob& plan) {
  std::memset(plan.data() + offsetof(PlanHeader, checksum), 0, sizeof(std::uint32_t));
  const std::uint32_t checksum = crc32(plan.data(), plan.size());
  std::memcpy(plan.data() + offsetof(PlanHeader, checksum), &checksum, sizeof(checksum));
}

// Opens a plan and, if it is accepted and small, runs it once, on memory of exactly the size that
// it asks for.
inline Verdict try_plan(const Blob& bytes) {
  constexpr std::int64_t kMost = std::int64_t{1} << 26;  // bytes, of which a plan may use so many
  constexpr std::int64_t kMostTasks = 1 << 22;
  try {
    const auto file = PlanFile::in_memory(bytes.data(), bytes.size());
    const PlanContent& content = file->content();
    std::int64_t bytes = content.arena_bytes;
    for (const PlanTensor& tensor : content.tensors) {
      if (tensor_bytes(tensor.desc) > kMost) return Verdict::kTooLarge;
      if (tensor.offset < 0) bytes += content.parts * tensor_bytes(tensor.desc);
    }
    if (bytes > kMost) return Verdict::kTooLarge;
    const LoadedPlan plan(file);
    const auto executor = plan.executor({std::make_shared<ThreadPool>(1)});
    if (executor->scratch_bytes() > kMost) return Verdict::kTooLarge;
    std::int64_t tasks = 0;
    for (std::size_t i = 0; i < content.steps.size(); ++i) {
      const auto op = file->create(i);
      for (int phase = 0; phase < op->phases(); ++phase)
        tasks += std::int64_t{content.parts} * op->tasks(phase);
    }
    if (tasks > kMostTasks) return Verdict::kTooLarge;
    std::deque<Guarded> arrays;
    std::vector<const void*> inputs;
    std::vector<void*> outputs;
    for (std::size_t i = 0; i < executor->input_count(); ++i) {
      arrays.emplace_back(content.parts * tensor_bytes(executor->input(i)));
      inputs.push_back(arrays.back().floats());
    }
    for (std::size_t i = 0; i < executor->output_count(); ++i) {
      arrays.emplace_back(content.parts * tensor_bytes(executor->output(i)));
      outputs.push_back(arrays.back().floats());
    }
    executor->run(inputs.data(), outputs.data());
    return Verdict::kRan;
  } catch (const Error&) {
    return Verdict::kRefused;
  } catch (const std::bad_alloc&) {
    return Verdict::kTooLarge;
  }
}

}  // namespace activsparse
