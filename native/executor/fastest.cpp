#include "executor/fastest.h"

#include <algorithm>

#include "common/machine.h"
#include "executor/timing.h"

namespace activsparse {
namespace {

constexpr int kRepeat = 7;

double median_ms(const OperatorType& type, const OpSpec& spec, Isa isa) {
  const Blob blob = type.pack(spec, isa);
  const auto op = type.create(BlobView(blob.data(), blob.size()), isa);
  std::vector<double> times = time_operator({op.get(), blob.data(), blob.size()}, spec.inputs,
                                            spec.outputs, kRepeat, 1, 2 * cpu_info().l2);
  std::nth_element(times.begin(), times.begin() + kRepeat / 2, times.end());
  return times[kRepeat / 2];
}

}  // namespace

std::string fastest_algorithm(const OpSpec& spec, Isa isa) {
  std::vector<const OperatorType*> candidates;
  bool reference = false, known = false;
  std::string reasons;
  for (const OperatorType& type : operator_types()) {
    if (spec.kind != type.kind) continue;
    known = true;
    const std::string reason = type.unsupported(spec, isa);
    if (!reason.empty())
      reasons += std::string(reasons.empty() ? "" : "; ") + type.algorithm + ": " + reason;
    else if (type.algorithm == std::string("reference"))
      reference = true;
    else
      candidates.push_back(&type);
  }
  if (!known) throw Error("no operator '" + spec.kind + "' in this build");
  if (candidates.empty() && reference) return "reference";
  if (candidates.empty())
    throw Error("no algorithm can run this " + spec.kind + " (" + reasons + ")");
  if (candidates.size() == 1) return candidates[0]->algorithm;
  const OperatorType* best = nullptr;
  double best_ms = 0;
  for (const OperatorType* type : candidates) {
    const double ms = median_ms(*type, spec, isa);
    if (best == nullptr || ms < best_ms) best = type, best_ms = ms;
  }
  return best->algorithm;
}

}  // namespace activsparse
