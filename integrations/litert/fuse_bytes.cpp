// As the Python compiler's passes/quantised/fuse.py, as far as .tflite files need it.
#include "integrations/litert/fuse_bytes.h"

#include <algorithm>

namespace activsparse::litert {
namespace {

constexpr const char* kAround[] = {"pad_top", "pad_bottom", "pad_left", "pad_right"};

const uint8_t* bytes_in(const Node& node, const char* name) {
  const ArrayView* array = node.spec.array(name);
  return array == nullptr ? nullptr : static_cast<const uint8_t*>(array->data);
}

bool has(const Node& node, const char* number) {
  return node.spec.floats.count(number) > 0 || node.spec.ints.count(number) > 0;
}

using MergedBytes = std::optional<Node>;

// Zero points around a convolution, the least bytes around a maximum; an average counts them.
MergedBytes pad_bytes_into(const Node& pad, const Node& to) {
  const int64_t value = pad.spec.int_or("zero", 0);
  const bool average = to.is("average_pool_u8");
  if (to.is("max_pool_u8") ? value != 0 : value != to.spec.int_or("input_zero", 0)) return {};
  if (!average && !to.is("max_pool_u8") && !to.is("conv_u8")) return {};
  if (average && !has(to, "kernel_h")) return {};  // of the whole image
  Node result = to;
  for (const char* side : kAround) {
    if (average && to.spec.int_or(side, 0) != 0) return {};
    result.spec.ints[side] += pad.spec.ints.at(side);
  }
  if (!to.is("conv_u8") && !result.has_windows_inside()) return {};
  if (average) result.spec.ints["count_include_pad"] = 1;
  result.inputs[0] = pad.inputs[0];
  return result;
}

MergedBytes mask_bytes_into(Graph& graph, const Node& conv, const Node& drop) {
  if (conv.spec.array("source") || skipped_byte(conv) != drop.spec.int_or("zero", 0)) return {};
  Node result = conv;
  ArrayView mask = *drop.spec.array("mask");
  if (const uint8_t* before = bytes_in(conv, "mask")) {
    const uint8_t* second = bytes_in(drop, "mask");
    std::vector<uint8_t> both(mask.size());
    for (int64_t i = 0; i < mask.size(); ++i) both[i] = before[i] & second[i];
    mask = graph.keep(std::move(both), mask.shape);
  }
  result.spec.arrays["mask"] = mask;
  return result;
}

MergedBytes rescaled_by(const Node& conv, const Node& lookup) {
  if (!has(lookup, "kept") || has(conv, "kept") || conv.spec.array("table")) return {};
  Node result = conv;
  OpSpec& spec = result.spec;
  const double lo = lookup.spec.float_or("lo", 0), hi = lookup.spec.float_or("hi", 0);
  const int64_t zero = lookup.spec.int_or("zero", 0);
  if (lookup.spec.float_or("kept", 0) == 1 && zero == conv.spec.int_or("zero", 0)) {
    for (const char* bound : {"lo", "hi"})  // a second clip
      spec.floats[bound] = std::clamp(conv.spec.float_or(bound, 0), lo, hi);
    return result;
  }
  spec.ints["rescaled"] = 1;
  spec.ints["zero"] = zero;
  spec.floats["kept"] = lookup.spec.float_or("kept", 0);
  spec.floats["residual_lo"] = lo, spec.floats["residual_hi"] = hi;
  return result;
}

std::vector<uint8_t> chained(const uint8_t* first, const uint8_t* second) {
  std::vector<uint8_t> table(256);
  for (int q = 0; q < 256; ++q) table[q] = second[first == nullptr ? q : first[q]];
  return table;
}

// Any function of what was rounded; kernels of depthwise convolutions have no table.
MergedBytes table_into(Graph& graph, const Node& conv, const Node& lookup) {
  if (conv.spec.int_or("group", 1) > 1 && conv.spec.array("weight")->shape[1] == 1) return {};
  Node result = conv;
  result.spec.arrays["table"] =
      graph.keep(chained(bytes_in(conv, "table"), bytes_in(lookup, "table")), {256});
  return result;
}

MergedBytes table_behind_table(Graph& graph, const Node& a, const Node& b) {
  Node result{{}, a.inputs, b.output};
  result.spec.kind = "lookup_u8";
  result.spec.arrays["table"] =
      graph.keep(chained(bytes_in(a, "table"), bytes_in(b, "table")), {256});
  return result;
}

MergedBytes residual_of_bytes(const Node& conv, const Node& sum) {
  if (conv.spec.array("table") || conv.spec.array("source") || has(conv, "kept")) return {};
  if (sum.inputs[0] == sum.inputs[1]) return {};
  const bool first = sum.inputs[0] == conv.output;
  const std::string own = first ? "a" : "b", other = first ? "b" : "a";
  Node result = conv;
  OpSpec& spec = result.spec;
  result.inputs.push_back(sum.inputs[first ? 1 : 0]);
  spec.floats["kept"] = sum.spec.floats.at(own + "_scale");
  spec.floats["residual_scale"] = sum.spec.floats.at(other + "_scale");
  spec.ints["residual_zero"] = sum.spec.ints.at(other + "_zero");
  spec.ints["zero"] = sum.spec.ints.at("zero");
  spec.floats["residual_lo"] = sum.spec.floats.at("lo");
  spec.floats["residual_hi"] = sum.spec.floats.at("hi");
  return result;
}

}  // namespace

std::optional<int> skipped_byte(const Node& conv) {
  const auto zero = static_cast<int>(conv.spec.int_or("zero", 0));
  const uint8_t* table = bytes_in(conv, "table");
  if (conv.inputs.size() != 1 || (table != nullptr && has(conv, "kept"))) return {};
  return table == nullptr ? zero : table[zero];
}

MergedBytes merged_bytes(Graph& graph, const Node& a, const Node& b) {
  if (a.is("pad_u8") && b.inputs[0] == a.output) return pad_bytes_into(a, b);
  if (a.is("lookup_u8") && b.is("lookup_u8")) return table_behind_table(graph, a, b);
  if (!a.is("conv_u8") || a.inputs.size() != 1) return {};
  if (b.is("mask_u8")) return mask_bytes_into(graph, a, b);
  if (b.is("add_u8")) return residual_of_bytes(a, b);
  if (!b.is("lookup_u8")) return {};
  if (MergedBytes result = rescaled_by(a, b)) return result;
  return table_into(graph, a, b);
}

void lower_moves(Graph& graph) {
  for (Node& node : graph.nodes) {
    if (!node.is("pad_u8") && !node.is("mask_u8")) continue;
    const Shape in = graph.shapes.at(node.inputs[0]), out = graph.shapes.at(node.output);
    const uint8_t* mask = bytes_in(node, "mask");  // stays, for who asks where zeros are
    const int64_t top = node.spec.int_or("pad_top", 0), left = node.spec.int_or("pad_left", 0);
    std::vector<int32_t> source(int64_t{out.h} * out.w, -1);
    for (int32_t y = 0; y < in.h; ++y)
      for (int32_t x = 0; x < in.w; ++x)
        if (mask == nullptr || mask[int64_t{y} * in.w + x])
          source[(y + top) * out.w + x + left] = y * in.w + x;
    const int64_t zero = node.spec.int_or("zero", 0);
    node.spec.kind = "gather_u8";
    node.spec.ints = {{"zero", zero}};
    node.spec.arrays["source"] = graph.keep(std::move(source), {int64_t{out.h} * out.w});
  }
}

}  // namespace activsparse::litert
