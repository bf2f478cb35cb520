// Nodes that only move whole pixels: which position of the input each one of the output holds.
#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "integrations/litert/moves.h"
#include "integrations/litert/node_reader.h"

namespace activsparse::litert {
namespace {

using Sources = std::vector<int32_t>;

constexpr int64_t kMostPositions = int64_t{1} << 26;

Sources every(int32_t size) {
  Sources all(size);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// Of `outputs` steps from `begin` on; nothing where one of them is beyond the `size` inputs.
std::optional<Sources> stepped(int64_t begin, int64_t stride, int32_t size, int32_t outputs) {
  const int64_t last = begin + (outputs - 1) * stride;
  if (std::min(begin, last) < 0 || std::max(begin, last) >= size) return {};
  Sources from(outputs);
  for (int32_t i = 0; i < outputs; ++i) from[i] = static_cast<int32_t>(begin + i * stride);
  return from;
}

// Where a slice begins, as Python has it: negative ones count from the end.
int64_t first_of(int64_t begin, bool open, int64_t stride, int64_t size) {
  if (open) return stride > 0 ? 0 : size - 1;
  if (begin < 0) begin += size;
  return stride > 0 ? std::clamp<int64_t>(begin, 0, size)
                    : std::clamp<int64_t>(begin, -1, size - 1);
}

// `size` inputs between mirrors, which repeat the border or leave it out.
std::optional<Sources> between_mirrors(int64_t before, int64_t behind, int32_t size,
                                       bool repeated) {
  if (std::max(before, behind) > size - (repeated ? 0 : 1)) return {};
  Sources from(before + size + behind);
  for (int64_t i = 0; i < static_cast<int64_t>(from.size()); ++i) {
    int64_t at = i - before;
    if (at < 0) at = -at - (repeated ? 1 : 0);
    if (at >= size) at = 2 * int64_t{size} - at - (repeated ? 1 : 2);
    from[i] = static_cast<int32_t>(at);
  }
  return from;
}

}  // namespace

std::optional<std::vector<int64_t>> NodeReader::integers(int i, int64_t count) const {
  if (!given(i) || !is_constant(i)) return {};
  const abi::Tensor& t = input(i);
  if (t.dims == nullptr || t.data == nullptr || elements(t) != count) return {};
  if (t.type == abi::kInt32) {
    const auto* from = static_cast<const int32_t*>(t.data);
    return std::vector<int64_t>(from, from + count);
  }
  if (t.type != abi::kInt64) return {};
  const auto* from = static_cast<const int64_t*>(t.data);
  return std::vector<int64_t>(from, from + count);
}

bool NodeReader::move(int code, const char* kind) {
  if (!has_inputs(1)) return false;
  const Shape in = shape_of(input(0)), out = shape_of(output());
  if (in.n != out.n || in.c != out.c || int64_t{in.h} * in.w > kMostPositions ||
      int64_t{out.h} * out.w > kMostPositions)
    return false;
  std::optional<Sources> from = sources(code);
  if (!from) return false;
  if (!graph_) return true;
  add(kind);
  const auto count = static_cast<int64_t>(from->size());
  spec().arrays["source"] = graph_->keep(std::move(*from), {count});
  return true;
}

std::optional<Sources> NodeReader::sources(int code) const {
  const Shape in = shape_of(input(0)), out = shape_of(output());
  const int rank = input(0).dims->size;
  if (code == abi::kReshape) {
    if (in.h * in.w != out.h * out.w) return {};
    return every(in.h * in.w);
  }
  if (rank < 3 || output().dims->size != rank) return {};
  switch (code) {
    case abi::kGather:
      return gathered(*params<abi::GatherParams>());
    case abi::kStridedSlice:
      return sliced(*params<abi::StridedSliceParams>());
    case abi::kSlice:
      return sliced();
    case abi::kResizeNearest:
      return resized(*params<abi::ResizeParams>());
    case abi::kMirrorPad:
      return mirrored(*params<abi::MirrorPadParams>());
  }
  return {};
}

std::optional<Sources> NodeReader::crossed(const Sources& rows, const Sources& columns) const {
  const Shape in = shape_of(input(0)), out = shape_of(output());
  if (static_cast<int64_t>(rows.size()) != out.h || static_cast<int64_t>(columns.size()) != out.w)
    return {};
  Sources from;
  from.reserve(rows.size() * columns.size());
  for (const int32_t y : rows)
    for (const int32_t x : columns) from.push_back(y * in.w + x);
  return from;
}

std::optional<Sources> NodeReader::gathered(const abi::GatherParams& p) const {
  const Shape in = shape_of(input(0)), out = shape_of(output());
  const int rank = input(0).dims->size, axis = p.axis < 0 ? p.axis + rank : p.axis;
  if (p.batch_dims != 0 || axis < 1 || axis > rank - 2) return {};
  const bool of_rows = rank == 4 && axis == 1;
  const int32_t size = of_rows ? in.h : in.w;
  const auto given = integers(1, of_rows ? out.h : out.w);
  if (!given) return {};
  for (const int64_t i : *given)
    if (i < 0 || i >= size) return {};
  const Sources chosen(given->begin(), given->end());
  return of_rows ? crossed(chosen, every(in.w)) : crossed(every(in.h), chosen);
}

std::optional<Sources> NodeReader::sliced(const abi::StridedSliceParams& p) const {
  const int rank = input(0).dims->size;
  if (p.ellipsis_mask || p.new_axis_mask || p.shrink_axis_mask || p.offset) return {};
  const auto begins = integers(1, rank), strides = integers(3, rank);
  if (!begins || !strides || !integers(2, rank)) return {};
  std::vector<Sources> axes;
  for (int i = 0; i < rank; ++i) {
    const int32_t size = input(0).dims->data[i], outputs = output().dims->data[i];
    const int64_t stride = (*strides)[i];
    if (stride == 0 || std::abs(stride) > size) return {};
    const int64_t begin = first_of((*begins)[i], (p.begin_mask >> i & 1) != 0, stride, size);
    // Images and channels stay as they are: as many of them, and in order.
    if ((i == 0 || i == rank - 1) && (stride != 1 || begin != 0)) return {};
    std::optional<Sources> from = stepped(begin, stride, size, outputs);
    if (!from) return {};
    axes.push_back(std::move(*from));
  }
  return crossed(rank == 4 ? axes[1] : every(1), axes[rank - 2]);
}

std::optional<Sources> NodeReader::sliced() const {
  const int rank = input(0).dims->size;
  const auto begins = integers(1, rank);
  if (!begins || !integers(2, rank) || (*begins)[0] != 0 || (*begins)[rank - 1] != 0) return {};
  std::vector<Sources> axes;
  for (int i = 1; i < rank - 1; ++i) {
    const int32_t size = input(0).dims->data[i], outputs = output().dims->data[i];
    if ((*begins)[i] < 0 || (*begins)[i] >= size) return {};
    std::optional<Sources> from = stepped((*begins)[i], 1, size, outputs);
    if (!from) return {};
    axes.push_back(std::move(*from));
  }
  return crossed(rank == 4 ? axes[0] : every(1), axes[rank - 3]);
}

std::optional<Sources> NodeReader::resized(const abi::ResizeParams& p) const {
  const Shape in = shape_of(input(0)), out = shape_of(output());
  if (input(0).dims->size != 4 || !integers(1, 2)) return {};
  return crossed(nearest(in.h, out.h, p.align_corners, p.half_pixel_centers),
                 nearest(in.w, out.w, p.align_corners, p.half_pixel_centers));
}

std::optional<Sources> NodeReader::mirrored(const abi::MirrorPadParams& p) const {
  const Shape in = shape_of(input(0));
  const std::optional<Pads> pads = this->pads();
  if (!pads || pads->channels > 0 || (p.mode != abi::kReflect && p.mode != abi::kSymmetric))
    return {};
  const bool repeated = p.mode == abi::kSymmetric;
  const auto rows = between_mirrors(pads->top, pads->bottom, in.h, repeated);
  const auto columns = between_mirrors(pads->left, pads->right, in.w, repeated);
  if (!rows || !columns) return {};
  return crossed(*rows, *columns);
}

}  // namespace activsparse::litert
