// Nodes on bytes to operators of this engine, each without its neighbours: the Python compiler's
// passes/quantised/match.py for a file that has one scale on every tensor already. What LiteRT does
// in fixed-point numbers is done in float32 here, a step away at most.
#include <algorithm>
#include <cmath>

#include "integrations/litert/functions.h"
#include "integrations/litert/node_reader.h"

namespace activsparse::litert {
namespace {

constexpr int64_t kMostProducts = int64_t{1} << 16;  // of a sum, as operators/conv_u8.cpp has it

// Steps of an output to one of the sums: beyond, any sum but 0 is off the range of a byte, and what
// LiteRT's fixed-point numbers do there is nobody's wish.
constexpr float kMostScale = 256;

// A mask among a file's constants is off by the rounding of its scale.
constexpr float kMaskTolerance = 1e-4f;

bool is_bytes(const abi::Tensor& t) { return bytes_of(t).has_value(); }

bool is_any_number(const abi::Tensor& t) {
  return is_bytes(t) || (t.type == abi::kFloat32 && t.sparsity == nullptr);
}

// Each method checks first, and adds to the graph if there is one.
class ByteReader : NodeReader {
 public:
  ByteReader(const abi::Context& context, const Constants& constants, const abi::Node& node,
             Graph* graph)
      : NodeReader(context, constants, node, graph, is_bytes) {}

  bool read(int code) {
    if (!gives_computed()) return false;
    y_ = *bytes_of(output());
    switch (code) {
      case abi::kConv2d:
        return has_inputs(1) && convolution(conv_kernel(), *params<abi::ConvParams>());
      case abi::kDepthwiseConv2d:
        return has_inputs(1) &&
               convolution(depthwise_kernel(), *params<abi::DepthwiseConvParams>());
      case abi::kFullyConnected:
        return has_inputs(1) && fully_connected(*params<abi::FullyConnectedParams>());
      case abi::kAdd:
        return has_inputs(2) && add_tensors(params<abi::ActivationParams>()->activation);
      case abi::kMul:
        return node_.inputs->size == 2 && multiply(params<abi::ActivationParams>()->activation);
      case abi::kPad:
      case abi::kPadV2:
        return has_inputs(1) && given(1) && pad(code == abi::kPadV2);
      case abi::kMaxPool2d:
      case abi::kAveragePool2d:
        return has_inputs(1) && pool(code == abi::kAveragePool2d, *params<abi::PoolParams>());
      case abi::kMean:
        return has_inputs(1) && given(1) && mean();
      case abi::kConcatenation:
        return concat(*params<abi::ConcatenationParams>());
      case abi::kReshape:
        // Between (N, 1, 1, C) and (N, C) nothing moves.
        if (has_inputs(1) && same_shape()) return rescale(abi::kNoActivation);
        return move_bytes(code);
      case abi::kGather:
      case abi::kStridedSlice:
      case abi::kSlice:
      case abi::kResizeNearest:
      case abi::kMirrorPad:
        return move_bytes(code);
      case abi::kQuantize:
        return has_inputs(1) && rescale(abi::kNoActivation);
      case abi::kReluCode:
        return has_inputs(1) && rescale(abi::kRelu);
      case abi::kRelu6Code:
        return has_inputs(1) && rescale(abi::kRelu6);
      case abi::kLeakyRelu: {
        const double slope = params<abi::LeakyReluParams>()->alpha;
        return look_up([slope](double x) { return x < 0 ? x * slope : x; });
      }
      case abi::kHardSwish:
        return look_up([](double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); });
      case abi::kLogistic:
        return look_up([](double x) { return 1 / (1 + std::exp(-x)); });
      case abi::kTanh:
        return look_up([](double x) { return std::tanh(x); });
    }
    return false;
  }

 private:
  Bytes x(int i = 0) const { return *bytes_of(input(i)); }
  bool same_shape(int i = 0) const { return shape_of(input(i)) == shape_of(output()); }

  void set_bounds(const Bounds& bounds) {
    spec().floats["lo"] = bounds.lo, spec().floats["hi"] = bounds.hi;
  }
  void set_zero() { spec().ints["zero"] = y_.zero; }

  // A weight of int8 with a scale for each channel, and a bias of int32 in steps of their products
  // with the input's: what LiteRT has, too.
  bool product(const std::optional<KernelShape>& k, int fused) const {
    if (!k || !is_known(fused) || k->products() > kMostProducts) return false;
    if (input(1).type != abi::kInt8 || scales_of(*k).empty()) return false;
    if (!has_bias()) return is_within_32_bits(*k);
    const abi::Tensor& bias = input(2);
    return bias.type == abi::kInt32 && bias.dims != nullptr && elements(bias) == k->out &&
           is_within_32_bits(*k);
  }
  bool has_bias() const { return given(2); }
  const int32_t* bias() const {
    return has_bias() ? static_cast<const int32_t*>(input(2).data) : nullptr;
  }

  // Of sums over that of the output; empty where the file has none, or they leave float32.
  std::vector<float> scales_of(const KernelShape& k) const {
    std::vector<float> scales = channel_scales(input(1), k.axis(), k.out);
    for (float& scale : scales) {
      scale = static_cast<float>(double{x().scale} * double{scale} / double{y_.scale});
      if (!(scale <= kMostScale)) return {};
    }
    return scales;
  }

  bool is_within_32_bits(const KernelShape& k) const {
    const auto* from = static_cast<const int8_t*>(input(1).data);
    const std::vector<int8_t> weight = k.reordered(from);
    for (int64_t o = 0; o < k.out; ++o) {
      int64_t most = bias() == nullptr ? 0 : std::abs(int64_t{bias()[o]});
      for (int64_t i = 0; i < k.products(); ++i)
        most += 255 * std::abs(int{weight[o * k.products() + i]});
      if (most > INT32_MAX) return false;
    }
    return true;
  }

  void set_product(const KernelShape& k, int fused) {
    spec().arrays["weight"] = graph_->keep(k.reordered(static_cast<const int8_t*>(input(1).data)),
                                           {k.out, k.in, k.h, k.w});
    if (has_bias())
      spec().arrays["bias"] = graph_->keep(std::vector<int32_t>(bias(), bias() + k.out), {k.out});
    spec().arrays["scale"] = graph_->keep(scales_of(k), {k.out});
    spec().ints["input_zero"] = x().zero;
    set_zero();
    set_bounds(Bounds(y_, fused));
  }

  template <class Params>
  bool convolution(const std::optional<KernelShape>& k, const Params& p) {
    if (!steps(p) || !product(k, p.activation)) return false;
    if (!graph_) return true;
    add("conv_u8");
    set_kernel(*k, p);
    set_product(*k, p.activation);
    return true;
  }

  bool fully_connected(const abi::FullyConnectedParams& p) {
    const std::optional<KernelShape> k = dense_kernel(p);
    if (!product(k, p.activation)) return false;
    if (!graph_) return true;
    add("conv_u8");
    set_product(*k, p.activation);
    return true;
  }

  bool add_tensors(int fused) {
    if (node_.inputs->size != 2 || !is_known(fused) || !same_shape(0) || !same_shape(1))
      return false;
    const float a = x(0).scale / y_.scale, b = x(1).scale / y_.scale;
    if (!std::isfinite(a * 255) || !std::isfinite(b * 255)) return false;
    if (!graph_) return true;
    add("add_u8", {node_.inputs->data[0], node_.inputs->data[1]});
    spec().floats = {{"a_scale", a}, {"b_scale", b}};
    spec().ints = {{"a_zero", x(0).zero}, {"b_zero", x(1).zero}};
    set_zero();
    set_bounds(Bounds(y_, fused));
    return true;
  }

  bool multiply(int fused) {
    if (!is_known(fused) || !given(0) || !given(1)) return false;
    const bool constants[] = {is_constant(0), is_constant(1)};
    if (constants[0] != constants[1]) return mask(constants[0] ? 0 : 1, fused);
    if (!has_inputs(2)) return false;
    const int large = same_shape(0) ? 0 : 1;
    const Shape y = shape_of(output()), other = shape_of(input(1 - large));
    if (!same_shape(large) || !(other == y || other == Shape{y.n, 1, 1, y.c})) return false;
    const float scale = static_cast<float>(double{x(0).scale} * double{x(1).scale} / y_.scale);
    if (!std::isfinite(scale * 255 * 255)) return false;
    if (!graph_) return true;
    add("mul_u8", {node_.inputs->data[large], node_.inputs->data[1 - large]});
    spec().floats["a_scale"] = scale;
    spec().ints = {{"a_zero", x(large).zero}, {"b_zero", x(1 - large).zero}};
    set_zero();
    set_bounds(Bounds(y_, fused));
    return true;
  }

  // A constant of zeros and ones for each position: what it drops is the zero point.
  bool mask(int which, int fused) {
    const abi::Tensor& constant = input(which);
    if (!is_computed(1 - which) || !same_shape(1 - which)) return false;
    const std::optional<Bytes> of = bytes_of(constant);
    if (!of || !is_plane(constant)) return false;
    std::vector<uint8_t> kept = stored_bytes(constant);
    for (uint8_t& position : kept) {
      const float value = static_cast<float>(position - of->zero) * of->scale;
      if (value != 0 && !(std::fabs(value - 1) <= kMaskTolerance)) return false;
      position = value != 0;
    }
    const Bytes from = x(1 - which);
    if (!std::isfinite(from.scale / y_.scale * 255)) return false;
    if (!graph_) return true;
    const Shape shape = shape_of(output());
    add("mask_u8", {node_.inputs->data[1 - which]});
    spec().ints["zero"] = from.zero;
    spec().arrays["mask"] = graph_->keep(std::move(kept), {shape.h, shape.w});
    finish_by(from, fused);
    return true;
  }

  // What was added to the graph gives bytes of `from`'s scale: those of the output follow, if they
  // are others.
  void finish_by(const Bytes& from, int fused) {
    const Bounds bounds(y_, fused), all(y_);
    if (from == y_ && bounds.lo == all.lo && bounds.hi == all.hi) return;
    Node& made = graph_->nodes.back();
    const int before = graph_->value_like(made.output);
    graph_->bytes[before] = from;
    made.output = before;
    add("lookup_u8", {});
    graph_->nodes.back().inputs = {before};
    set_rescaled(from, bounds);
  }

  // The numbers say the same as the table, to a convolution that can do it itself.
  void set_rescaled(const Bytes& from, const Bounds& bounds) {
    spec().arrays["table"] = graph_->keep(rescaling_table(from, y_, bounds), {256});
    spec().floats["kept"] = from.scale / y_.scale;
    set_zero();
    set_bounds(bounds);
  }

  bool rescale(int fused) {
    if (!same_shape() || !std::isfinite(x().scale / y_.scale * 255)) return false;
    if (!graph_) return true;
    add("lookup_u8");
    set_rescaled(x(), Bounds(y_, fused));
    return true;
  }

  bool look_up(const std::function<double(double)>& function) {
    if (!has_inputs(1) || !same_shape()) return false;
    if (!graph_) return true;
    add("lookup_u8");
    spec().arrays["table"] = graph_->keep(table_of(x(), y_, function), {256});
    return true;
  }

  bool move_bytes(int code) { return has_inputs(1) && x() == y_ && move(code, "gather_u8"); }

  // By zeros, or by a given byte.
  bool pad(bool has_value) {
    if (node_.inputs->size != (has_value ? 3 : 2) || !(x() == y_)) return false;
    const std::optional<Pads> pads = this->pads();
    if (!pads || pads->channels > 0) return false;
    int32_t value = y_.zero;
    if (has_value) {
      if (!given(2) || !is_bytes(input(2)) || elements(input(2)) != 1) return false;
      if (!(*bytes_of(input(2)) == y_)) return false;
      value = stored_bytes(input(2))[0];
    }
    if (!graph_) return true;
    add("pad_u8");
    set_pads(*pads);
    spec().ints["zero"] = value;
    return true;
  }

  bool pool(bool average, const abi::PoolParams& p) {
    if (!is_window(p) || !(x() == y_)) return false;
    if (!graph_) return true;
    add(average ? "average_pool_u8" : "max_pool_u8");
    set_pool(p);
    set_average(average);
    finish_by(y_, p.activation);
    return true;
  }

  void set_average(bool average) {
    if (!average) return;
    spec().floats["scale"] = x().scale / y_.scale;
    spec().ints["input_zero"] = x().zero;
    set_zero();
  }

  bool mean() {
    if (!is_mean_of_image() || !std::isfinite(x().scale / y_.scale * 255)) return false;
    if (!graph_) return true;
    add("average_pool_u8");
    set_average(true);
    return true;
  }

  // Of one scale, as LiteRT has it.
  bool concat(const abi::ConcatenationParams& p) {
    if (!joins_channels(p)) return false;
    for (int i = 0; i < node_.inputs->size; ++i)
      if (!(x(i) == y_)) return false;
    if (graph_) add("concat", {node_.inputs->data, node_.inputs->data + node_.inputs->size});
    return true;
  }

  Bytes y_{};
};

// QUANTIZE of float32 numbers, and DEQUANTIZE to them.
class BorderReader : NodeReader {
 public:
  BorderReader(const abi::Context& context, const Constants& constants, const abi::Node& node,
               Graph* graph)
      : NodeReader(context, constants, node, graph, is_any_number) {}

  bool read(int code) {
    if (code != abi::kQuantize && code != abi::kDequantize) return false;
    if (!gives_computed() || !has_inputs(1) || node_.inputs->size != 1) return false;
    const std::optional<Bytes> from = bytes_of(input(0)), to = bytes_of(output());
    if (from.has_value() == to.has_value()) return false;
    const bool quantises = to.has_value();
    if (code != (quantises ? abi::kQuantize : abi::kDequantize)) return false;
    if (!(shape_of(input(0)) == shape_of(output()))) return false;
    if (!graph_) return true;
    add(quantises ? "quantise" : "dequantise");
    if (quantises) {
      const Bounds bounds(*to);
      spec().floats = {{"a_scale", 1 / to->scale}, {"lo", bounds.lo}, {"hi", bounds.hi}};
      spec().ints["zero"] = to->zero;
    } else {
      spec().floats["a_scale"] = from->scale;
      spec().ints["a_zero"] = from->zero;
    }
    return true;
  }
};

}  // namespace

bool read_bytes(const abi::Context& context, const Constants& constants, const abi::Node& node,
                int code, Graph* graph) {
  return ByteReader(context, constants, node, graph).read(code) ||
         BorderReader(context, constants, node, graph).read(code);
}

}  // namespace activsparse::litert
