#include "choose/choose.h"

#include <algorithm>

#include "choose/estimate.h"

namespace activsparse {
namespace {

// Made for one kind of operator and never beaten there; best first.
constexpr const char* kSpecial[] = {"pointwise",         "grouped",   "depthwise_block",
                                    "depthwise_columns", "depthwise", "depthwise_f16"};

// Blocks of 3x3 and 5x5 kernels leave skipped positions out, or lose little by them. Those of any
// other compute whole windows: 7x7 on 768 channels of a 32x32 map takes 0.86 ms dense and 0.93 with
// a lattice of 0.3 or 0.5, in `depthwise` 1.01, 0.80 and 0.69; on 80 channels of 28x28 with one of
// 0.3 0.056 against 0.068 (AVX-512, Sapphire Rapids).
constexpr double kMostInBlocks = 0.35;  // of the positions skipped

bool has_own_blocks(const std::vector<int64_t>& kernel) {
  return kernel[2] == kernel[3] && (kernel[2] == 3 || kernel[2] == 5);
}

// Whether an algorithm computes so many skipped positions that another one is faster.
bool loses(const OpSpec& spec, const OperatorType& type) {
  const ArrayView *mask = spec.array("mask"), *weight = spec.array("weight");
  if (!type.is("depthwise_block") || mask == nullptr || has_own_blocks(weight->shape)) return false;
  const auto* kept = static_cast<const uint8_t*>(mask->data);
  const auto skipped = static_cast<double>(std::count(kept, kept + mask->size(), 0));
  return skipped > kMostInBlocks * static_cast<double>(mask->size());
}

}  // namespace

std::vector<const OperatorType*> able(const OpSpec& spec, Isa isa, bool winograd) {
  std::vector<const OperatorType*> found;
  const OperatorType* reference = nullptr;
  std::string reasons;
  for (const OperatorType& type : operator_types()) {
    if (spec.kind != type.kind) continue;
    if (!winograd && type.is_winograd()) continue;
    const std::string reason = type.unsupported(spec, isa);
    if (!reason.empty())
      reasons += std::string(reasons.empty() ? "" : "; ") + type.algorithm + ": " + reason;
    else if (type.is("reference"))
      reference = &type;
    else
      found.push_back(&type);
  }
  if (found.empty() && reference != nullptr) found.push_back(reference);
  if (found.empty())
    throw Error("no algorithm runs it: " + (reasons.empty() ? "this build has none" : reasons));
  return found;
}

std::vector<double> estimates(const OpSpec& spec, const Costs& costs,
                              const std::vector<const OperatorType*>& types) {
  if (spec.kind != "conv") return {};
  std::vector<double> found;
  for (const OperatorType* type : types)
    found.push_back(estimate(work_of(spec, *type, costs.isa), costs));
  return found;
}

const OperatorType& choose(const OpSpec& spec, const Costs& costs, bool winograd) {
  const std::vector<const OperatorType*> types = able(spec, costs.isa, winograd);
  if (types.size() == 1) return *types[0];
  for (const char* special : kSpecial)
    for (const OperatorType* type : types) {
      const bool of_zeros = type->is("pointwise") && spec.array("input_mask") != nullptr;
      if (type->is(special) && !of_zeros && !loses(spec, *type)) return *type;
    }
  const std::vector<double> times = estimates(spec, costs, types);
  if (times.empty()) return *types[0];
  return *types[std::min_element(times.begin(), times.end()) - times.begin()];
}

}  // namespace activsparse
