#include "integrations/litert/partition.h"

#include <algorithm>

namespace activsparse::litert {
namespace {

// Pixels are whole groups of channels, cache lines of float32; every tensor starts on one.
constexpr int64_t kGroup = 16, kBytes = 64;

int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// The graph's tensors in memory: its inputs and outputs are the runtime's, plain NHWC; those in
// between lie in an arena, where two that are never alive at the same time may share memory.
class Layout {
 public:
  explicit Layout(const Graph& graph) : graph_(graph) {
    for (int value : graph.inputs) inputs_.push_back(tensor(value));
    for (int value : graph.outputs) outputs_.push_back(tensor(value));
  }

  int tensor(int value) {
    const auto found = ids_.find(value);
    if (found != ids_.end()) return found->second;
    const Shape s = graph_.shapes.at(value);
    const bool outer = graph_.is_input(value) || graph_.is_output(value);
    const bool bytes = graph_.bytes.count(value) > 0, quads = bytes && is_image_of_quads(value);
    const auto stride = static_cast<int32_t>(outer ? s.c : quads ? kQuad : round_up(s.c, kGroup));
    TensorDesc desc{s.n, s.h, s.w, s.c, stride, 0, outer || quads ? 0 : 1};
    if (bytes) desc.dtype = DType::kU8;
    return ids_[value] = add(desc, outer);
  }

  // What the first convolution reads: the same image as planes.
  int planes(const TensorDesc& image) {
    TensorDesc desc = image;
    desc.stride = desc.c;
    desc.nchw = 1, desc.padded = 0;
    return add(desc, false);
  }

  const TensorDesc& desc(int id) const { return tensors_[id].desc; }

  void add_step(const Operator* op, std::vector<int> inputs, std::vector<int> outputs) {
    const int now = static_cast<int>(steps_.size());
    for (const auto* ids : {&inputs, &outputs})
      for (int id : *ids) {
        if (lives_[id].first < 0) lives_[id].first = now;
        lives_[id].last = now;
      }
    steps_.push_back({op, std::move(inputs), std::move(outputs)});
  }

  std::unique_ptr<Executor> executor(const std::shared_ptr<ThreadPool>& pool) {
    const int64_t bytes = place();
    return std::make_unique<Executor>(tensors_, steps_, inputs_, outputs_, bytes,
                                      Workforce::all_of(pool));
  }

 private:
  struct Life {
    int64_t bytes;
    int first, last;
  };

  // Of few channels, and nobody but convolutions of bytes reads it.
  bool is_image_of_quads(int value) const {
    bool read = graph_.shapes.at(value).c <= kQuad;
    for (const Node& node : graph_.nodes)
      for (const int input : node.inputs) read = read && (input != value || node.is("conv_u8"));
    return read;
  }

  int add(const TensorDesc& desc, bool outer) {
    tensors_.push_back({desc, outer ? -1 : 0});
    lives_.push_back({round_up(tensor_bytes(desc), kBytes), -1, -1});
    return static_cast<int>(tensors_.size()) - 1;
  }

  // The largest first, each at the lowest place that is free for its whole life.
  int64_t place() {
    std::vector<size_t> order;
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (tensors_[i].offset >= 0) order.push_back(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return lives_[a].bytes > lives_[b].bytes; });
    int64_t total = 0;
    for (size_t k = 0; k < order.size(); ++k) {
      const Life& life = lives_[order[k]];
      std::vector<std::pair<int64_t, int64_t>> taken;
      for (size_t j = 0; j < k; ++j) {
        const Life& other = lives_[order[j]];
        if (life.first <= other.last && other.first <= life.last)
          taken.push_back({tensors_[order[j]].offset, tensors_[order[j]].offset + other.bytes});
      }
      std::sort(taken.begin(), taken.end());
      int64_t at = 0;
      for (const auto& [begin, end] : taken) {
        if (begin - at >= life.bytes) break;
        at = std::max(at, end);
      }
      tensors_[order[k]].offset = at;
      total = std::max(total, at + life.bytes);
    }
    return total;
  }

  const Graph& graph_;
  std::map<int, int> ids_;
  std::vector<PlanTensor> tensors_;
  std::vector<Life> lives_;
  std::vector<PlanStep> steps_;
  std::vector<int> inputs_, outputs_;
};

bool is_runnable(const OpSpec& spec, Isa isa) {
  for (const OperatorType& type : operator_types())
    if (spec.kind == type.kind && type.unsupported(spec, isa).empty()) return true;
  return false;
}

size_t weight_bytes(const Graph& graph) {
  size_t bytes = 0;
  for (const Node& node : graph.nodes)
    if (const ArrayView* weight = node.spec.array("weight"))
      bytes += weight->size() * (weight->dtype == 'f' ? sizeof(float) : 1);
  return bytes;
}

}  // namespace

Partition::Partition(const Graph& graph, Isa isa, bool tune,
                     const std::shared_ptr<ThreadPool>& pool) {
  Layout layout(graph);
  Chooser choose(isa, pool->threads(), tune, weight_bytes(graph));
  const auto step = [&](OpSpec spec, const std::vector<int>& in, int out) {
    for (int id : in) spec.inputs.push_back(layout.desc(id));
    spec.outputs = {layout.desc(out)};
    spec.threads = pool->threads();
    packed_.push_back(choose(spec));
    layout.add_step(packed_.back().op.get(), in, {out});
  };
  for (const Node& node : graph.nodes) {
    std::vector<int> in;
    for (int value : node.inputs) in.push_back(layout.tensor(value));
    const int out = layout.tensor(node.output);
    // Convolutions of few channels have algorithms of their own, which read planes.
    if ((node.is("conv") || node.spec.array("expand.weight")) &&
        layout.desc(in[0]).c <= kStemChannels &&
        layout.desc(in[0]).stride == layout.desc(in[0]).c) {
      OpSpec spec = node.spec;
      for (int id : in) spec.inputs.push_back(layout.desc(id));
      spec.inputs[0].nchw = 1;
      spec.outputs = {layout.desc(out)};
      if (is_runnable(spec, isa)) {
        const int planes = layout.planes(layout.desc(in[0]));
        OpSpec turn;
        turn.kind = "to_nchw";
        step(turn, {in[0]}, planes);
        in[0] = planes;
      }
    }
    step(node.spec, in, out);
  }
  executor_ = layout.executor(pool);
}

}  // namespace activsparse::litert
