#include "operators/view_axes.h"

#include <algorithm>

#include "operators/simple.h"

namespace activsparse {
namespace {

constexpr int64_t kShort = 8;
constexpr int64_t kMostElements = int64_t{1} << 50;  // all axes together

const int32_t* strides_of(const OpSpec& spec, const std::string& name, int64_t rank) {
  const ArrayView* strides = spec.array((name + "_strides").c_str());
  require(spec, strides && strides->dtype == 'i' && strides->size() == rank,
          name + "_strides must be an int32 array with one value per axis");
  return static_cast<const int32_t*>(strides->data);
}

void add_view(ViewAxes& axes, const OpSpec& spec, const std::string& name, int operand,
              const TensorDesc& tensor) {
  const int32_t* strides = strides_of(spec, name, axes.rank);
  const int64_t offset = spec.int_or((name + "_offset").c_str(), 0);
  axes.offset[operand] = offset;
  for (int i = 0; i < axes.rank; ++i) {
    require(spec, strides[i] >= 0, name + "_strides must not be negative");
    axes.stride[i][operand] = axes.size[i] == 1 ? 0 : strides[i];
  }
  require(spec, axes.stays_inside(operand, tensor_extent(tensor)),
          "view " + name + " leaves its tensor");
}

void add_table(ViewAxes& axes, const OpSpec& spec, const ArrayView& table, int operand) {
  require(spec, table.dtype == 'f' && static_cast<int>(table.shape.size()) == axes.rank,
          "a table must be float32 and have the views' rank");
  int64_t stride = 1;
  for (int i = axes.rank - 1; i >= 0; --i) {
    require(spec, table.shape[i] == 1 || table.shape[i] == axes.size[i],
            "a table does not fit the views' shape");
    axes.stride[i][operand] = table.shape[i] == 1 ? 0 : stride;
    stride *= table.shape[i];
  }
}

}  // namespace

bool ViewAxes::sound() const {
  if (rank < 1 || rank > kViewAxes) return false;
  int64_t elements = 1;
  for (int i = 0; i < rank; ++i) {
    if (size[i] < 1 || size[i] > kMostElements / elements) return false;
    elements *= size[i];
  }
  return true;
}

bool ViewAxes::stays_inside(int operand, int64_t floats) const {
  int64_t last = offset[operand];
  if (last < 0 || last >= floats) return false;
  for (int i = 0; i < rank; ++i) {
    const int64_t step = stride[i][operand];
    if (step < 0 || (step > 0 && size[i] - 1 > (floats - 1 - last) / step)) return false;
    last += (size[i] - 1) * step;
  }
  return true;
}

ViewAxes ViewAxes::read(const OpSpec& spec, std::initializer_list<const char*> inputs,
                        std::initializer_list<const ArrayView*> tables) {
  const ArrayView* shape = spec.array("shape");
  require(spec, shape && shape->dtype == 'i' && shape->size() >= 1 && shape->size() <= kViewAxes,
          "shape must be an int32 array of at most " + std::to_string(kViewAxes) + " axes");
  ViewAxes axes;
  axes.rank = static_cast<int32_t>(shape->size());
  for (int i = 0; i < axes.rank; ++i) {
    axes.size[i] = static_cast<const int32_t*>(shape->data)[i];
    require(spec, axes.size[i] >= 1, "an axis is empty");
  }
  require(spec, axes.sound(), "the views have too many elements");
  add_view(axes, spec, "y", 0, spec.outputs[0]);
  int operand = 1;
  for (const char* name : inputs) {
    add_view(axes, spec, name, operand, spec.inputs[operand - 1]);
    ++operand;
  }
  for (const ArrayView* table : tables) {
    if (table) add_table(axes, spec, *table, operand);
    ++operand;
  }
  return axes;
}

ViewAxes ViewAxes::of(const OpSpec& spec, std::initializer_list<const char*> inputs,
                      std::initializer_list<const ArrayView*> tables, int kept) {
  ViewAxes axes = read(spec, inputs, tables);
  require(spec, kept >= -1 && kept < axes.rank, "there is no such axis");
  if (kept >= 0) axes.move_last(kept);
  axes.merge(kept >= 0 ? axes.rank - 1 : axes.rank);
  return axes;
}

// Merges axes 0..last, those behind stay as they are.
void ViewAxes::merge(int last) {
  for (int i = 1; i < last; ++i)  // insertion sort by the output's strides, the largest first
    for (int j = i; j > 0 && stride[j][0] > stride[j - 1][0]; --j) {
      std::swap(size[j], size[j - 1]);
      std::swap(stride[j], stride[j - 1]);
    }
  int to = 0;
  const auto move = [&](int from, int target) {
    size[target] = size[from];
    std::copy_n(stride[from], kViewOperands, stride[target]);
  };
  for (int i = 0; i < last; ++i) {
    if (size[i] == 1) continue;
    bool joins = to > 0;
    for (int o = 0; o < kViewOperands && joins; ++o)
      joins = stride[to - 1][o] == stride[i][o] * size[i];
    if (joins) {
      size[to - 1] *= size[i];
      std::copy_n(stride[i], kViewOperands, stride[to - 1]);
    } else {
      move(i, to++);
    }
  }
  for (int i = last; i < rank; ++i) move(i, to++);
  rank = to;
  if (rank == 0) {  // a single element
    rank = 1;
    size[0] = 1;
    std::fill_n(stride[0], kViewOperands, 0);
  }
}

void ViewAxes::move_last(int axis) {
  std::rotate(size + axis, size + axis + 1, size + rank);
  for (int i = axis; i + 1 < rank; ++i) std::swap(stride[i], stride[i + 1]);
}

void ViewAxes::choose_row() {
  int best = rank - 1;
  for (int i = 0; i < rank; ++i) {
    if (stride[i][0] == 1 && size[i] >= kShort) {
      best = i;
      break;
    }
    if (size[i] >= size[best]) best = i;  // of equal ones that which writes closest together
  }
  move_last(best);
}

void ViewAxes::choose_kept_row(int kept) {
  for (int i = 0; i + 1 < kept; ++i)
    if (stride[i][1] == 1) {
      std::swap(size[i], size[kept - 1]);
      std::swap(stride[i], stride[kept - 1]);
      return;
    }
}

bool ViewAxes::to_matrix() {
  int in = -1, out = -1;
  for (int i = 0; i < rank; ++i) {
    if (stride[i][1] == 1 && size[i] >= kShort) in = i;
    if (stride[i][0] == 1 && size[i] >= kShort) out = i;
  }
  if (in < 0 || out < 0 || in == out) return false;
  move_last(out);
  move_last(in < out ? in : in - 1);
  return true;
}

}  // namespace activsparse
