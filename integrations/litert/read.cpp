// From the runtime's nodes to operators of this engine, each without its neighbours.
#include <algorithm>
#include <cmath>
#include <limits>

#include "integrations/litert/graph.h"

namespace activsparse::litert {
namespace {

bool is_float(const abi::Tensor& t) {
  return t.type == abi::kFloat32 && t.sparsity == nullptr && t.dims != nullptr;
}

// Computed at run time, with sizes that never change.
bool is_activation(const abi::Tensor& t) {
  if (!is_float(t) || is_stored(t) || t.is_variable || t.allocation_type != abi::kArena)
    return false;
  if (t.dims->size != 2 && t.dims->size != 4) return false;
  for (int i = 0; i < t.dims->size; ++i)
    if (t.dims->data[i] < 1) return false;
  for (int i = 0; t.dims_signature && i < t.dims_signature->size; ++i)
    if (t.dims_signature->data[i] < 0) return false;
  return true;
}

Shape shape_of(const abi::Tensor& t) {
  const int* d = t.dims->data;
  return t.dims->size == 4 ? Shape{d[0], d[1], d[2], d[3]} : Shape{d[0], 1, 1, d[1]};
}

// One node while it is read; each method checks first, and adds to the graph if there is one.
class Reader {
 public:
  Reader(const abi::Context& context, const Constants& constants, const abi::Node& node,
         Graph* graph)
      : context_(context), constants_(constants), node_(node), graph_(graph) {}

  bool read(int code) {
    if (node_.outputs->size != 1 || !is_activation(output())) return false;
    switch (code) {
      case abi::kConv2d:
        return has_inputs(1) && conv(*params<abi::ConvParams>());
      case abi::kDepthwiseConv2d:
        return has_inputs(1) && depthwise(*params<abi::DepthwiseConvParams>());
      case abi::kFullyConnected:
        return has_inputs(1) && fully_connected(*params<abi::FullyConnectedParams>());
      case abi::kAdd:
      case abi::kMul:
        return node_.inputs->size == 2 && binary(code == abi::kMul);
      case abi::kPad:
      case abi::kPadV2:
        return has_inputs(1) && given(1) && pad(code == abi::kPadV2);
      case abi::kMaxPool2d:
      case abi::kAveragePool2d:
        return has_inputs(1) && pool(code == abi::kAveragePool2d, *params<abi::PoolParams>());
      case abi::kResizeBilinear:
        return has_inputs(1) && given(1) && resize(*params<abi::ResizeBilinearParams>());
      case abi::kMean:
        return has_inputs(1) && given(1) && mean();
      case abi::kConcatenation:
        return concat(*params<abi::ConcatenationParams>());
      case abi::kReshape:
        // Only between (N, 1, 1, C) and (N, C), where nothing moves.
        return has_inputs(1) && shape_of(input(0)) == shape_of(output()) && activate("none");
      case abi::kReluCode:
        return has_inputs(1) && activate("relu");
      case abi::kRelu6Code:
        return has_inputs(1) && activate("clip", 0, 6);
      case abi::kPrelu:
        return has_inputs(1) && given(1) && prelu();
      case abi::kLeakyRelu:
        return has_inputs(1) && activate("leaky_relu", params<abi::LeakyReluParams>()->alpha);
      case abi::kHardSwish:
        return has_inputs(1) && activate("hardswish");
      case abi::kLogistic:
        return has_inputs(1) && activate("sigmoid");
    }
    return false;
  }

 private:
  template <class Params>
  const Params* params() const {
    static const Params absent{};
    return node_.builtin_data ? static_cast<const Params*>(node_.builtin_data) : &absent;
  }
  const abi::Tensor& tensor(int id) const { return context_.tensors[id]; }
  const abi::Tensor& input(int i) const { return tensor(node_.inputs->data[i]); }
  const abi::Tensor& output() const { return tensor(node_.outputs->data[0]); }

  // Only a bias may be left out, and nothing else is looked at where it is.
  bool given(int i) const { return i < node_.inputs->size && node_.inputs->data[i] >= 0; }
  bool is_constant(int i) const { return constants_.has(context_, node_.inputs->data[i]); }
  bool is_computed(int i) const { return !is_constant(i) && is_activation(input(i)); }
  std::vector<float> values(int i) const {
    return constants_.values(context_, node_.inputs->data[i]);
  }

  bool has_inputs(int activations) const {
    for (int i = 0; i < node_.inputs->size; ++i) {
      const int id = node_.inputs->data[i];
      if (i < activations ? id < 0 || !is_computed(i) : id >= 0 && !is_constant(i)) return false;
    }
    return node_.inputs->size >= activations;
  }

  void add(const char* kind, std::vector<int> ids) {
    Node made{{}, {}, node_.outputs->data[0]};
    made.spec.kind = kind;
    for (int id : ids) graph_->shapes[id] = shape_of(tensor(id));
    graph_->shapes[made.output] = shape_of(output());
    made.inputs = std::move(ids);
    graph_->nodes.push_back(std::move(made));
  }
  void add(const char* kind) { add(kind, {node_.inputs->data[0]}); }
  OpSpec& spec() { return graph_->nodes.back().spec; }

  void set_activation(const std::string& name, double lo = 0, double hi = 0) {
    if (name == "none") return;
    spec().strings["activation"] = name;
    if (name == "clip") spec().floats["lo"] = lo, spec().floats["hi"] = hi;
    if (name == "leaky_relu") spec().floats["lo"] = lo;
  }
  void set_fused(int fused) {
    if (fused == abi::kRelu) set_activation("relu");
    if (fused == abi::kReluN1To1) set_activation("clip", -1, 1);
    if (fused == abi::kRelu6) set_activation("clip", 0, 6);
  }
  static bool known(int fused) { return fused >= abi::kNoActivation && fused <= abi::kRelu6; }

  // The attributes of a sliding window; SAME pads half before and the larger half behind.
  void set_window(const abi::Tensor& x, int padding, int kernel_h, int kernel_w, int stride_h,
                  int stride_w, int dilation_h = 1, int dilation_w = 1) {
    const Shape in = shape_of(x), out = shape_of(output());
    auto& ints = spec().ints;
    const auto axis = [&](const char* before, const char* behind, int size, int outputs, int kernel,
                          int stride, int dilation) {
      const int reach = (outputs - 1) * stride + (kernel - 1) * dilation + 1;
      const int total = padding == abi::kSame ? std::max(reach - size, 0) : 0;
      ints[before] = total / 2;
      ints[behind] = total - total / 2;
    };
    axis("pad_top", "pad_bottom", in.h, out.h, kernel_h, stride_h, dilation_h);
    axis("pad_left", "pad_right", in.w, out.w, kernel_w, stride_w, dilation_w);
    ints["stride_h"] = stride_h, ints["stride_w"] = stride_w;
    ints["dilation_h"] = dilation_h, ints["dilation_w"] = dilation_w;
  }

  // Whether strides and dilations are some.
  template <class Params>
  static bool steps(const Params& p) {
    return p.stride_height >= 1 && p.stride_width >= 1 && p.dilation_height >= 1 &&
           p.dilation_width >= 1;
  }

  bool weights(int rank) const {
    if (!given(1)) return false;
    if (!is_float(input(1)) || input(1).dims->size != rank) return false;
    for (int i = 0; i < rank; ++i)
      if (input(1).dims->data[i] < 1) return false;
    return !has_bias() || is_float(input(2));
  }
  bool has_bias() const { return given(2); }
  void set_bias() {
    if (has_bias()) spec().arrays["bias"] = graph_->keep(values(2), {elements(input(2))});
  }

  bool conv(const abi::ConvParams& p) {
    if (!weights(4) || !known(p.activation) || !steps(p)) return false;
    const int* d = input(1).dims->data;  // (O, KH, KW, I / group)
    const int64_t out = d[0], taps = int64_t{d[1]} * d[2], in = d[3];
    const int64_t group = shape_of(input(0)).c / in;
    if (group < 1 || group * in != shape_of(input(0)).c || out % group != 0) return false;
    if (!graph_) return true;
    add("conv");
    set_window(input(0), p.padding, d[1], d[2], p.stride_height, p.stride_width, p.dilation_height,
               p.dilation_width);
    spec().ints["group"] = group;
    const std::vector<float> given = values(1);
    const float* from = given.data();
    std::vector<float> weight(out * taps * in);
    for (int64_t o = 0; o < out; ++o)
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t i = 0; i < in; ++i) weight[(o * in + i) * taps + t] = *from++;
    spec().arrays["weight"] = graph_->keep(std::move(weight), {out, in, d[1], d[2]});
    set_bias();
    set_fused(p.activation);
    return true;
  }

  bool depthwise(const abi::DepthwiseConvParams& p) {
    if (!weights(4) || !known(p.activation) || !steps(p)) return false;
    const int* d = input(1).dims->data;  // (1, KH, KW, O)
    const int64_t out = d[3], taps = int64_t{d[1]} * d[2], channels = shape_of(input(0)).c;
    if (out % channels != 0) return false;
    if (!graph_) return true;
    add("conv");
    set_window(input(0), p.padding, d[1], d[2], p.stride_height, p.stride_width, p.dilation_height,
               p.dilation_width);
    spec().ints["group"] = channels;
    const std::vector<float> given = values(1);
    const float* from = given.data();
    std::vector<float> weight(out * taps);
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t o = 0; o < out; ++o) weight[o * taps + t] = *from++;
    spec().arrays["weight"] = graph_->keep(std::move(weight), {out, 1, d[1], d[2]});
    set_bias();
    set_fused(p.activation);
    return true;
  }

  bool fully_connected(const abi::FullyConnectedParams& p) {
    if (!weights(2) || !known(p.activation) || p.weights_format != 0) return false;
    const int* d = input(1).dims->data;  // (O, F)
    const Shape x = shape_of(input(0)), y = shape_of(output());
    if (x.h != 1 || x.w != 1 || x.c != d[1] || !(y == Shape{x.n, 1, 1, d[0]})) return false;
    if (!graph_) return true;
    add("gemm");
    spec().arrays["weight"] = graph_->keep(values(1), {d[0], d[1]});
    set_bias();
    set_fused(p.activation);
    return true;
  }

  bool binary(bool multiply) {
    const int fused = params<abi::ActivationParams>()->activation;
    if (!known(fused)) return false;
    if (!given(0) || !given(1)) return false;
    const bool constants[] = {is_constant(0), is_constant(1)};
    if (constants[0] != constants[1]) return with_constant(multiply, constants[0] ? 0 : 1, fused);
    const Shape y = shape_of(output());
    for (int i = 0; i < 2; ++i)
      if (!is_computed(i) || !(shape_of(input(i)) == y)) return false;
    if (!graph_) return true;
    add(multiply ? "mul" : "add", {node_.inputs->data[0], node_.inputs->data[1]});
    set_fused(fused);
    return true;
  }

  // A mask, (1, H, W, 1) of zeros and ones, or one value for all or for each channel.
  bool with_constant(bool multiply, int which, int fused) {
    const abi::Tensor& x = input(1 - which);
    const abi::Tensor& constant = input(which);
    if (!is_computed(1 - which) || !is_float(constant) || constant.dims->size > 4) return false;
    const Shape y = shape_of(output());
    if (!(shape_of(x) == y)) return false;
    int64_t sizes[] = {1, 1, 1, 1};
    for (int i = 0; i < constant.dims->size; ++i)
      sizes[4 - constant.dims->size + i] = constant.dims->data[i];
    const int64_t count = elements(constant);
    const bool channels = sizes[3] == count && (count == 1 || count == y.c);
    const bool plane = multiply && sizes[0] == 1 && sizes[1] == y.h && sizes[2] == y.w &&
                       sizes[3] == 1 && x.dims->size == 4;
    if (!channels && !plane) return false;
    const std::vector<float> values = this->values(which);
    const auto is_bit = [](float v) { return v == 0 || v == 1; };
    if (!channels && !std::all_of(values.begin(), values.end(), is_bit)) return false;
    if (!graph_) return true;
    add(channels ? "scale_shift" : "mask_multiply", {node_.inputs->data[1 - which]});
    if (channels) {
      std::vector<float> given(y.c);
      for (int c = 0; c < y.c; ++c) given[c] = values[count == 1 ? 0 : c];
      std::vector<float> other(y.c, multiply ? 0.0f : 1.0f);
      spec().arrays[multiply ? "scale" : "shift"] = graph_->keep(std::move(given), {y.c});
      spec().arrays[multiply ? "shift" : "scale"] = graph_->keep(std::move(other), {y.c});
    } else {
      spec().arrays["mask"] =
          graph_->keep(std::vector<uint8_t>(values.begin(), values.end()), {y.h, y.w});
    }
    set_fused(fused);
    return true;
  }

  // By zeros, or, before a maximum, by the least of numbers; zeros behind the channels, too.
  bool pad(bool has_value) {
    if (node_.inputs->size != (has_value ? 3 : 2) || input(0).dims->size != 4) return false;
    const bool least = has_value && given(2) && is_float(input(2)) && elements(input(2)) == 1 &&
                       values(2)[0] <= std::numeric_limits<float>::lowest();
    if (has_value && !least) return false;
    const abi::Tensor& amounts = input(1);
    if (elements(amounts) != 8 || (amounts.type != abi::kInt32 && amounts.type != abi::kInt64))
      return false;
    int64_t pads[8];
    for (int i = 0; i < 8; ++i)
      pads[i] = amounts.type == abi::kInt32 ? static_cast<const int32_t*>(amounts.data)[i]
                                            : static_cast<const int64_t*>(amounts.data)[i];
    if (pads[0] || pads[1] || pads[6]) return false;
    if (*std::min_element(pads, pads + 8) < 0) return false;
    if (pads[7] > 0 && (least || std::any_of(pads, pads + 6, [](int64_t p) { return p > 0; })))
      return false;
    if (!graph_) return true;
    if (pads[7] > 0) {
      add("concat");
      spec().ints["zeros"] = pads[7];
      return true;
    }
    add(least ? "pad_least" : "pad");
    spec().ints = {{"pad_top", pads[2]},
                   {"pad_bottom", pads[3]},
                   {"pad_left", pads[4]},
                   {"pad_right", pads[5]}};
    return true;
  }

  bool pool(bool average, const abi::PoolParams& p) {
    if (!known(p.activation) || input(0).dims->size != 4) return false;
    for (const int size : {p.filter_height, p.filter_width, p.stride_height, p.stride_width})
      if (size < 1) return false;
    if (!graph_) return true;
    add(average ? "average_pool" : "max_pool");
    set_window(input(0), p.padding, p.filter_height, p.filter_width, p.stride_height,
               p.stride_width);
    spec().ints["kernel_h"] = p.filter_height, spec().ints["kernel_w"] = p.filter_width;
    set_fused(p.activation);
    return true;
  }

  // Slopes of all channels, or one for all.
  bool prelu() {
    if (node_.inputs->size != 2 || !is_float(input(1))) return false;
    const int64_t count = elements(input(1)), channels = shape_of(output()).c;
    const abi::IntArray& sizes = *input(1).dims;
    const bool each = sizes.size > 0 && sizes.data[sizes.size - 1] == count && count == channels;
    if (!(shape_of(input(0)) == shape_of(output())) || (!each && count != 1)) return false;
    if (!graph_) return true;
    const std::vector<float> slopes = values(1);
    add("prelu");
    spec().arrays["slope"] =
        graph_->keep(count == 1 ? std::vector<float>(channels, slopes[0]) : slopes, {channels});
    return true;
  }

  // Along an axis: the two inputs of each output, and what they count. Beyond the border is the
  // pixel at it.
  void set_axis(const char* name, int size, int outputs, const abi::ResizeBilinearParams& p) {
    const bool corners = p.align_corners && outputs > 1;
    const float scale =
        corners ? float(size - 1) / float(outputs - 1) : float(size) / float(outputs);
    std::vector<int32_t> at(2 * outputs);
    std::vector<float> shares(2 * outputs);
    for (int i = 0; i < outputs; ++i) {
      const float x = p.half_pixel_centers ? (float(i) + 0.5f) * scale - 0.5f : float(i) * scale;
      const float inside = std::clamp(x, 0.0f, float(size - 1));
      const auto first = static_cast<int32_t>(std::floor(inside));
      at[i] = first, at[outputs + i] = std::min(first + 1, size - 1);
      shares[outputs + i] = inside - float(first);
      shares[i] = 1 - shares[outputs + i];
    }
    spec().arrays[name] = graph_->keep(std::move(at), {2, outputs});
    spec().arrays[std::string(name) + "_weights"] = graph_->keep(std::move(shares), {2, outputs});
  }

  bool resize(const abi::ResizeBilinearParams& p) {
    const Shape x = shape_of(input(0)), y = shape_of(output());
    if (node_.inputs->size != 2 || input(0).dims->size != 4 || x.n != y.n || x.c != y.c)
      return false;
    if (!graph_) return true;
    add("resize_linear");
    set_axis("rows", x.h, y.h, p);
    set_axis("columns", x.w, y.w, p);
    return true;
  }

  bool mean() {
    if (node_.inputs->size != 2 || input(0).dims->size != 4) return false;
    const abi::Tensor& axes = input(1);
    if (axes.type != abi::kInt32 || elements(axes) != 2) return false;
    const auto* axis = static_cast<const int32_t*>(axes.data);
    const int first = (axis[0] + 4) % 4, second = (axis[1] + 4) % 4;
    if (std::min(first, second) != 1 || std::max(first, second) != 2) return false;
    const Shape x = shape_of(input(0));
    if (!(shape_of(output()) == Shape{x.n, 1, 1, x.c})) return false;
    if (graph_) add("global_average_pool");
    return true;
  }

  bool concat(const abi::ConcatenationParams& p) {
    const int rank = output().dims->size;
    if (p.activation != abi::kNoActivation || (p.axis + rank) % rank != rank - 1) return false;
    if (!has_inputs(node_.inputs->size)) return false;
    if (!graph_) return true;
    add("concat", {node_.inputs->data, node_.inputs->data + node_.inputs->size});
    return true;
  }

  bool activate(const char* name, double lo = 0, double hi = 0) {
    if (!graph_) return true;
    add("activate");
    set_activation(name, lo, hi);
    return true;
  }

  const abi::Context& context_;
  const Constants& constants_;
  const abi::Node& node_;
  Graph* graph_;
};

}  // namespace

bool read_node(const abi::Context& context, const Constants& constants, const abi::Node& node,
               int code, Graph* graph) {
  return Reader(context, constants, node, graph).read(code);
}

}  // namespace activsparse::litert
