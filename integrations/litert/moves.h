// Operators that move whole pixels and compute nothing: nearest fills and resizing, slices, images
// read as rows of pixels. To the engine they are one kind, which has the source of each position.
#pragma once
#include <optional>

#include "integrations/litert/graph.h"

namespace activsparse::litert {

// Of RESIZE_NEAREST_NEIGHBOR along an axis: which of `size` inputs each output is; `corners`:
// the first and the last stay where they are, `half`: pixels are where their centres are.
std::vector<int32_t> nearest(int size, int outputs, bool corners, bool half);

// Whether it does, on float32 values or on bytes.
bool moves_positions(const Node& node);

// Two moves as one; a move behind a convolution as the nearest fill of a mask, where what it
// copies is kept. Nothing where neither can be.
std::optional<Node> merged_moves(Graph& graph, const Node& a, const Node& b);

}  // namespace activsparse::litert
