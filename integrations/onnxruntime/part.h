// Which nodes of a graph of ONNX Runtime a plan can take the place of.
#pragma once
#include "integrations/onnxruntime/plan_kernel.h"

namespace activsparse {

using Values = std::vector<const ort::ValueInfo*>;

Values inputs_of(const ort::Api& api, const ort::Node* node);
Values outputs_of(const ort::Api& api, const ort::Node* node);
// Empty for an optional value that is absent.
std::string name_of(const ort::Api& api, const ort::ValueInfo* value);

struct Part {
  std::vector<const ort::Node*> nodes;  // in the graph's order; none where the plan has no place
  std::string inner;                    // why not: something else reads this value
};

// What computes the plan's outputs from its inputs, where one node that did so would have just
// these inputs and outputs. None where the graph lacks one of them (a subgraph, another model), and
// none where something else reads a value in between, which the plan does not give.
Part part_between(const ort::Api& api, const ort::Graph* graph, const PlanContent& plan);

}  // namespace activsparse
