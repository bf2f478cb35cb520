#include "integrations/onnxruntime/part.h"

#include <algorithm>
#include <map>
#include <set>

namespace activsparse {
namespace {

using Names = std::set<std::string>;
using Nodes = std::set<const ort::Node*>;

// All that `count(&size)` and `fill(data, size)` tell of.
template <class Item, class Count, class Fill>
std::vector<Item> all_of(const ort::Api& api, const Count& count, const Fill& fill) {
  size_t size = 0;
  check(api, count(&size));
  std::vector<Item> items(size);
  check(api, fill(items.data(), size));
  return items;
}

Names names_of(const std::vector<PlanValue>& values) {
  Names names;
  for (const PlanValue& value : values) names.insert(value.name);
  return names;
}

// The nodes that the values `open` are computed by, back to the values `stops`.
Nodes nodes_before(const ort::Api& api, const std::vector<const ort::Node*>& nodes, Names open,
                   const Names& stops) {
  std::map<std::string, const ort::Node*> producer;
  for (const ort::Node* node : nodes)
    for (const ort::ValueInfo* value : outputs_of(api, node)) producer[name_of(api, value)] = node;
  Nodes found;
  while (!open.empty()) {
    const std::string name = *open.begin();
    open.erase(open.begin());
    const auto node = producer.find(name);
    if (name.empty() || stops.count(name) != 0 || node == producer.end()) continue;
    if (!found.insert(node->second).second) continue;
    for (const ort::ValueInfo* value : inputs_of(api, node->second))
      open.insert(name_of(api, value));
  }
  return found;
}

bool read_outside(const ort::Api& api, const ort::ValueInfo* value, const Nodes& part) {
  bool output = false;
  check(api, api.is_graph_output(value, &output));
  std::vector<int64_t> places;
  const auto readers = all_of<const ort::Node*>(
      api, [&](size_t* size) { return api.consumer_count(value, size); },
      [&](const ort::Node** out, size_t size) {
        places.resize(size);
        return api.consumers(value, out, places.data(), size);
      });
  const auto inside = [&](const ort::Node* node) { return part.count(node) != 0; };
  return output || !std::all_of(readers.begin(), readers.end(), inside);
}

}  // namespace

Values inputs_of(const ort::Api& api, const ort::Node* node) {
  return all_of<const ort::ValueInfo*>(
      api, [&](size_t* size) { return api.input_count(node, size); },
      [&](const ort::ValueInfo** out, size_t size) { return api.inputs(node, out, size); });
}

Values outputs_of(const ort::Api& api, const ort::Node* node) {
  return all_of<const ort::ValueInfo*>(
      api, [&](size_t* size) { return api.output_count(node, size); },
      [&](const ort::ValueInfo** out, size_t size) { return api.outputs(node, out, size); });
}

std::string name_of(const ort::Api& api, const ort::ValueInfo* value) {
  const char* name = "";
  if (value != nullptr) check(api, api.name(value, &name));
  return name;
}

Part part_between(const ort::Api& api, const ort::Graph* graph, const PlanContent& plan) {
  const auto nodes = all_of<const ort::Node*>(
      api, [&](size_t* size) { return api.node_count(graph, size); },
      [&](const ort::Node** out, size_t size) { return api.nodes(graph, out, size); });
  const Names inputs = names_of(plan.inputs), outputs = names_of(plan.outputs);
  const Nodes part = nodes_before(api, nodes, outputs, inputs);
  Names made, given, read;
  for (const ort::Node* node : part)
    for (const ort::ValueInfo* value : outputs_of(api, node)) {
      if (value == nullptr) continue;
      made.insert(name_of(api, value));
      if (read_outside(api, value, part)) given.insert(name_of(api, value));
    }
  for (const ort::Node* node : part)
    for (const ort::ValueInfo* value : inputs_of(api, node)) {
      if (value == nullptr || made.count(name_of(api, value)) != 0) continue;
      bool constant = false;
      check(api, api.is_constant(value, &constant));
      if (!constant) read.insert(name_of(api, value));
    }
  if (read != inputs || !std::includes(given.begin(), given.end(), outputs.begin(), outputs.end()))
    return {};
  for (const std::string& name : given)
    if (outputs.count(name) == 0) return {{}, name};
  Part found;
  for (const ort::Node* node : nodes)
    if (part.count(node) != 0) found.nodes.push_back(node);
  return found;
}

}  // namespace activsparse
