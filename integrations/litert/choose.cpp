// The algorithm of every operator; the Python compiler's choose.py and measure.py in short.
#include <algorithm>
#include <chrono>
#include <mutex>

#include "common/machine.h"
#include "executor/timing.h"
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

// The constants of src/activsparse/engine/choose.py, which says what they were fitted to.
double macs_per_byte(Isa isa) {
  return isa == Isa::kAvx512 ? 2.7 : isa == Isa::kAvx2 ? 1.9 : isa == Isa::kNeon ? 0.9 : 0.2;
}
constexpr double kNotHidden = 0.4, kTransforms = 12.0, kDirect1x1 = 1.15, kSums = 4.0;
constexpr int kDirectChannels = 16;

constexpr double kHopeless = 2.0;  // times the least estimate: not measured
constexpr double kTie = 0.97;      // the estimated choice stays unless another is faster by this
constexpr int kRepeat = 3;
constexpr double kSeconds = 5;  // of measurements for one part: a crowded machine makes them last
constexpr size_t kMostEvicted = size_t{64} << 20;

bool starts_with(const char* text, const char* start) {
  return std::string(text).rfind(start, 0) == 0;
}

struct Candidate {
  const OperatorType* type;
  Packed packed;
  double cost;  // estimated, in multiply-adds
};

Packed pack(const OperatorType& type, const OpSpec& spec, Isa isa) {
  Packed packed;
  packed.blob = type.pack(spec, isa);
  packed.op = type.create(BlobView(packed.blob.data(), packed.blob.size()), isa);
  return packed;
}

double cost(const OpSpec& spec, const OperatorType& type, const Packed& packed, Isa isa) {
  double in = spec.inputs[0].c, out = spec.outputs[0].c;
  if (starts_with(type.algorithm, "winograd_stem"))  // the channels of strided pixels
    in *= double(spec.int_or("stride_h", 1) * spec.int_or("stride_w", 1));
  double macs = packed.op->macs();
  if (starts_with(type.algorithm, "winograd")) macs *= 1 + kTransforms * (1 / in + 1 / out);
  if (starts_with(type.algorithm, "active_taps")) macs *= 1 + kSums / in;
  const int64_t group = spec.int_or("group", 1);
  if (starts_with(type.algorithm, "direct") && group > 1) {
    const auto channels = static_cast<int>(spec.outputs[0].c / group);
    macs *= double((channels + kDirectChannels - 1) / kDirectChannels * kDirectChannels) / channels;
  }
  const double bytes = double(packed.blob.size() - packed.op->index_bytes());
  const double fetching = macs_per_byte(isa) * bytes;
  if (type.algorithm == std::string("direct")) {
    const std::vector<int64_t>& shape = spec.array("weight")->shape;
    const bool point = shape[2] == 1 && shape[3] == 1;
    macs = point ? macs * kDirect1x1 : macs + kNotHidden * fetching;
  }
  return std::max(macs, fetching);
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
  std::map<std::string, std::string> algorithms;
};
Known& known() {
  static Known choices;
  return choices;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
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
  std::vector<const OperatorType*> able;
  std::string reasons;
  for (const OperatorType& type : operator_types()) {
    if (spec.kind != type.kind || type.algorithm == std::string("reference")) continue;
    const std::string reason = type.unsupported(spec, isa_);
    if (reason.empty())
      able.push_back(&type);
    else
      reasons += std::string(type.algorithm) + ": " + reason + "; ";
  }
  if (able.empty()) throw Error("no algorithm runs a " + spec.kind + ": " + reasons);
  if (able.size() == 1 || spec.kind != "conv") return pack(*able[0], spec, isa_);

  const size_t last_level = std::max(cpu_info().l3, 4 * cpu_info().l2);
  size_t evict = 1;
  while (evict < weight_bytes_) evict *= 2;
  evict = std::min({evict, last_level ? last_level : kMostEvicted, kMostEvicted});
  const std::string key = key_of(spec, isa_, threads_, evict);
  if (tune_) {
    std::lock_guard<std::mutex> lock(known().mutex);
    const auto found = known().algorithms.find(key);
    if (found != known().algorithms.end())
      return pack(find_operator_type(spec.kind, found->second), spec, isa_);
  }

  std::vector<Candidate> candidates;
  for (const OperatorType* type : able) {
    Packed packed = pack(*type, spec, isa_);
    const double estimate = cost(spec, *type, packed, isa_);
    candidates.push_back({type, std::move(packed), estimate});
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
  while (candidates.back().cost > kHopeless * candidates.front().cost) candidates.pop_back();
  if (!tune_ || candidates.size() == 1 || seconds_ <= 0)
    return std::move(candidates.front().packed);

  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  std::vector<Timed> timed;
  for (const Candidate& c : candidates)
    timed.push_back({c.packed.op.get(), c.packed.blob.data(), c.packed.blob.size()});
  const auto times = timer_->get().time(timed, spec.inputs, spec.outputs, kRepeat, evict);
  seconds_ -= std::chrono::duration<double>(Clock::now() - begin).count();
  size_t best = 0;
  for (size_t i = 1; i < times.size(); ++i)
    if (median(times[i]) < (best == 0 ? kTie : 1.0) * median(times[best])) best = i;
  std::lock_guard<std::mutex> lock(known().mutex);
  known().algorithms[key] = candidates[best].type->algorithm;
  return std::move(candidates[best].packed);
}

}  // namespace activsparse::litert
