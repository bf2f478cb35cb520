#include "integrations/litert/node_reader.h"

#include <algorithm>

namespace activsparse::litert {

bool is_computed_tensor(const abi::Tensor& t) {
  if (t.dims == nullptr || is_stored(t) || t.is_variable || t.allocation_type != abi::kArena)
    return false;
  if (t.dims->size < 2 || t.dims->size > 4) return false;
  for (int i = 0; i < t.dims->size; ++i)
    if (t.dims->data[i] < 1) return false;
  for (int i = 0; t.dims_signature && i < t.dims_signature->size; ++i)
    if (t.dims_signature->data[i] < 0) return false;
  return true;
}

Shape shape_of(const abi::Tensor& t) {
  const int* d = t.dims->data;
  if (t.dims->size == 4) return {d[0], d[1], d[2], d[3]};
  return t.dims->size == 3 ? Shape{d[0], 1, d[1], d[2]} : Shape{d[0], 1, 1, d[1]};
}

bool NodeReader::has_inputs(int activations) const {
  for (int i = 0; i < node_.inputs->size; ++i) {
    const int id = node_.inputs->data[i];
    if (i < activations ? id < 0 || !is_computed(i) : id >= 0 && !is_constant(i)) return false;
  }
  return node_.inputs->size >= activations;
}

bool NodeReader::is_window(const abi::PoolParams& p) const {
  if (!is_known(p.activation) || input(0).dims->size != 4) return false;
  for (const int size : {p.filter_height, p.filter_width, p.stride_height, p.stride_width})
    if (size < 1) return false;
  return true;
}

namespace {

// The sizes of a weight of this rank, if they are some.
const int* sizes_of(const abi::Tensor& weight, int rank) {
  if (weight.dims == nullptr || weight.dims->size != rank) return nullptr;
  const int* sizes = weight.dims->data;
  return std::all_of(sizes, sizes + rank, [](int size) { return size >= 1; }) ? sizes : nullptr;
}

}  // namespace

std::optional<KernelShape> NodeReader::conv_kernel() const {
  const int* d = given(1) ? sizes_of(input(1), 4) : nullptr;
  if (d == nullptr) return {};
  const int64_t channels = shape_of(input(0)).c, group = channels / d[3];
  if (group < 1 || group * d[3] != channels || d[0] % group != 0) return {};
  return KernelShape{d[0], d[3], d[1], d[2], group, false};
}

std::optional<KernelShape> NodeReader::depthwise_kernel() const {
  const int* d = given(1) ? sizes_of(input(1), 4) : nullptr;
  if (d == nullptr) return {};
  const int64_t channels = shape_of(input(0)).c;
  if (d[0] != 1 || d[3] % channels != 0) return {};
  return KernelShape{d[3], 1, d[1], d[2], channels, true};
}

std::optional<KernelShape> NodeReader::dense_kernel(const abi::FullyConnectedParams& p) const {
  const int* d = given(1) ? sizes_of(input(1), 2) : nullptr;
  if (d == nullptr || p.weights_format != 0) return {};
  const Shape x = shape_of(input(0)), y = shape_of(output());
  if (x.h != 1 || x.w != 1 || x.c != d[1] || !(y == Shape{x.n, 1, 1, d[0]})) return {};
  return KernelShape{d[0], d[1], 1, 1, 1, false};
}

std::optional<Pads> NodeReader::pads() const {
  const std::optional<std::vector<int64_t>> amounts = integers(1, 8);
  if (input(0).dims->size != 4 || !amounts) return {};
  const std::vector<int64_t>& pads = *amounts;
  if (pads[0] || pads[1] || pads[6] || *std::min_element(pads.begin(), pads.end()) < 0) return {};
  if (pads[7] > 0 && std::any_of(pads.begin(), pads.begin() + 6, [](int64_t p) { return p > 0; }))
    return {};
  return Pads{pads[2], pads[3], pads[4], pads[5], pads[7]};
}

bool NodeReader::is_mean_of_image() const {
  if (node_.inputs->size != 2 || input(0).dims->size != 4) return false;
  const abi::Tensor& axes = input(1);
  if (axes.type != abi::kInt32 || axes.dims == nullptr || elements(axes) != 2) return false;
  const auto* axis = static_cast<const int32_t*>(axes.data);
  const int first = (axis[0] + 4) % 4, second = (axis[1] + 4) % 4;
  if (std::min(first, second) != 1 || std::max(first, second) != 2) return false;
  const Shape x = shape_of(input(0));
  return shape_of(output()) == Shape{x.n, 1, 1, x.c};
}

bool NodeReader::joins_channels(const abi::ConcatenationParams& p) const {
  const int rank = output().dims->size;
  return p.activation == abi::kNoActivation && (p.axis + rank) % rank == rank - 1 &&
         has_inputs(node_.inputs->size);
}

bool NodeReader::is_plane(const abi::Tensor& constant) const {
  const Shape y = shape_of(output());
  if (output().dims->size != 4 || constant.dims->size > 4) return false;
  int64_t sizes[] = {1, 1, 1, 1};
  for (int i = 0; i < constant.dims->size; ++i)
    sizes[4 - constant.dims->size + i] = constant.dims->data[i];
  return sizes[0] == 1 && sizes[1] == y.h && sizes[2] == y.w && sizes[3] == 1;
}

void NodeReader::add(const char* kind, std::vector<int> ids) {
  Node made{{}, {}, node_.outputs->data[0]};
  made.spec.kind = kind;
  std::vector<int> values = ids;
  values.push_back(made.output);
  for (int id : values) {
    graph_->shapes[id] = shape_of(tensor(id));
    if (const std::optional<Bytes> bytes = bytes_of(tensor(id))) graph_->bytes[id] = *bytes;
  }
  made.inputs = std::move(ids);
  graph_->nodes.push_back(std::move(made));
}

void NodeReader::set_window(int padding, int kernel_h, int kernel_w, int stride_h, int stride_w,
                            int dilation_h, int dilation_w) {
  const Shape in = shape_of(input(0)), out = shape_of(output());
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

bool read_node(const abi::Context& context, const Constants& constants, const abi::Node& node,
               int code, Graph* graph) {
  return read_floats(context, constants, node, code, graph) ||
         read_bytes(context, constants, node, code, graph);
}

}  // namespace activsparse::litert
