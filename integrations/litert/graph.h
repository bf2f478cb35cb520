// The part of a model that the delegate has claimed, as operators of this engine
// (docs/operators.md). Values are known by their numbers in the runtime; all are images (N, H, W,
// C), vectors (N, F) being those of one pixel.
#pragma once
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "integrations/litert/abi.h"
#include "integrations/litert/constants.h"
#include "integrations/litert/quantised.h"
#include "operators/operator.h"

namespace activsparse::litert {

// A convolution of no more input channels may be read from planes, which stems do.
inline constexpr int32_t kStemChannels = 4;
// Channels of an image of which a pixel of bytes is one quad.
inline constexpr int32_t kQuad = 4;

struct Shape {
  int32_t n, h, w, c;
  bool operator==(const Shape& o) const { return n == o.n && h == o.h && w == o.w && c == o.c; }
};

// An operator: its spec has attributes and arrays, its tensors follow when memory is laid out.
// Beside the engine's own kinds there are `pad` (by zeros), `pad_least`, and of bytes `pad_u8` and
// `mask_u8`, which `fuse` removes.
struct Node {
  OpSpec spec;
  std::vector<int> inputs;
  int output;

  bool is(const char* kind) const { return spec.kind == kind; }
  bool activates() const { return spec.string_or("activation", "none") != "none"; }
  void take_activation(const Node& from);  // if it has one
  bool keeps_zero() const;                 // whether its activation maps zero to zero
  // Whether no window of a pooling lies in the padding alone, which the engine has no result for.
  bool has_windows_inside() const;
};

struct Graph {
  std::vector<Node> nodes;  // in execution order
  std::vector<int> inputs, outputs;
  std::map<int, Shape> shapes;
  std::map<int, Bytes> bytes;  // of values that are no float32 numbers

  // A value of the engine's own, like another one.
  int value_like(int value);

  // Arrays that live as long as the graph; specs point at them.
  ArrayView keep(std::vector<float> values, std::vector<int64_t> shape);
  ArrayView keep(std::vector<uint8_t> values, std::vector<int64_t> shape);
  ArrayView keep(std::vector<int8_t> values, std::vector<int64_t> shape);
  ArrayView keep(std::vector<int32_t> values, std::vector<int64_t> shape);

  bool is_input(int value) const;
  bool is_output(int value) const;
  const Node* producer(int value) const;
  // The node that alone reads `value`, as an index; -1 if there are more or none, or it is an
  // output.
  int only_consumer(int value) const;

 private:
  std::deque<std::vector<float>> floats_;
  std::deque<std::vector<uint8_t>> bytes_;
  std::deque<std::vector<int8_t>> weights_;
  std::deque<std::vector<int32_t>> integers_;
  int own_values_ = 0;
};

// Whether the engine runs a node of the runtime; if so, and there is a graph, adds it there.
// Sparse and dynamic tensors are not for this engine.
bool read_node(const abi::Context& context, const Constants& constants, const abi::Node& node,
               int code, Graph* graph);

// Lets bytes that come from the runtime, or go there, be the engine's between; and, when all is
// fused, the images among them bring their padding along.
void move_borders(Graph& graph);
void frame_images(Graph& graph);
// Merges padding, masks, factors, residual additions and activations into the operators before or
// behind them, tells every convolution where its input is known to be zero, leaves bytes unwritten
// that all readers know, and joins depthwise convolutions with the 1x1 convolutions around them
// where that pays.
void fuse(Graph& graph);
void find_zeros(Graph& graph);
void leave_unwritten(Graph& graph);
void join(Graph& graph);

}  // namespace activsparse::litert
