// Nodes on float32 values to operators of this engine, each without its neighbours.
#include <algorithm>
#include <cmath>
#include <limits>

#include "integrations/litert/node_reader.h"

namespace activsparse::litert {
namespace {

bool is_float(const abi::Tensor& t) {
  return t.type == abi::kFloat32 && t.sparsity == nullptr && t.dims != nullptr;
}

// Each method checks first, and adds to the graph if there is one.
class FloatReader : NodeReader {
 public:
  FloatReader(const abi::Context& context, const Constants& constants, const abi::Node& node,
              Graph* graph)
      : NodeReader(context, constants, node, graph, is_float) {}

  bool read(int code) {
    if (!gives_computed()) return false;
    switch (code) {
      case abi::kConv2d:
        return has_inputs(1) && convolution(conv_kernel(), *params<abi::ConvParams>());
      case abi::kDepthwiseConv2d:
        return has_inputs(1) &&
               convolution(depthwise_kernel(), *params<abi::DepthwiseConvParams>());
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
        return has_inputs(1) && given(1) && resize(*params<abi::ResizeParams>());
      case abi::kMean:
        return has_inputs(1) && given(1) && mean();
      case abi::kConcatenation:
        return concat(*params<abi::ConcatenationParams>());
      case abi::kReshape:
        // Between (N, 1, 1, C) and (N, C) nothing moves.
        if (has_inputs(1) && shape_of(input(0)) == shape_of(output())) return activate("none");
        return move(code, "gather_positions");
      case abi::kGather:
      case abi::kStridedSlice:
      case abi::kSlice:
      case abi::kResizeNearest:
      case abi::kMirrorPad:
        return move(code, "gather_positions");
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
  std::vector<float> values(int i) const {
    return constants_.values(context_, node_.inputs->data[i]);
  }

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

  bool has_bias() const { return given(2); }
  // Whether weight and bias are float32; what their shapes say is `kernel`.
  bool has_weights(const std::optional<KernelShape>& kernel, int fused) const {
    return kernel && is_known(fused) && is_float(input(1)) && (!has_bias() || is_float(input(2)));
  }
  void set_weights(const KernelShape& k, std::vector<int64_t> shape) {
    spec().arrays["weight"] = graph_->keep(k.reordered(values(1).data()), std::move(shape));
    if (has_bias()) spec().arrays["bias"] = graph_->keep(values(2), {elements(input(2))});
  }

  template <class Params>
  bool convolution(const std::optional<KernelShape>& k, const Params& p) {
    if (!has_weights(k, p.activation) || !steps(p)) return false;
    if (!graph_) return true;
    add("conv");
    set_kernel(*k, p);
    set_weights(*k, {k->out, k->in, k->h, k->w});
    set_fused(p.activation);
    return true;
  }

  bool fully_connected(const abi::FullyConnectedParams& p) {
    const std::optional<KernelShape> k = dense_kernel(p);
    if (!has_weights(k, p.activation)) return false;
    if (!graph_) return true;
    add("gemm");
    set_weights(*k, {k->out, k->in});
    set_fused(p.activation);
    return true;
  }

  bool binary(bool multiply) {
    const int fused = params<abi::ActivationParams>()->activation;
    if (!is_known(fused)) return false;
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
    const int64_t count = elements(constant);
    const bool last =
        constant.dims->size == 0 || constant.dims->data[constant.dims->size - 1] == count;
    const bool channels = last && (count == 1 || count == y.c);
    const bool plane = multiply && is_plane(constant);
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
    if (node_.inputs->size != (has_value ? 3 : 2)) return false;
    const bool least = has_value && given(2) && is_float(input(2)) && elements(input(2)) == 1 &&
                       values(2)[0] <= std::numeric_limits<float>::lowest();
    if (has_value && !least) return false;
    const std::optional<Pads> pads = this->pads();
    if (!pads || (pads->channels > 0 && least)) return false;
    if (!graph_) return true;
    if (pads->channels > 0) {
      add("concat");
      spec().ints["zeros"] = pads->channels;
      return true;
    }
    add(least ? "pad_least" : "pad");
    set_pads(*pads);
    return true;
  }

  bool pool(bool average, const abi::PoolParams& p) {
    if (!is_window(p)) return false;
    if (!graph_) return true;
    add(average ? "average_pool" : "max_pool");
    set_pool(p);
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
  void set_axis(const char* name, int size, int outputs, const abi::ResizeParams& p) {
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

  bool resize(const abi::ResizeParams& p) {
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
    if (!is_mean_of_image()) return false;
    if (graph_) add("global_average_pool");
    return true;
  }

  bool concat(const abi::ConcatenationParams& p) {
    if (!joins_channels(p)) return false;
    if (graph_) add("concat", {node_.inputs->data, node_.inputs->data + node_.inputs->size});
    return true;
  }

  bool activate(const char* name, double lo = 0, double hi = 0) {
    if (!graph_) return true;
    add("activate");
    set_activation(name, lo, hi);
    return true;
  }
};

}  // namespace

bool read_floats(const abi::Context& context, const Constants& constants, const abi::Node& node,
                 int code, Graph* graph) {
  return FloatReader(context, constants, node, graph).read(code);
}

}  // namespace activsparse::litert
