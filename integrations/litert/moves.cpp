#include "integrations/litert/moves.h"

#include <algorithm>
#include <cmath>

namespace activsparse::litert {
namespace {

const int32_t* source_of(const Node& node) {
  return static_cast<const int32_t*>(node.spec.array("source")->data);
}

}  // namespace

std::vector<int32_t> nearest(int size, int outputs, bool corners, bool half) {
  const bool ends = corners && outputs > 1;
  const float scale = ends ? static_cast<float>(size - 1) / static_cast<float>(outputs - 1)
                           : static_cast<float>(size) / static_cast<float>(outputs);
  std::vector<int32_t> from(outputs);
  for (int i = 0; i < outputs; ++i) {
    const float at = (static_cast<float>(i) + (half ? 0.5f : 0.0f)) * scale;
    const float whole = corners ? std::round(at) : std::floor(at);
    from[i] = static_cast<int32_t>(std::clamp(whole, 0.0f, static_cast<float>(size - 1)));
  }
  return from;
}

bool moves_positions(const Node& node) {
  return node.is("gather_positions") || (node.is("gather_u8") && node.spec.array("source"));
}

std::optional<Node> merged_moves(Graph& graph, const Node& a, const Node& b) {
  if (!moves_positions(b) || (a.activates() && b.activates())) return {};
  const Shape shape = graph.shapes.at(b.output), before = graph.shapes.at(a.output);
  const int32_t* source = source_of(b);
  const int64_t size = b.spec.array("source")->size();
  Node merged = a;
  merged.take_activation(b);
  if (moves_positions(a)) {
    std::vector<int32_t> both(size);
    for (int64_t i = 0; i < size; ++i) both[i] = source_of(a)[source[i]];
    merged.spec.arrays["source"] = graph.keep(std::move(both), {size});
    return merged;
  }
  const bool fills =
      (a.is("conv") && b.is("gather_positions")) || (a.is("conv_u8") && b.is("gather_u8"));
  if (!fills || !(shape == before) || a.inputs.size() != 1 || a.spec.array("mask")) return {};
  std::vector<uint8_t> kept(size);
  for (int64_t i = 0; i < size; ++i) {
    if (source[source[i]] != source[i]) return {};
    kept[i] = source[i] == i;
  }
  if (std::all_of(kept.begin(), kept.end(), [](uint8_t k) { return k != 0; })) return merged;
  merged.spec.arrays["mask"] = graph.keep(std::move(kept), {shape.h, shape.w});
  merged.spec.arrays["source"] = *b.spec.array("source");
  return merged;
}

}  // namespace activsparse::litert
