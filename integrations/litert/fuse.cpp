// Neighbours that become one operator. The same rewrites as the Python compiler's
// (src/activsparse/engine/passes), as far as .tflite files need them.
#include <algorithm>
#include <limits>
#include <optional>

#include "integrations/litert/fuse_bytes.h"
#include "integrations/litert/moves.h"

namespace activsparse::litert {
namespace {

constexpr const char* kSides[] = {"pad_top", "pad_bottom", "pad_left", "pad_right"};

bool is_never_negative(const Graph& graph, int value) {
  const Node* made = graph.producer(value);
  if (made == nullptr) return false;
  if (made->is("mask_multiply") && !made->activates())
    return is_never_negative(graph, made->inputs[0]);
  const std::string name = made->spec.string_or("activation", "none");
  return name == "relu" || name == "sigmoid" ||
         (name == "clip" && made->spec.float_or("lo", 0) >= 0);
}

using Merged = std::optional<Node>;

// Zeros around a convolution, or a maximum of values that are never negative, are its padding. An
// average counts them.
Merged pad_into(const Graph& graph, const Node& a, const Node& b) {
  const bool average = b.is("average_pool");
  const bool maximum = b.is("max_pool");
  if (a.is("pad_least")
          ? !maximum
          : !b.is("conv") && !average && !(maximum && is_never_negative(graph, a.inputs[0])))
    return {};
  Node merged = b;
  for (const char* side : kSides) {
    if (average && b.spec.int_or(side, 0) != 0) return {};
    merged.spec.ints[side] += a.spec.ints.at(side);
  }
  if ((average || maximum) && !merged.has_windows_inside()) return {};
  if (average) merged.spec.ints["count_include_pad"] = 1;
  merged.inputs[0] = a.inputs[0];
  return merged;
}

Merged mask_into(Graph& graph, const Node& a, const Node& b) {
  if (a.inputs.size() != 1 || (a.activates() && b.activates()) || !a.keeps_zero()) return {};
  const ArrayView* before = a.spec.array("mask");
  if (before && (a.spec.array("skipped_value") || a.spec.array("source"))) return {};
  Node merged = a;
  ArrayView mask = *b.spec.array("mask");
  if (before) {
    const auto* first = static_cast<const uint8_t*>(before->data);
    const auto* second = static_cast<const uint8_t*>(mask.data);
    std::vector<uint8_t> both(mask.size());
    for (int64_t i = 0; i < mask.size(); ++i) both[i] = first[i] & second[i];
    mask = graph.keep(std::move(both), mask.shape);
  }
  merged.spec.arrays["mask"] = mask;
  merged.take_activation(b);
  return merged;
}

// With y = m ? conv(x) : v, s * y + t is m ? s * conv(x) + t : s * v + t.
Merged scale_into(Graph& graph, const Node& a, const Node& b) {
  if (a.activates() || a.inputs.size() != 1) return {};
  const float* scale = b.spec.float_array("scale");
  const float* shift = b.spec.float_array("shift");
  const int64_t channels = b.spec.array("scale")->size();
  Node merged = a;
  const auto line = [&](const char* name) {
    const float* old = a.spec.float_array(name);
    std::vector<float> values(channels);
    for (int64_t c = 0; c < channels; ++c) values[c] = (old ? old[c] * scale[c] : 0) + shift[c];
    merged.spec.arrays[name] = graph.keep(std::move(values), {channels});
  };
  bool scales = false;
  for (int64_t c = 0; c < channels; ++c) scales |= scale[c] != 1;
  if (scales) {
    const ArrayView old = *a.spec.array("weight");
    std::vector<float> weight(static_cast<const float*>(old.data),
                              static_cast<const float*>(old.data) + old.size());
    const int64_t row = old.size() / channels;
    for (int64_t i = 0; i < old.size(); ++i) weight[i] *= scale[i / row];
    merged.spec.arrays["weight"] = graph.keep(std::move(weight), old.shape);
  }
  line("bias");
  if (a.spec.array("mask") && !a.spec.array("source")) line("skipped_value");
  merged.take_activation(b);
  return merged;
}

Merged residual_into(const Node& a, const Node& b) {
  if (a.activates() || a.inputs.size() != 1 || a.spec.array("source")) return {};
  Node merged = a;
  merged.inputs.push_back(b.inputs[b.inputs[0] == a.output ? 1 : 0]);
  merged.take_activation(b);
  return merged;
}

Merged activation_into(const Node& a, const Node& b) {
  if (a.activates() && b.activates()) return {};
  for (const char* without : {"pad", "pad_least", "concat", "prelu", "dequantise"})
    if (a.is(without)) return {};
  Node merged = a;
  merged.take_activation(b);
  return merged;
}

Merged merged(Graph& graph, const Node& a, const Node& b) {
  if ((a.is("pad") || a.is("pad_least")) && b.inputs[0] == a.output) return pad_into(graph, a, b);
  if (Merged moved = merged_moves(graph, a, b)) return moved;
  if (Merged of_bytes = merged_bytes(graph, a, b)) return of_bytes;
  if (b.is("activate")) return activation_into(a, b);
  if (a.is("gemm") && b.is("scale_shift")) return scale_into(graph, a, b);
  if (!a.is("conv")) return {};
  if (b.is("mask_multiply")) return mask_into(graph, a, b);
  if (b.is("scale_shift")) return scale_into(graph, a, b);
  if (b.is("add") && b.inputs.size() == 2) return residual_into(a, b);
  return {};
}

// Padding that found nobody: a depthwise convolution by 1, which skips what is to hold the least.
void lower_pads(Graph& graph) {
  for (Node& node : graph.nodes) {
    const bool least = node.is("pad_least");
    if (!node.is("pad") && !least) continue;
    const Shape in = graph.shapes.at(node.inputs[0]), out = graph.shapes.at(node.output);
    node.spec.kind = "conv";
    node.spec.ints["group"] = out.c;
    node.spec.arrays["weight"] = graph.keep(std::vector<float>(out.c, 1), {out.c, 1, 1, 1});
    if (!least) continue;
    const int64_t top = node.spec.ints.at("pad_top"), left = node.spec.ints.at("pad_left");
    std::vector<uint8_t> inside(int64_t{out.h} * out.w, 0);
    for (int64_t y = top; y < top + in.h; ++y)
      std::fill_n(inside.begin() + y * out.w + left, in.w, uint8_t{1});
    node.spec.arrays["mask"] = graph.keep(std::move(inside), {out.h, out.w});
    node.spec.arrays["skipped_value"] =
        graph.keep(std::vector<float>(out.c, std::numeric_limits<float>::lowest()), {out.c});
  }
}

}  // namespace

// The merged node stands where the later one stood, behind all it reads.
void fuse(Graph& graph) {
  for (size_t before = 0; before != graph.nodes.size();) {
    before = graph.nodes.size();
    for (size_t i = 0; i < graph.nodes.size();) {
      const int reader = graph.only_consumer(graph.nodes[i].output);
      Merged node;
      if (reader >= 0) node = merged(graph, graph.nodes[i], graph.nodes[reader]);
      if (!node) {
        ++i;
        continue;
      }
      node->output = graph.nodes[reader].output;
      graph.nodes[reader] = std::move(*node);
      graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  lower_pads(graph);
  lower_moves(graph);
}

}  // namespace activsparse::litert
