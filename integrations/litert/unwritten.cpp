// Skipped positions that every reader knows to hold the zero point need not hold it.
#include <algorithm>
#include <numeric>

#include "integrations/litert/graph.h"

namespace activsparse::litert {
namespace {

bool knows(const Node& reader, int value, const ArrayView& mask) {
  const ArrayView* known = reader.spec.array("input_mask");
  if (!reader.is("conv_u8") || reader.inputs[0] != value || known == nullptr ||
      std::count(reader.inputs.begin(), reader.inputs.end(), value) > 1)
    return false;
  const auto* kept = static_cast<const uint8_t*>(mask.data);
  return std::equal(kept, kept + mask.size(), static_cast<const uint8_t*>(known->data));
}

}  // namespace

void leave_unwritten(Graph& graph) {
  for (Node& node : graph.nodes) {
    const ArrayView* mask = node.spec.array("mask");
    if (!node.is("conv_u8") || node.inputs.size() != 1 || mask == nullptr ||
        node.spec.array("source") || graph.is_output(node.output))
      continue;
    std::vector<Node*> readers;
    bool known = true;
    for (Node& other : graph.nodes)
      if (std::count(other.inputs.begin(), other.inputs.end(), node.output) > 0) {
        readers.push_back(&other);
        known = known && knows(other, node.output, *mask);
      }
    if (!known) continue;
    std::vector<int32_t> source(mask->size());
    std::iota(source.begin(), source.end(), 0);
    const auto* kept = static_cast<const uint8_t*>(mask->data);
    for (size_t i = 0; i < source.size(); ++i)
      if (!kept[i]) source[i] = -1;
    node.spec.arrays["source"] = graph.keep(std::move(source), {mask->size()});
    for (Node* reader : readers) reader->spec.ints["input_unwritten"] = 1;
  }
}

}  // namespace activsparse::litert
