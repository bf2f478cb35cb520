#include "choose/measure.h"

#include <algorithm>
#include <limits>

#include "common/machine.h"

namespace activsparse {
namespace {

// Times come in blocks, the algorithms one after the other within each. The least of the blocks'
// medians counts: a block that other programs disturbed is as good as not taken, and a single lucky
// run decides nothing.
constexpr int kBlocks = 3, kRuns = 3;

// After a block, algorithms this many times as slow as the best are not timed again.
constexpr double kBeaten = 1.4;

// No further blocks once runs have taken so long in total: long runs average noise by themselves.
constexpr double kEnoughMs = 100;

// The estimated choice stays unless another is faster by more than the noise: how far both of them
// differ from block to block, within these bounds. So near-equal algorithms do not take turns.
constexpr double kTie = 0.03, kMostNoise = 0.1;

// Packed weights up to this size are kept from block to block.
constexpr std::size_t kHeldBytes = std::size_t{4} << 20;

// Nothing is gained by reading more than this to push weights out of caches.
constexpr std::size_t kMostEvicted = std::size_t{64} << 20;

struct Times {
  const OperatorType* type;
  std::vector<double> medians;  // of its blocks
  double least_run = std::numeric_limits<double>::infinity();
  bool running;

  double least() const { return *std::min_element(medians.begin(), medians.end()); }
  double spread() const { return *std::max_element(medians.begin(), medians.end()) / least() - 1; }
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Takes a block of every algorithm that is still running; returns how long they took.
double take_blocks(std::vector<Times>& all, const Block& block) {
  double spent = 0;
  for (Times& times : all) {
    if (!times.running) continue;
    const std::vector<double> runs = block(*times.type);
    if (runs.empty()) throw Error("a block of times is empty");
    times.medians.push_back(median(runs));
    times.least_run = std::min(times.least_run, *std::min_element(runs.begin(), runs.end()));
    for (double ms : runs) spent += ms;
  }
  return spent;
}

}  // namespace

Measured fastest(const std::vector<const OperatorType*>& types, const std::vector<double>& costs,
                 const OperatorType& favourite, const Block& block, double hopeless) {
  double limit = std::numeric_limits<double>::infinity();
  if (!costs.empty()) limit = hopeless * *std::min_element(costs.begin(), costs.end());
  std::vector<Times> all;
  for (std::size_t i = 0; i < types.size(); ++i)
    all.push_back({types[i],
                   {},
                   std::numeric_limits<double>::infinity(),
                   types[i] == &favourite || costs.empty() || costs[i] <= limit});
  const auto running = [&] {
    return std::count_if(all.begin(), all.end(), [](const Times& times) { return times.running; });
  };

  double spent = 0;
  const int blocks = running() > 1 ? kBlocks : 1;
  for (int taken = 0; taken < blocks; ++taken) {
    spent += take_blocks(all, block);
    // By the least time of all: one disturbed run must not drop the best algorithm.
    double best = std::numeric_limits<double>::infinity();
    for (const Times& times : all)
      if (times.running) best = std::min(best, times.least());
    for (Times& times : all) times.running = times.running && times.least_run <= kBeaten * best;
    if (running() == 1 || spent > kEnoughMs) break;
  }

  Measured found{nullptr, {}};
  const Times *estimated = nullptr, *best = nullptr;
  for (const Times& times : all) {
    found.ms.push_back(times.medians.empty() ? std::nullopt : std::optional(times.least()));
    if (times.type == &favourite) estimated = &times;
    if (!times.medians.empty() && (best == nullptr || times.least() < best->least())) best = &times;
  }
  if (estimated == nullptr) throw Error("the estimated choice is none of the candidates");
  const double noise = std::max(kTie, std::min({kMostNoise, estimated->spread(), best->spread()}));
  if (estimated->least() <= (1 + noise) * best->least()) best = estimated;
  found.fastest = best->type;
  return found;
}

std::vector<double> PackedBlocks::operator()(const OperatorType& type) {
  const auto known = held_.find(&type);
  Packed fresh;
  Packed* packed = known == held_.end() ? &fresh : &known->second;
  if (packed == &fresh) {
    fresh.blob = type.pack(spec_, isa_);
    fresh.op = type.create(BlobView(fresh.blob.data(), fresh.blob.size()), isa_);
    if (fresh.blob.size() <= kHeldBytes) packed = &(held_[&type] = std::move(fresh));
  }
  const Timed timed{packed->op.get(), packed->blob.data(), packed->blob.size()};
  return timer_.time({timed}, spec_.inputs, spec_.outputs, kRuns, evict_bytes_)[0];
}

std::size_t evicted_between(std::size_t others) {
  if (others == 0) return 0;
  const CpuInfo cpu = cpu_info();
  std::size_t enough = std::max(cpu.l3, 4 * cpu.l2), bytes = 1;
  if (enough == 0) enough = kMostEvicted;
  while (bytes < others) bytes *= 2;
  return std::min({bytes, enough, kMostEvicted});
}

}  // namespace activsparse
