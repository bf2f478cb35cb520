// A node of the runtime while it is read, and what reading has in common whatever the type of its
// values: `read_floats.cpp` and `read_bytes.cpp` say what each operator becomes.
#pragma once
#include <optional>

#include "integrations/litert/graph.h"

namespace activsparse::litert {

// A kernel in the engine's order, (O, I / group, KH, KW), and how the file has it: (O, KH, KW,
// I / group), of depthwise convolutions (1, KH, KW, O), of fully connected layers (O, F).
struct KernelShape {
  int64_t out, in, h, w, group;
  bool depthwise;

  int64_t products() const { return in * h * w; }
  int axis() const { return depthwise ? 3 : 0; }  // of the output channels in the file

  template <class T>
  std::vector<T> reordered(const T* from) const {
    const int64_t taps = h * w;
    std::vector<T> weight(out * in * taps);
    if (depthwise) {
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t o = 0; o < out; ++o) weight[o * taps + t] = *from++;
      return weight;
    }
    for (int64_t o = 0; o < out; ++o)
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t i = 0; i < in; ++i) weight[(o * in + i) * taps + t] = *from++;
    return weight;
  }
};

// Of height and width: before and behind.
struct Pads {
  int64_t top, bottom, left, right, channels;
};

Shape shape_of(const abi::Tensor& tensor);
// Whether it is computed at run time, with sizes that never change.
bool is_computed_tensor(const abi::Tensor& tensor);

class NodeReader {
 protected:
  // `takes`: whether a tensor is of the type that is read.
  NodeReader(const abi::Context& context, const Constants& constants, const abi::Node& node,
             Graph* graph, bool (*takes)(const abi::Tensor&))
      : context_(context), constants_(constants), node_(node), graph_(graph), takes_(takes) {}

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
  bool is_computed(int i) const {
    return !is_constant(i) && takes_(input(i)) && is_computed_tensor(input(i));
  }
  bool gives_computed() const {
    return node_.outputs->size == 1 && takes_(output()) && is_computed_tensor(output());
  }
  // Whether the first `activations` inputs are computed, and all others constants or absent.
  bool has_inputs(int activations) const;

  static bool is_known(int fused) { return fused >= abi::kNoActivation && fused <= abi::kRelu6; }
  // Whether strides and dilations are some.
  template <class Params>
  static bool steps(const Params& p) {
    return p.stride_height >= 1 && p.stride_width >= 1 && p.dilation_height >= 1 &&
           p.dilation_width >= 1;
  }
  bool is_window(const abi::PoolParams& p) const;

  // What the shapes of input and weight say; nothing where they do not fit together.
  std::optional<KernelShape> conv_kernel() const;
  std::optional<KernelShape> depthwise_kernel() const;
  std::optional<KernelShape> dense_kernel(const abi::FullyConnectedParams& p) const;
  // Of PAD, whose second input says how much; nothing where the engine has no such padding.
  std::optional<Pads> pads() const;
  // Whether MEAN is one over height and width.
  bool is_mean_of_image() const;
  // Whether CONCATENATION joins channels.
  bool joins_channels(const abi::ConcatenationParams& p) const;
  // Whether a constant has a number for each position, (1, H, W, 1), of the output.
  bool is_plane(const abi::Tensor& constant) const;

  // Adds an operator of `kind` for a node that only moves whole pixels of an image, or of a row
  // of them, (N, P, C).
  bool move(int code, const char* kind);

  void add(const char* kind, std::vector<int> ids);
  void add(const char* kind) { add(kind, {node_.inputs->data[0]}); }
  OpSpec& spec() { return graph_->nodes.back().spec; }
  // The attributes of a sliding window; SAME pads half before and the larger half behind.
  void set_window(int padding, int kernel_h, int kernel_w, int stride_h, int stride_w,
                  int dilation_h = 1, int dilation_w = 1);
  template <class Params>
  void set_kernel(const KernelShape& k, const Params& p) {
    set_window(p.padding, static_cast<int>(k.h), static_cast<int>(k.w), p.stride_height,
               p.stride_width, p.dilation_height, p.dilation_width);
    spec().ints["group"] = k.group;
  }
  void set_pool(const abi::PoolParams& p) {
    set_window(p.padding, p.filter_height, p.filter_width, p.stride_height, p.stride_width);
    spec().ints["kernel_h"] = p.filter_height, spec().ints["kernel_w"] = p.filter_width;
  }
  void set_pads(const Pads& p) {
    spec().ints = {
        {"pad_top", p.top}, {"pad_bottom", p.bottom}, {"pad_left", p.left}, {"pad_right", p.right}};
  }

  const abi::Context& context_;
  const Constants& constants_;
  const abi::Node& node_;
  Graph* graph_;

 private:
  // The position of the input that each one of the output holds; nothing where it computes, or
  // moves channels or images.
  std::optional<std::vector<int32_t>> sources(int code) const;
  std::optional<std::vector<int32_t>> resized(const abi::ResizeParams& p) const;
  std::optional<std::vector<int32_t>> gathered(const abi::GatherParams& p) const;
  std::optional<std::vector<int32_t>> sliced(const abi::StridedSliceParams& p) const;
  std::optional<std::vector<int32_t>> sliced() const;
  std::optional<std::vector<int32_t>> mirrored(const abi::MirrorPadParams& p) const;
  // From those along rows and columns.
  std::optional<std::vector<int32_t>> crossed(const std::vector<int32_t>& rows,
                                              const std::vector<int32_t>& columns) const;
  // Of a constant of int32 or int64; nothing where it is none of `count` numbers.
  std::optional<std::vector<int64_t>> integers(int i, int64_t count) const;

  bool (*takes_)(const abi::Tensor&);
};

// Whether the engine runs a node whose values are float32, or bytes; if so, adds it to the graph.
bool read_floats(const abi::Context& context, const Constants& constants, const abi::Node& node,
                 int code, Graph* graph);
bool read_bytes(const abi::Context& context, const Constants& constants, const abi::Node& node,
                int code, Graph* graph);

}  // namespace activsparse::litert
