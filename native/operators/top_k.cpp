// top_k: of every row along one axis the `count` largest (or smallest) elements in that order, or
// where in the row they are. Of equal ones the first comes first; NaN comes after all numbers.
//
// The views `x` and `y` have the other axes; along the one that is searched, x has `size` elements
// `x_step` apart, y `count` ones `y_step` apart.
#include <algorithm>
#include <cmath>

#include "operators/simple.h"
#include "operators/view_axes.h"

namespace activsparse::top_k {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 24;  // that float32 counts exactly

struct Header {
  ViewAxes axes;
  TensorDesc input, output;
  int64_t size, count, x_step, y_step;
  int32_t smallest, indices;

  // Why the rows are none; nullptr when they are.
  const char* fault() const {
    if (size < 1 || size > kMostElements || count < 1 || count > size)
      return "count must be 1 to size, and size at most 2^24";
    if (!stays_inside(0, count, y_step, output) || !stays_inside(1, size, x_step, input))
      return "a row leaves its tensor";
    return nullptr;
  }

 private:
  // Whether the last element of the last row is inside.
  bool stays_inside(int operand, int64_t length, int64_t step, const TensorDesc& tensor) const {
    if (step < 0 || step > INT32_MAX) return false;
    ViewAxes last = axes;
    last.offset[operand] += (length - 1) * step;
    return last.stays_inside(operand, tensor_extent(tensor));
  }
};

class TopK : public Operator {
 public:
  TopK(const BlobView& blob, const Kernels& kernels)
      : h_(unary_header<Header>(blob)), kernels_(kernels) {
    require_packed(h_.axes.sound() && h_.fault() == nullptr);
    for (int i = 0; i < h_.axes.rank; ++i) rows_ *= h_.axes.size[i];
    per_task_ = pixels_per_task(h_.size);
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override { return static_cast<int>(divide_up(rows_, per_task_)); }
  std::string kernel() const override { return kernels_.isa; }
  std::size_t scratch_bytes() const override { return sizeof(int32_t) * h_.size; }

  void run(const RunArgs& args, int, int begin, int end) const override {
    const ViewAxes& axes = h_.axes;
    const int64_t last = std::min(end * per_task_, rows_);
    for (int64_t row = begin * per_task_; row < last; ++row) {
      int64_t at[2] = {axes.offset[0], axes.offset[1]}, rest = row;
      for (int i = axes.rank - 1; i >= 0; --i) {
        for (int o = 0; o < 2; ++o) at[o] += rest % axes.size[i] * axes.stride[i][o];
        rest /= axes.size[i];
      }
      search(args.in(0) + at[1], args.out(0) + at[0], reinterpret_cast<int32_t*>(args.scratch));
    }
  }

 private:
  void search(const float* in, float* out, int32_t* order) const {
    const auto value = [&](int32_t i) { return in[i * h_.x_step]; };
    // Whether an element comes before another one that stands behind it in the row.
    const auto wins = [&](float a, float b) {
      return (h_.smallest ? a < b : a > b) || (b != b && a == a);
    };
    const auto write = [&](int64_t k, int32_t i) {
      out[k * h_.y_step] = h_.indices ? static_cast<float>(i) : value(i);
    };
    const auto size = static_cast<int32_t>(h_.size);
    if (h_.count == 1) {
      int32_t best = 0;
      for (int32_t i = 1; i < size; ++i)
        if (wins(value(i), value(best))) best = i;
      write(0, best);
      return;
    }
    for (int32_t i = 0; i < size; ++i) order[i] = i;
    std::partial_sort(order, order + h_.count, order + size, [&](int32_t a, int32_t b) {
      const float x = value(a), y = value(b);
      return wins(x, y) || (a < b && !wins(y, x));
    });
    for (int64_t k = 0; k < h_.count; ++k) write(k, order[k]);
  }

  const Header& h_;
  const Kernels& kernels_;
  int64_t rows_ = 1, per_task_;
};

Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  Header h{};
  h.input = spec.inputs[0];
  h.output = spec.outputs[0];
  h.size = spec.int_or("size", 0);
  h.count = spec.int_or("count", 1);
  h.x_step = spec.int_or("x_step", 1);
  h.y_step = spec.int_or("y_step", 1);
  h.smallest = spec.int_or("smallest", 0) != 0;
  h.indices = spec.int_or("indices", 0) != 0;
  h.axes = ViewAxes::of(spec, {"x"}, {});
  if (const char* fault = h.fault()) require(spec, false, fault);
  return pack_header(h);
}

std::string any_layout(const OpSpec&, Isa) { return ""; }

}  // namespace

std::vector<OperatorType> types() { return simple_types<TopK>("top_k", pack, any_layout); }

}  // namespace activsparse::top_k
