// Whether a part of a graph of ONNX Runtime has the weights that a plan was compiled from.
#pragma once
#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include "integrations/onnxruntime/part.h"

namespace activsparse {

// Of each weight of the model a plan was made of, a digest by a digest of its name; empty for plans
// of engines that did not note them. docs/plan-format.md, "Metadata".
using Weights = std::map<uint32_t, uint32_t>;

Weights weights_noted(std::string_view metadata);

// Whether any weight of `nodes` is known by name, or there is nothing to compare. The runtime folds
// some weights into others before it asks, whose names then end in the original's: those are known,
// but nothing can be said of what they hold. Throws Error where one holds something else.
bool known_weights(const ort::Api& api, const std::vector<const ort::Node*>& nodes,
                   const Weights& noted);

}  // namespace activsparse
