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
                   Workforce force)
    : tensors_(std::move(tensors)),
      steps_(std::move(steps)),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      arena_bytes_(std::max<int64_t>(arena_bytes, 0)),
      force_(std::move(force)),
      neighbours_(steps_.size()),
      thread_scratch_(thread_scratch_of(steps_)),
      shared_scratch_(shared_scratch_of(steps_)) {
  if (force_.threads < 1 || force_.threads > ThreadPool::kMost)
    throw Error("threads must be between 1 and " + std::to_string(ThreadPool::kMost) + ", got " +
                std::to_string(force_.threads));
  check();
  for (size_t s = 0; s < steps_.size(); ++s) {
    const Operator& op = *steps_[s].op;
    for (int phase = 0; phase < op.phases(); ++phase)
      if (op.tasks(phase) > 0) phases_.push_back({static_cast<int>(s), phase, op.tasks(phase)});
  }
  look_ahead();
  look_far_ahead();
  find_ends();
  contexts_.push_back(make_context());
  idle_.push_back(contexts_.back().get());
}

std::unique_ptr<Executor::Lane> Executor::make_lane(int threads) const {
  auto lane =
      std::make_unique<Lane>(static_cast<size_t>(arena_bytes_),
                             thread_scratch_ * static_cast<size_t>(threads) + shared_scratch_);
  lane->threads = threads;
  const auto address = [&](int id) {
    return tensors_[id].offset < 0 ? nullptr : lane->arena.data() + tensors_[id].offset;
  };
  for (const PlanStep& step : steps_) {
    StepPointers pointers;
    for (int id : step.inputs) pointers.inputs.push_back(address(id));
    for (int id : step.outputs) pointers.outputs.push_back(address(id));
    lane->pointers.push_back(std::move(pointers));
  }
  return lane;
}

std::unique_ptr<Executor::Context> Executor::make_context() const {
  auto context = std::make_unique<Context>(force_.threads);
  context->lanes.push_back(make_lane(force_.threads));
  for (int lane = 1; lane < std::min(force_.threads, force_.parts); ++lane)
    context->lanes.push_back(make_lane(1));
  return context;
}

Executor::Context* Executor::borrow() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (idle_.empty() && contexts_.size() < static_cast<size_t>(force_.runs)) {
    contexts_.push_back(make_context());
    return contexts_.back().get();
  }
  given_back_.wait(lock, [&] { return !idle_.empty(); });
  Context* context = idle_.back();
  idle_.pop_back();
  return context;
}

void Executor::give_back(Context* context) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(context);
  }
  given_back_.notify_one();
}

size_t Executor::runs_at_once() {
  std::lock_guard<std::mutex> lock(mutex_);
  return contexts_.size();
}

size_t Executor::arena_bytes() const {
  return static_cast<size_t>(arena_bytes_) * contexts_[0]->lanes.size();
}

size_t Executor::scratch_bytes() const {
  size_t bytes = 0;
  for (const auto& lane : contexts_[0]->lanes) bytes += lane->scratch.size();
  return bytes;
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
      if (constants.floats > 0) neighbours_[s].ahead.push_back(constants);
      neighbours_[next].fetched = constants.floats;
      if (steps_[next].op->fetches() > 0 || neighbours_[s].ahead.size() == kMaxAhead) break;
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
    left.data += neighbours_[s].fetched;
    left.floats = std::min(left.floats - neighbours_[s].fetched, kMostFar);
    for (size_t before = s; before-- > 0 && left.floats > 0;) {
      const int64_t floats = std::min(left.floats, room[before]);
      if (floats == 0) continue;
      neighbours_[before].ahead.push_back({left.data, floats});
      room[before] -= floats;
      left.data += floats;
      left.floats -= floats;
    }
  }
}

void Executor::check() const {
  check_ids(inputs_, tensors_.size(), "the list of inputs");
  check_ids(outputs_, tensors_.size(), "the list of outputs");
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
      require(tensor.offset % size_of(d.dtype) == 0 && tensor.offset <= arena_bytes_ &&
                  tensor_bytes(d) <= arena_bytes_ - tensor.offset,
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
void Executor::find_ends() {
  const auto place_in = [](const std::vector<int>& ids, int id) {
    return static_cast<size_t>(std::find(ids.begin(), ids.end(), id) - ids.begin());
  };
  for (size_t s = 0; s < steps_.size(); ++s) {
    const auto add = [&](const std::vector<int>& ids, bool written) {
      for (size_t i = 0; i < ids.size(); ++i) {
        if (tensors_[ids[i]].offset >= 0) continue;
        const size_t input = place_in(inputs_, ids[i]);
        const bool output = input == inputs_.size();
        ends_.push_back({s, i, written, output, output ? place_in(outputs_, ids[i]) : input});
      }
    };
    add(steps_[s].inputs, false);
    add(steps_[s].outputs, true);
  }
}

void Executor::bind(Lane& lane, const Arrays& arrays, int part) const {
  for (const End& end : ends_) {
    StepPointers& pointers = lane.pointers[end.step];
    if (end.output) {
      auto* data = static_cast<unsigned char*>(arrays.outputs[end.number]) +
                   part * tensor_bytes(output(end.number));
      if (end.written)
        pointers.outputs[end.place] = data;
      else
        pointers.inputs[end.place] = data;
    } else {
      pointers.inputs[end.place] = static_cast<const unsigned char*>(arrays.inputs[end.number]) +
                                   part * tensor_bytes(input(end.number));
    }
  }
}

// How many of a batch's parts so many threads run each by itself: all but those that are left when
// all have had equally many, if more than half of them would then wait.
int Executor::apart(int threads) const {
  const int left = force_.parts % threads;
  return 2 * left <= threads ? force_.parts - left : force_.parts;
}

void Executor::run_phase(const Lane& lane, const Phase& phase, int thread, int begin,
                         int end) const {
  const StepPointers& pointers = lane.pointers[phase.step];
  const Neighbours& neighbours = neighbours_[phase.step];
  const RunArgs args{pointers.inputs.data(),
                     pointers.outputs.data(),
                     lane.scratch.data() + thread_scratch_ * thread,
                     lane.scratch.data() + thread_scratch_ * lane.threads,
                     neighbours.ahead.data(),
                     static_cast<int>(neighbours.ahead.size()),
                     neighbours.fetched};
  steps_[phase.step].op->run(args, phase.phase, begin, end);
}

// `reached(i)` is called when i + 1 phases are complete.
template <class Reached>
void Executor::run_alone(Lane& lane, const Reached& reached) const {
  for (size_t i = 0; i < phases_.size(); ++i) {
    run_phase(lane, phases_[i], 0, 0, phases_[i].tasks);
    reached(i);
  }
}

// All threads walk the same list of phases and meet after each. `reached(i)` is called by one
// thread when all have completed i + 1 phases; reached(-1), and the meeting before it, only when
// `meet_first`: a profile must not charge the threads' waking up to the first step, while a plain
// run must not wait for it.
template <class Reached>
void Executor::run_together(Context& context, Crew& crew, bool meet_first,
                            const Reached& reached) const {
  Lane& lane = *context.lanes[0];
  if (crew.size() == 1) {
    if (meet_first) reached(-1);
    return run_alone(lane, reached);
  }
  const size_t count = phases_.size();
  context.barrier.reset(crew.size(), crew.crowded());
  if (count > 0) context.queue.reset(phases_[0].tasks, crew.size());
  crew.run([&](int thread) {
    if (meet_first) context.barrier.arrive([&] { reached(-1); });
    for (size_t i = 0; i < count; ++i) {
      const Phase& phase = phases_[i];
      context.queue.drain(thread,
                          [&](int begin, int end) { run_phase(lane, phase, thread, begin, end); });
      context.barrier.arrive([&] {
        if (i + 1 < count) context.queue.reset(phases_[i + 1].tasks, crew.size());
        reached(static_cast<int64_t>(i));
      });
    }
  });
}

// Each thread takes the next part when it is done with one. `reached(thread, i)` is called by each
// thread, with i = -1 before a part.
template <class Reached>
void Executor::run_apart(Context& context, Crew& crew, const Arrays& arrays, int parts,
                         const Reached& reached) const {
  context.next_part.store(0, std::memory_order_relaxed);
  crew.run([&](int thread) {
    if (static_cast<size_t>(thread) >= context.lanes.size()) return;
    Lane& lane = *context.lanes[thread];
    for (int part; (part = context.next_part.fetch_add(1, std::memory_order_relaxed)) < parts;) {
      bind(lane, arrays, part);
      reached(thread, -1);
      run_alone(lane, [&](int64_t i) { reached(thread, i); });
    }
  });
}

void Executor::run(const void* const* inputs, void* const* outputs) {
  const Arrays arrays{inputs, outputs};
  const Borrowed borrowed(*this);
  Context& context = *borrowed;
  Crew crew(*force_.pool, force_.threads);
  const int alone = force_.parts == 1 ? 0 : apart(crew.size());
  if (alone > 0) run_apart(context, crew, arrays, alone, [](int, int64_t) {});
  for (int part = alone; part < force_.parts; ++part) {
    bind(*context.lanes[0], arrays, part);
    run_together(context, crew, false, [](int64_t) {});
  }
}

void Executor::run_on(const ParallelFor& parallel, const void* const* inputs,
                      void* const* outputs) {
  const Arrays arrays{inputs, outputs};
  const Borrowed borrowed(*this);
  Context& context = *borrowed;
  // Scratch and arenas belong to a piece, not to a thread: pieces may run on any threads, each
  // once.
  const auto for_each = [&](int count, const auto& piece) {
    using Piece = std::remove_reference_t<decltype(piece)>;
    parallel([](void* data,
                std::size_t index) { (*static_cast<Piece*>(data))(static_cast<int>(index)); },
             count, const_cast<void*>(static_cast<const void*>(&piece)));
  };
  const int alone = force_.parts == 1 ? 0 : apart(force_.threads);
  if (alone > 0) {
    context.next_part.store(0, std::memory_order_relaxed);
    for_each(std::min(force_.threads, alone), [&](int piece) {
      Lane& lane = *context.lanes[piece];
      for (int part; (part = context.next_part.fetch_add(1, std::memory_order_relaxed)) < alone;) {
        bind(lane, arrays, part);
        run_alone(lane, [](int64_t) {});
      }
    });
  }
  Lane& lane = *context.lanes[0];
  for (int part = alone; part < force_.parts; ++part) {
    bind(lane, arrays, part);
    for (const Phase& phase : phases_) {
      const int pieces = std::min(force_.threads, phase.tasks);
      if (pieces == 1) {
        run_phase(lane, phase, 0, 0, phase.tasks);
        continue;
      }
      context.queue.reset(phase.tasks, force_.threads);
      for_each(force_.threads, [&](int piece) {
        context.queue.drain(piece,
                            [&](int begin, int end) { run_phase(lane, phase, piece, begin, end); });
      });
    }
  }
}

std::vector<double> Executor::profile(const void* const* inputs, void* const* outputs, int repeat) {
  if (repeat < 1) throw Error("repeat must be at least 1, got " + std::to_string(repeat));
  using Clock = std::chrono::steady_clock;
  const Arrays arrays{inputs, outputs};
  const Borrowed borrowed(*this);
  Context& context = *borrowed;
  Crew crew(*force_.pool, force_.threads);
  const int threads = force_.parts == 1 ? 1 : std::min(crew.size(), force_.parts);
  struct Clocked {
    Clock::time_point last;
    std::vector<double> ms;
  };
  std::vector<Clocked> clocked(crew.size());
  const auto reached = [&](int thread, int64_t i) {
    Clocked& c = clocked[thread];
    const Clock::time_point now = Clock::now();
    if (i >= 0)
      c.ms[phases_[i].step] += std::chrono::duration<double, std::milli>(now - c.last).count();
    c.last = now;
  };
  std::vector<double> times;
  for (int r = 0; r < repeat; ++r) {
    for (Clocked& c : clocked) c.ms.assign(steps_.size(), 0.0);
    if (force_.parts == 1) {
      bind(*context.lanes[0], arrays, 0);
      run_together(context, crew, true, [&](int64_t i) { reached(0, i); });
    } else {
      run_apart(context, crew, arrays, force_.parts, reached);
    }
    for (size_t s = 0; s < steps_.size(); ++s) {
      double sum = 0;
      for (const Clocked& c : clocked) sum += c.ms[s];
      times.push_back(sum / threads);
    }
  }
  return times;
}

}  // namespace activsparse
