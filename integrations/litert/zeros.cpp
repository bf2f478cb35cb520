// Where activations are zero in all channels for any input: what masks leave to later layers.
#include "integrations/litert/fuse_bytes.h"
#include "integrations/litert/moves.h"

namespace activsparse::litert {
namespace {

using Plane = std::vector<uint8_t>;  // (H, W): 0 where the value is zero; empty: nothing is known

bool is_zero(const ArrayView* values) {
  for (int64_t i = 0; values && i < values->size(); ++i)
    if (static_cast<const float*>(values->data)[i] != 0) return false;
  return true;
}

class Planes {
 public:
  explicit Planes(const Graph& graph) : graph_(graph) {}

  const Plane& of(int value) const {
    static const Plane unknown;
    const auto found = planes_.find(value);
    return found == planes_.end() ? unknown : found->second;
  }

  void see(const Node& node) {
    if (!node.keeps_zero()) return;
    const Shape shape = graph_.shapes.at(node.output);
    const size_t size = static_cast<size_t>(shape.h) * shape.w;
    Plane live;
    if (node.is("conv") || node.is("mask_multiply")) {
      const ArrayView* mask = node.spec.array("mask");
      if (mask == nullptr || node.spec.array("source")) return;
      if (!is_zero(node.spec.array("skipped_value"))) return;
      const auto* kept = static_cast<const uint8_t*>(mask->data);
      live.assign(kept, kept + size);
      if (node.is("mask_multiply"))
        live = combined(live, of(node.inputs[0]), true);
      else if (node.inputs.size() == 2)
        live = combined(live, of(node.inputs[1]), false);
    } else if (moves_positions(node) && !node.spec.array("mask")) {
      live = moved(of(node.inputs[0]), *node.spec.array("source"));
    } else if (node.is("conv_u8") || node.is("gather_u8")) {
      live = of_bytes(node, size);
    } else if (node.is("activate") || node.is("prelu") || keeps_zero_point(node)) {
      live = of(node.inputs[0]);
    } else if (node.is("add") || node.is("concat") || node.is("mul") || node.is("add_u8") ||
               node.is("mul_u8")) {
      const bool either = node.is("mul") || node.is("mul_u8");
      live = of(node.inputs[0]);
      for (size_t i = 1; i < node.inputs.size(); ++i)
        if (const Plane& other = of(node.inputs[i]); !either || other.size() == size)
          live = combined(live, other, either);
    }
    if (live.size() == size) planes_[node.output] = std::move(live);
  }

 private:
  // Of bytes, zero is their zero point.
  Plane of_bytes(const Node& node, size_t size) const {
    const ArrayView* mask = node.spec.array("mask");
    if (mask == nullptr) return {};
    const auto* kept = static_cast<const uint8_t*>(mask->data);
    Plane live(kept, kept + size);
    if (node.is("conv_u8") && node.spec.array("source")) return {};  // filled with others' values
    if (node.is("gather_u8")) return combined(live, of(node.inputs[0]), true);
    if (node.inputs.size() == 2) return combined(live, of(node.inputs[1]), false);
    return skipped_byte(node) == graph_.bytes.at(node.output).zero ? live : Plane();
  }
  bool keeps_zero_point(const Node& node) const {
    if (!node.is("lookup_u8")) return false;
    const auto* table = static_cast<const uint8_t*>(node.spec.array("table")->data);
    return table[graph_.bytes.at(node.inputs[0]).zero] == graph_.bytes.at(node.output).zero;
  }

  static Plane moved(const Plane& live, const ArrayView& source) {
    if (live.empty()) return {};
    Plane result(source.size());
    const auto* from = static_cast<const int32_t*>(source.data);
    for (size_t i = 0; i < result.size(); ++i) result[i] = from[i] < 0 ? 0 : live[from[i]];
    return result;
  }

  // Zero where either is, or only where both are.
  static Plane combined(const Plane& a, const Plane& b, bool either) {
    if (a.empty() || b.empty()) return either ? (a.empty() ? b : a) : Plane();
    Plane result(a.size());
    for (size_t i = 0; i < a.size(); ++i) result[i] = either ? a[i] & b[i] : a[i] | b[i];
    return result;
  }

  const Graph& graph_;
  std::map<int, Plane> planes_;
};

}  // namespace

void find_zeros(Graph& graph) {
  Planes planes(graph);
  for (Node& node : graph.nodes) {
    const Plane& live = planes.of(node.inputs[0]);
    const Shape in = graph.shapes.at(node.inputs[0]);
    if ((node.is("conv") || node.is("conv_u8")) && !live.empty())
      node.spec.arrays["input_mask"] = graph.keep(live, {in.h, in.w});
    planes.see(node);
  }
}

}  // namespace activsparse::litert
