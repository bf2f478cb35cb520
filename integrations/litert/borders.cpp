// Where bytes come from the runtime or go there: int8 ones become the engine's uint8 and back, by a
// table that fusing may join to others. Images that first convolutions read come into a frame of
// zero points, which is those convolutions' padding.
#include <algorithm>

#include "integrations/litert/graph.h"

namespace activsparse::litert {
namespace {

Node moved(Graph& graph, int from, int to, bool lowered) {
  std::vector<uint8_t> table(256);
  for (int q = 0; q < 256; ++q) table[q] = static_cast<uint8_t>(lowered ? q ^ 128 : q);
  Node node{{}, {from}, to};
  node.spec.kind = "lookup_u8";
  node.spec.arrays["table"] = graph.keep(std::move(table), {256});
  return node;
}

// Of images whose pixels are quads.
constexpr const char* kFrame[] = {"pad_top", "pad_bottom", "pad_left", "pad_right"};

}  // namespace

void move_borders(Graph& graph) {
  std::vector<Node> before, behind;
  for (const auto* values : {&graph.inputs, &graph.outputs})
    for (const int value : *values) {
      const auto found = graph.bytes.find(value);
      if (found == graph.bytes.end()) continue;
      const bool entering = values == &graph.inputs, lowered = found->second.lowered;
      const int own = graph.value_like(value);
      for (Node& node : graph.nodes) {
        std::replace(node.inputs.begin(), node.inputs.end(), value, own);
        if (!entering && node.output == value) node.output = own;
      }
      (entering ? before : behind)
          .push_back(moved(graph, entering ? value : own, entering ? own : value, lowered));
    }
  graph.nodes.insert(graph.nodes.begin(), before.begin(), before.end());
  graph.nodes.insert(graph.nodes.end(), behind.begin(), behind.end());
}

void frame_images(Graph& graph) {
  for (Node& image : graph.nodes) {
    if (!(image.is("quantise") || image.is("lookup_u8")) || !graph.is_input(image.inputs[0]))
      continue;
    const int reader = graph.only_consumer(image.output);
    Shape& shape = graph.shapes.at(image.output);
    if (reader < 0 || shape.c > kQuad || !graph.nodes[reader].is("conv_u8") ||
        graph.nodes[reader].inputs[0] != image.output)  // but its residual
      continue;
    auto& pads = graph.nodes[reader].spec.ints;
    shape.h += static_cast<int32_t>(pads["pad_top"] + pads["pad_bottom"]);
    shape.w += static_cast<int32_t>(pads["pad_left"] + pads["pad_right"]);
    for (const char* side : {"pad_top", "pad_left"}) image.spec.ints[side] = pads[side];
    image.spec.ints["zero"] = graph.bytes.at(image.output).zero;
    for (const char* side : kFrame) pads[side] = 0;
  }
}

}  // namespace activsparse::litert
