// The rewrites of `fuse` that are of bytes.
#pragma once
#include <optional>

#include "integrations/litert/graph.h"

namespace activsparse::litert {

// What `a` and `b`, which alone reads it, are together, but for its output; nothing where they stay
// apart.
std::optional<Node> merged_bytes(Graph& graph, const Node& a, const Node& b);

// Paddings and masks that found nobody become moves of whole pixels.
void lower_moves(Graph& graph);

// What a position that a convolution's mask drops holds; nothing where a residual has its say.
std::optional<int> skipped_byte(const Node& conv);

}  // namespace activsparse::litert
