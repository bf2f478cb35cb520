// The algorithm of every operator, measured once in a process.
#include "choose/choose.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <mutex>

#include "choose/measure.h"
#include "integrations/litert/partition.h"

namespace activsparse::litert {

class TimerOnDemand {
 public:
  explicit TimerOnDemand(int threads) : threads_(threads) {}
  OperatorTimer& get() {
    if (!timer_) timer_ = std::make_unique<OperatorTimer>(threads_);
    return *timer_;
  }

 private:
  int threads_;
  std::unique_ptr<OperatorTimer> timer_;
};

namespace {

constexpr double kSeconds = 5;  // of measurements for one part: a crowded machine makes them last

Packed pack(const OperatorType& type, const OpSpec& spec, Isa isa) {
  Packed packed;
  packed.blob = type.pack(spec, isa);
  packed.op = type.create(BlobView(packed.blob.data(), packed.blob.size()), isa);
  return packed;
}

// All that decides how long the algorithms of a convolution take on this machine.
std::string key_of(const OpSpec& spec, Isa isa, int threads, size_t evict_bytes) {
  std::string key = isa_name(isa);
  const auto number = [&](int64_t value) { key += std::to_string(value) + ","; };
  number(threads), number(static_cast<int64_t>(evict_bytes));
  for (const auto& [name, value] : spec.ints) number(value);
  for (const auto* list : {&spec.inputs, &spec.outputs})
    for (const TensorDesc& t : *list)
      for (int32_t size : {t.n, t.h, t.w, t.c, t.stride, t.nchw, t.padded}) number(size);
  key += spec.string_or("activation", "none");
  for (const auto& [name, array] : spec.arrays) {
    key += name;
    for (int64_t size : array.shape) number(size);
    if (array.dtype == 'b') key.append(static_cast<const char*>(array.data), array.size());
  }
  return key;
}

// What was measured in this process: other interpreters of the same model need not wait again.
struct Known {
  std::mutex mutex;
  std::map<std::string, const OperatorType*> algorithms;
};
Known& known() {
  static Known choices;
  return choices;
}

}  // namespace

Chooser::Chooser(Isa isa, int threads, bool tune, size_t weight_bytes)
    : isa_(isa),
      threads_(threads),
      tune_(tune),
      weight_bytes_(weight_bytes),
      seconds_(kSeconds),
      timer_(std::make_unique<TimerOnDemand>(threads)) {}

Chooser::~Chooser() = default;

Packed Chooser::operator()(const OpSpec& spec) {
  const std::vector<const OperatorType*> types = able(spec, isa_);
  const ArrayView* weight = spec.array("weight");
  if (!tune_ || types.size() == 1 || spec.kind != "conv")
    return pack(choose(spec, costs_of(isa_)), spec, isa_);

  const size_t own = static_cast<size_t>(weight->size()) * sizeof(float);
  const size_t evict = evicted_between(weight_bytes_ - std::min(own, weight_bytes_));
  const std::string key = key_of(spec, isa_, threads_, evict);
  {
    std::lock_guard<std::mutex> lock(known().mutex);
    const auto found = known().algorithms.find(key);
    if (found != known().algorithms.end()) return pack(*found->second, spec, isa_);
  }
  const Costs& costs = costs_here(isa_);
  const OperatorType& favourite = choose(spec, costs);
  if (seconds_ <= 0) return pack(favourite, spec, isa_);

  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  PackedBlocks blocks(spec, isa_, timer_->get(), evict);
  const OperatorType* best =
      fastest(types, estimates(spec, costs, types), favourite, std::ref(blocks)).fastest;
  seconds_ -= std::chrono::duration<double>(Clock::now() - begin).count();
  std::lock_guard<std::mutex> lock(known().mutex);
  known().algorithms[key] = best;
  return pack(*best, spec, isa_);
}

}  // namespace activsparse::litert
