// Whether a part of a graph of ONNX Runtime has the weights that a plan was compiled from.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "integrations/onnxruntime/part.h"

namespace activsparse {

// Of each weight of the model a plan was made of, a digest by a digest of its name; empty for plans
// of engines that did not note them. docs/plan-format.md, "Metadata".
using Weights = std::map<uint32_t, uint32_t>;

Weights weights_noted(std::string_view metadata);

// Why the plan may be another model's, or nothing: a weight of `nodes` holds something else, or
// none is known by name though there are some. The runtime folds some weights into others before it
// asks, whose names then end in the original's: those are known, but nothing can be said of what
// they hold.
std::string why_unknown(const ort::Api& api, const std::vector<const ort::Node*>& nodes,
                        const Weights& noted);

}  // namespace activsparse
