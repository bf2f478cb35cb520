// 1x1 or first convolution - depthwise - 1x1 into one operator that runs them strip by strip in
// cache: the Python compiler's fuse_inverted_residual.py, with its sizes. Kernels of 3x3 only: this
// library has no blocks of 5x5.
#include <algorithm>

#include "integrations/litert/graph.h"

namespace activsparse::litert {
namespace {

// Of the widest tensor between the stages: below, strips save nothing.
constexpr int64_t kLargeDense = (512 << 10) / 4, kLargeMasked = (256 << 10) / 4;
// How many rows away what a filled position copies may lie: a strip keeps so many more in cache.
constexpr int32_t kMostRows = 4;

const std::vector<int64_t>& kernel_of(const Node& node) { return node.spec.array("weight")->shape; }

bool has_strides(const Node& node, int64_t stride) {
  return node.spec.int_or("stride_h", 1) == stride && node.spec.int_or("stride_w", 1) == stride;
}

bool is_pointwise(const Node& node) {
  const std::vector<int64_t>& shape = kernel_of(node);
  for (const char* side : {"pad_top", "pad_bottom", "pad_left", "pad_right"})
    if (node.spec.int_or(side, 0) != 0) return false;
  return shape[2] == 1 && shape[3] == 1 && has_strides(node, 1) &&
         node.spec.int_or("group", 1) == 1;
}

bool is_stem(const Graph& graph, const Node& node) {
  const int in = node.inputs[0];
  int readers = 0;
  for (const Node& other : graph.nodes)
    readers += static_cast<int>(std::count(other.inputs.begin(), other.inputs.end(), in));
  return graph.is_input(in) && readers == 1 && node.spec.int_or("group", 1) == 1 &&
         graph.shapes.at(in).c <= kStemChannels;
}

bool is_depthwise(const Graph& graph, const Node& node) {
  if (!node.is("conv") || node.inputs.size() != 1 || graph.is_input(node.inputs[0])) return false;
  const std::vector<int64_t>& shape = kernel_of(node);
  return node.spec.int_or("group", 1) == shape[0] &&
         graph.shapes.at(node.inputs[0]).c == shape[0] && shape[2] == 3 && shape[3] == 3 &&
         (has_strides(node, 1) || has_strides(node, 2)) && node.spec.int_or("dilation_h", 1) == 1 &&
         node.spec.int_or("dilation_w", 1) == 1;
}

int64_t floats(const Shape& s) { return int64_t{s.h} * s.w * s.c; }

template <class Value>
void add(const std::string& prefix, const std::map<std::string, Value>& from,
         std::map<std::string, Value>& to) {
  for (const auto& [name, value] : from) to[prefix + name] = value;
}

void add(const std::string& prefix, const Node& stage, Node& to) {
  add(prefix, stage.spec.ints, to.spec.ints);
  add(prefix, stage.spec.floats, to.spec.floats);
  add(prefix, stage.spec.strings, to.spec.strings);
  add(prefix, stage.spec.arrays, to.spec.arrays);
}

bool is_conv(const Node* node) { return node != nullptr && node->is("conv"); }

// Whether every filled position takes the value of one within few rows.
bool is_near(const Graph& graph, const Node& node) {
  const ArrayView* source = node.spec.array("source");
  const int32_t width = graph.shapes.at(node.output).w;
  const auto* from = source == nullptr ? nullptr : static_cast<const int32_t*>(source->data);
  for (int32_t i = 0; source != nullptr && i < source->size(); ++i)
    if (std::abs(from[i] / width - i / width) > kMostRows) return false;
  return true;
}

// Joins the depthwise convolution `at` with its neighbours; false where that does not pay.
bool join(Graph& graph, size_t at) {
  const Node middle = graph.nodes[at];
  const Node* before = graph.producer(middle.inputs[0]);
  if (!is_conv(before) || before->inputs.size() != 1 || graph.only_consumer(before->output) < 0 ||
      !(is_pointwise(*before) || is_stem(graph, *before)) || !is_near(graph, *before))
    before = nullptr;
  const int reader = graph.only_consumer(middle.output);
  const Node* after = reader < 0 ? nullptr : &graph.nodes[reader];
  if (!is_conv(after) || after->inputs[0] != middle.output || !is_pointwise(*after) ||
      !is_near(graph, *after))
    after = nullptr;
  if ((before == nullptr && after == nullptr) || !is_near(graph, middle)) return false;

  int64_t widest = 0;
  if (before != nullptr) widest = floats(graph.shapes.at(middle.inputs[0]));
  if (after != nullptr) widest = std::max(widest, floats(graph.shapes.at(middle.output)));
  bool masked = false;
  Node joined;
  joined.spec.kind = "inverted_residual";
  joined.inputs = {(before != nullptr ? *before : middle).inputs[0]};
  joined.output = (after != nullptr ? *after : middle).output;
  const std::pair<const char*, const Node*> stages[] = {
      {"expand.", before}, {"depthwise.", &middle}, {"project.", after}};
  for (const auto& [prefix, stage] : stages) {
    if (stage == nullptr) continue;
    masked |= stage->spec.array("mask") != nullptr;
    add(prefix, *stage, joined);
  }
  if (widest <= (masked ? kLargeMasked : kLargeDense)) return false;
  if (after != nullptr)
    joined.inputs.insert(joined.inputs.end(), after->inputs.begin() + 1, after->inputs.end());

  // It stands where the last of them stood, behind all it reads.
  const int expanded = before != nullptr ? before->output : middle.output;
  std::vector<Node> nodes;
  for (Node& node : graph.nodes)
    if (node.output == joined.output)
      nodes.push_back(joined);
    else if (node.output != expanded && node.output != middle.output)
      nodes.push_back(std::move(node));
  graph.nodes = std::move(nodes);
  return true;
}

}  // namespace

void join(Graph& graph) {
  for (size_t i = 0; i < graph.nodes.size();)
    i = is_depthwise(graph, graph.nodes[i]) && join(graph, i) ? 0 : i + 1;
}

}  // namespace activsparse::litert
