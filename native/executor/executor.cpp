#include "executor/executor.h"

#include <algorithm>
#include <string>

#include "operators/checks.h"

namespace activsparse {
namespace {

// Scratch areas of different threads must not share cache lines; a page apart also keeps
// prefetchers out.
constexpr size_t kScratchAlignment = 4096;

// More than any machine has; all threads' together do not overflow.
constexpr size_t kMostScratch = size_t{1} << 48;

// Of how many later steps one fetches constants.
constexpr size_t kMaxAhead = 4;

// A step that uses a weight fewer times runs at the pace of memory.
constexpr double kFewUses = 4;
// How much of its weights other steps fetch: what stays in a third-level cache until it runs.
constexpr int64_t kMostFar = (8 << 20) / sizeof(float);

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

size_t thread_scratch_of(const std::vector<PlanStep>& steps) {
  size_t bytes = 0;
  for (const PlanStep& step : steps) bytes = std::max(bytes, step.op->scratch_bytes());
  if (bytes > kMostScratch) throw std::bad_alloc();
  return round_up(bytes, kScratchAlignment);
}

size_t shared_scratch_of(const std::vector<PlanStep>& steps) {
  size_t bytes = 0;
  for (const PlanStep& step : steps) bytes = std::max(bytes, step.op->shared_scratch_bytes());
  if (bytes > kMostScratch) throw std::bad_alloc();
  return bytes;
}

void require(bool condition, const std::string& cause) {
  if (!condition) throw Error("the plan is damaged: " + cause + "; compile the model again");
}

void check_ids(const std::vector<int>& ids, size_t count, const std::string& where) {
  for (int id : ids)
    require(id >= 0 && static_cast<size_t>(id) < count,
            where + " names tensor " + std::to_string(id) + " of " + std::to_string(count));
}

}  // namespace

Executor::Executor(std::vector<PlanTensor> tensors, std::vector<PlanStep> steps,
                   std::vector<int> inputs, std::vector<int> outputs, int64_t arena_bytes,
                   std::shared_ptr<ThreadPool> pool)
    : tensors_(std::move(tensors)),
      steps_(std::move(steps)),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      thread_scratch_(thread_scratch_of(steps_)),
      arena_(static_cast<size_t>(std::max<int64_t>(arena_bytes, 0))),
      scratch_(thread_scratch_ * static_cast<size_t>(pool->threads()) + shared_scratch_of(steps_)),
      pool_(std::move(pool)),
      barrier_(*pool_),
      queue_(pool_->threads()) {
  check();
  for (size_t s = 0; s < steps_.size(); ++s) {
    const Operator& op = *steps_[s].op;
    for (int phase = 0; phase < op.phases(); ++phase)
      if (op.tasks(phase) > 0) phases_.push_back({static_cast<int>(s), phase, op.tasks(phase)});
    StepPointers pointers;
    const auto address = [&](int id) {
      return tensors_[id].offset < 0 ? nullptr : arena() + tensors_[id].offset;
    };
    for (int id : steps_[s].inputs) pointers.inputs.push_back(address(id));
    for (int id : steps_[s].outputs) pointers.outputs.push_back(address(id));
    pointers_.push_back(std::move(pointers));
  }
  look_ahead();
  look_far_ahead();
}

// Lets each step that can fetch do so for the steps up to and with the next one that can.
void Executor::look_ahead() {
  for (size_t s = 0; s < steps_.size(); ++s) {
    int64_t room = steps_[s].op->fetches();
    if (room == 0) continue;
    for (size_t next = s + 1; next < steps_.size() && room > 0; ++next) {
      Constants constants = steps_[next].op->constants();
      constants.floats = std::min(constants.floats, room);
      room -= constants.floats;
      if (constants.floats > 0) pointers_[s].ahead.push_back(constants);
      pointers_[next].fetched = constants.floats;
      if (steps_[next].op->fetches() > 0 || pointers_[s].ahead.size() == kMaxAhead) break;
    }
  }
}

// Lets the steps before one that runs at the pace of memory, as a matrix by a vector does, bring
// its weights near meanwhile: the nearest what is read first.
void Executor::look_far_ahead() {
  std::vector<int64_t> room;
  for (const PlanStep& step : steps_) room.push_back(step.op->fetches_far());
  for (size_t s = 0; s < steps_.size(); ++s) {
    Constants left = steps_[s].op->constants();
    if (steps_[s].op->macs() >= kFewUses * static_cast<double>(left.floats)) continue;
    left.data += pointers_[s].fetched;
    left.floats = std::min(left.floats - pointers_[s].fetched, kMostFar);
    for (size_t before = s; before-- > 0 && left.floats > 0;) {
      const int64_t floats = std::min(left.floats, room[before]);
      if (floats == 0) continue;
      pointers_[before].ahead.push_back({left.data, floats});
      room[before] -= floats;
      left.data += floats;
      left.floats -= floats;
    }
  }
}

void Executor::check() const {
  check_ids(inputs_, tensors_.size(), "the list of inputs");
  check_ids(outputs_, tensors_.size(), "the list of outputs");
  const auto arena_bytes = static_cast<int64_t>(arena_.size());
  std::vector<int> external(tensors_.size(), 0);
  for (int id : inputs_) external[id] += 1;
  for (int id : outputs_) external[id] += 1;
  for (size_t id = 0; id < tensors_.size(); ++id) {
    const PlanTensor& tensor = tensors_[id];
    const std::string name = "tensor " + std::to_string(id);
    const TensorDesc& d = tensor.desc;
    if (const char* fault = fault_of_memory(d)) require(false, name + ": " + fault);
    if (tensor.offset < 0) {
      require(external[id] == 1,
              name + " has no arena offset and is not exactly one graph input or output");
    } else {
      require(external[id] == 0, name + " is a graph input or output with an arena offset");
      require(tensor.offset % size_of(d.dtype) == 0 && tensor.offset <= arena_bytes &&
                  tensor_bytes(d) <= arena_bytes - tensor.offset,
              name + " does not fit into the arena");
    }
  }
  const auto descs = [&](const std::vector<int>& ids) {
    std::vector<TensorDesc> list;
    for (int id : ids) list.push_back(tensors_[id].desc);
    return list;
  };
  for (size_t s = 0; s < steps_.size(); ++s) {
    check_ids(steps_[s].inputs, tensors_.size(), "step " + std::to_string(s));
    check_ids(steps_[s].outputs, tensors_.size(), "step " + std::to_string(s));
    for (int id : steps_[s].outputs)
      require(std::find(inputs_.begin(), inputs_.end(), id) == inputs_.end(),
              "step " + std::to_string(s) + " writes a graph input");
    require_tensors(*steps_[s].op, descs(steps_[s].inputs), descs(steps_[s].outputs));
  }
}

// Graph inputs and outputs live in the caller's arrays, so steps touch them without a copy.
void Executor::bind(const void* const* inputs, void* const* outputs) {
  const auto find = [](const std::vector<int>& ids, int id) {
    return std::find(ids.begin(), ids.end(), id) - ids.begin();
  };
  const auto output_of = [&](int id) { return outputs[find(outputs_, id)]; };
  for (size_t s = 0; s < steps_.size(); ++s) {
    const PlanStep& step = steps_[s];
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      const int id = step.inputs[i];
      if (tensors_[id].offset >= 0) continue;
      const size_t input = find(inputs_, id);
      pointers_[s].inputs[i] = input < inputs_.size() ? inputs[input] : output_of(id);
    }
    for (size_t i = 0; i < step.outputs.size(); ++i)
      if (tensors_[step.outputs[i]].offset < 0)
        pointers_[s].outputs[i] = output_of(step.outputs[i]);
  }
}

void Executor::run_phase(const Phase& phase, int thread, int begin, int end) const {
  const StepPointers& pointers = pointers_[phase.step];
  const RunArgs args{pointers.inputs.data(),
                     pointers.outputs.data(),
                     scratch_.data() + thread_scratch_ * thread,
                     scratch_.data() + thread_scratch_ * pool_->threads(),
                     pointers.ahead.data(),
                     static_cast<int>(pointers.ahead.size()),
                     pointers.fetched};
  steps_[phase.step].op->run(args, phase.phase, begin, end);
}

// All threads walk the same list of phases and meet after each. `reached(i)` is called by one
// thread when all have completed i phases; reached(0), and the meeting before it, only when
// `meet_first`: a profile must not charge the threads' waking up to the first step, while a plain
// run must not wait for it.
template <class Reached>
void Executor::run_phases(bool meet_first, const Reached& reached) {
  const size_t count = phases_.size();
  if (pool_->threads() == 1) {
    if (meet_first) reached(0);
    for (size_t i = 0; i < count; ++i) {
      run_phase(phases_[i], 0, 0, phases_[i].tasks);
      reached(i + 1);
    }
    return;
  }
  if (count > 0) queue_.reset(phases_[0].tasks);
  pool_->run([&](int thread) {
    if (meet_first) barrier_.arrive([&] { reached(0); });
    for (size_t i = 0; i < count; ++i) {
      const Phase& phase = phases_[i];
      queue_.drain(thread, [&](int begin, int end) { run_phase(phase, thread, begin, end); });
      barrier_.arrive([&] {
        if (i + 1 < count) queue_.reset(phases_[i + 1].tasks);
        reached(i + 1);
      });
    }
  });
}

void Executor::run(const void* const* inputs, void* const* outputs) {
  std::lock_guard<std::mutex> lock(mutex_);
  bind(inputs, outputs);
  run_phases(false, [](size_t) {});
}

void Executor::run_on(const ParallelFor& parallel, const void* const* inputs,
                      void* const* outputs) {
  std::lock_guard<std::mutex> lock(mutex_);
  bind(inputs, outputs);
  for (const Phase& phase : phases_) {
    const int parts = std::min(pool_->threads(), phase.tasks);
    if (parts == 1) {
      run_phase(phase, 0, 0, phase.tasks);
      continue;
    }
    queue_.reset(phase.tasks);
    // Scratch belongs to a part, not to a thread: parts may run on any threads, each once.
    const auto part = [&](int index) {
      queue_.drain(index, [&](int begin, int end) { run_phase(phase, index, begin, end); });
    };
    using Part = decltype(part);
    parallel(
        [](void* context, std::size_t index) {
          (*static_cast<const Part*>(context))(static_cast<int>(index));
        },
        pool_->threads(), const_cast<void*>(static_cast<const void*>(&part)));
  }
}

std::vector<double> Executor::profile(const void* const* inputs, void* const* outputs, int repeat) {
  if (repeat < 1) throw Error("repeat must be at least 1, got " + std::to_string(repeat));
  std::lock_guard<std::mutex> lock(mutex_);
  bind(inputs, outputs);
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> reached(phases_.size() + 1);
  std::vector<double> times(static_cast<size_t>(repeat) * steps_.size(), 0.0);
  for (int r = 0; r < repeat; ++r) {
    run_phases(true, [&](size_t i) { reached[i] = Clock::now(); });
    for (size_t i = 0; i < phases_.size(); ++i)
      times[r * steps_.size() + phases_[i].step] +=
          std::chrono::duration<double, std::milli>(reached[i + 1] - reached[i]).count();
  }
  return times;
}

}  // namespace activsparse
