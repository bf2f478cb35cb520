// Which algorithm runs an operator, by measurement on this machine.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "executor/timing.h"
#include "operators/operator.h"

namespace activsparse {

struct Measured {
  const OperatorType* fastest;
  std::vector<std::optional<double>> ms;  // of every candidate; nothing where it was not timed
};

// Milliseconds of some runs of an algorithm, one block of them.
using Block = std::function<std::vector<double>(const OperatorType&)>;

// An algorithm estimated at this many times the least is not timed: where estimates were fitted
// (benchmarks/fit_costs.py), none of the fastest ones was at more than 1.3 times.
inline constexpr double kHopeless = 2.0;

// The fastest of `types`, in blocks that take turns: what lasts disturbs all of them. `favourite`,
// the one that is estimated to be, stays unless another is faster by more than the noise. `costs`
// are their estimates, or empty.
Measured fastest(const std::vector<const OperatorType*>& types, const std::vector<double>& costs,
                 const OperatorType& favourite, const Block& block, double hopeless = kHopeless);

// Blocks of an operator: packs what is timed, small weights once, large ones again for each block,
// so that only one algorithm's are in memory.
class PackedBlocks {
 public:
  PackedBlocks(const OpSpec& spec, Isa isa, OperatorTimer& timer, std::size_t evict_bytes)
      : spec_(spec), isa_(isa), timer_(timer), evict_bytes_(evict_bytes) {}
  PackedBlocks(const PackedBlocks&) = delete;
  PackedBlocks& operator=(const PackedBlocks&) = delete;
  std::vector<double> operator()(const OperatorType& type);
  std::vector<double> of(const std::string& algorithm) {
    return (*this)(find_operator_type(spec_.kind, algorithm));
  }

 private:
  struct Packed {
    Blob blob;
    std::unique_ptr<Operator> op;
  };
  const OpSpec& spec_;
  const Isa isa_;
  OperatorTimer& timer_;
  const std::size_t evict_bytes_;
  std::map<const OperatorType*, Packed> held_;
};

// How much is read between two uses of an operator's weights where the network has `others` bytes
// of them besides, as a power of two.
std::size_t evicted_between(std::size_t others);

}  // namespace activsparse
