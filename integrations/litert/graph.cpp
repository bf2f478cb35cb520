#include "integrations/litert/graph.h"

#include <algorithm>

namespace activsparse::litert {

void Node::take_activation(const Node& from) {
  if (!from.activates()) return;
  spec.strings["activation"] = from.spec.strings.at("activation");
  for (const char* bound : {"lo", "hi"})
    if (from.spec.floats.count(bound)) spec.floats[bound] = from.spec.floats.at(bound);
}

bool Node::keeps_zero() const {
  const std::string name = spec.string_or("activation", "none");
  if (name == "clip") return spec.float_or("lo", 0) <= 0 && spec.float_or("hi", 0) >= 0;
  return name != "sigmoid";
}

bool Node::has_windows_inside() const {
  return std::max(spec.int_or("pad_top", 0), spec.int_or("pad_bottom", 0)) <
             spec.int_or("kernel_h", 1) &&
         std::max(spec.int_or("pad_left", 0), spec.int_or("pad_right", 0)) <
             spec.int_or("kernel_w", 1);
}

ArrayView Graph::keep(std::vector<float> values, std::vector<int64_t> shape) {
  floats_.push_back(std::move(values));
  return {floats_.back().data(), 'f', std::move(shape)};
}

ArrayView Graph::keep(std::vector<uint8_t> values, std::vector<int64_t> shape) {
  bytes_.push_back(std::move(values));
  return {bytes_.back().data(), 'b', std::move(shape)};
}

ArrayView Graph::keep(std::vector<int8_t> values, std::vector<int64_t> shape) {
  weights_.push_back(std::move(values));
  return {weights_.back().data(), 'c', std::move(shape)};
}

ArrayView Graph::keep(std::vector<int32_t> values, std::vector<int64_t> shape) {
  integers_.push_back(std::move(values));
  return {integers_.back().data(), 'i', std::move(shape)};
}

int Graph::value_like(int value) {
  const int own = --own_values_;  // numbers of the runtime's are not negative
  shapes[own] = shapes.at(value);
  if (const auto found = bytes.find(value); found != bytes.end()) bytes[own] = found->second;
  return own;
}

bool Graph::is_input(int value) const {
  return std::find(inputs.begin(), inputs.end(), value) != inputs.end();
}

bool Graph::is_output(int value) const {
  return std::find(outputs.begin(), outputs.end(), value) != outputs.end();
}

const Node* Graph::producer(int value) const {
  for (const Node& node : nodes)
    if (node.output == value) return &node;
  return nullptr;
}

int Graph::only_consumer(int value) const {
  int found = -1, uses = is_output(value) ? 2 : 0;
  for (size_t i = 0; i < nodes.size(); ++i)
    for (int input : nodes[i].inputs)
      if (input == value) found = static_cast<int>(i), ++uses;
  return uses == 1 ? found : -1;
}

}  // namespace activsparse::litert
