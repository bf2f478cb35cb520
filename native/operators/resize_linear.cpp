// resize_linear: every output pixel is a weighted sum of the four input pixels around it,
//
//   y = r0 (c0 a + c1 b) + r1 (c0 c + c1 d),
//
// with rows (r) and columns (c) that the compiler lists for each output row and column. Channels
// are contiguous, the loop over them is the compiler's to vectorise: five streams a pixel, so that
// memory is what it waits for.
#include "operators/simple.h"

namespace activsparse::resize_linear {
namespace {

struct Header {
  Epilogue epilogue;
  TensorDesc input, output;
  uint64_t rows, row_weights, columns, column_weights;
};

// Of an axis: the two input coordinates of each output coordinate, and their weights.
struct Axis {
  const int32_t* first;
  const int32_t* second;
  const float* first_weight;
  const float* second_weight;
};

bool coordinates_lie_inside(const int32_t* at, int64_t count, int32_t size) {
  return std::all_of(at, at + count, [size](int32_t i) { return i >= 0 && i < size; });
}

Axis axis_of(const BlobView& blob, uint64_t at, uint64_t weights, int32_t out, int32_t in) {
  const int32_t* first = blob.array<int32_t>(at, 2 * int64_t{out});
  const float* weight = blob.array<float>(weights, 2 * int64_t{out});
  require_packed(coordinates_lie_inside(first, 2 * int64_t{out}, in));
  return {first, first + out, weight, weight + out};
}

class ResizeLinear : public Operator {
 public:
  ResizeLinear(const BlobView& blob, const Kernels& kernels)
      : h_(unary_header<Header>(blob)), kernels_(kernels), per_task_(pixels_per_task(h_.output.c)) {
    const TensorDesc &in = h_.input, &out = h_.output;
    require_packed(h_.epilogue);
    require_packed(!in.nchw && !out.nchw && in.n == out.n && in.c == out.c);
    rows_ = axis_of(blob, h_.rows, h_.row_weights, out.h, in.h);
    columns_ = axis_of(blob, h_.columns, h_.column_weights, out.w, in.w);
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override {
    return static_cast<int>(divide_up(h_.output.pixels(), per_task_));
  }
  std::string kernel() const override { return kernels_.isa; }
  std::size_t index_bytes() const override {
    return 2 * (sizeof(int32_t) + sizeof(float)) * (std::size_t{0} + h_.output.h + h_.output.w);
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    const int64_t last = std::min(end * per_task_, h_.output.pixels());
    const int64_t width = h_.output.w, positions = h_.output.h * width;
    for (int64_t pixel = begin * per_task_; pixel < last; ++pixel) {
      const int64_t image = pixel / positions, position = pixel - image * positions;
      const int64_t y = position / width, x = position % width;
      const float* in = args.in(0) + image * h_.input.h * h_.input.w * h_.input.stride;
      float* out = args.out(0) + pixel * h_.output.stride;
      blend(in, y, x, out);
      if (h_.epilogue.activation != Activation::kNone)
        kernels_.activate_f32.run(out, out, h_.output.c, h_.epilogue);
    }
  }

 private:
  void blend(const float* in, int64_t y, int64_t x, float* out) const {
    const auto at = [&](int32_t row, int32_t column) {
      return in + (int64_t{row} * h_.input.w + column) * h_.input.stride;
    };
    const float* a = at(rows_.first[y], columns_.first[x]);
    const float* b = at(rows_.first[y], columns_.second[x]);
    const float* c = at(rows_.second[y], columns_.first[x]);
    const float* d = at(rows_.second[y], columns_.second[x]);
    const float wa = rows_.first_weight[y] * columns_.first_weight[x];
    const float wb = rows_.first_weight[y] * columns_.second_weight[x];
    const float wc = rows_.second_weight[y] * columns_.first_weight[x];
    const float wd = rows_.second_weight[y] * columns_.second_weight[x];
    for (int32_t i = 0; i < h_.output.c; ++i)
      out[i] = (wa * a[i] + wb * b[i]) + (wc * c[i] + wd * d[i]);
  }

  const Header& h_;
  const Kernels& kernels_;
  const int64_t per_task_;
  Axis rows_, columns_;
};

// Packs `<name>` (2, out) i32 and `<name>_weights` (2, out) f32 of an axis.
void pack_axis(const OpSpec& spec, const std::string& name, int32_t out, int32_t in,
               BlobWriter& writer, uint64_t* at, uint64_t* weights) {
  const ArrayView* places = spec.array(name.c_str());
  const ArrayView* shares = spec.array((name + "_weights").c_str());
  const int64_t count = 2 * int64_t{out};
  require(spec, places && places->dtype == 'i' && places->size() == count,
          name + " must be an int32 array (2, output size)");
  require(spec, shares && shares->dtype == 'f' && shares->size() == count,
          name + "_weights must be a float32 array (2, output size)");
  const auto* coordinates = static_cast<const int32_t*>(places->data);
  require(spec, coordinates_lie_inside(coordinates, count, in),
          name + " names a coordinate outside of the input");
  *at = writer.append(coordinates, count);
  *weights = writer.append(static_cast<const float*>(shares->data), count);
}

Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  Header h{};
  h.epilogue = epilogue_of(spec);
  h.input = spec.inputs[0];
  h.output = spec.outputs[0];
  require(spec, h.input.n == h.output.n && h.input.c == h.output.c,
          "input and output differ in images or channels");
  BlobWriter writer;
  writer.append<Header>(1);
  pack_axis(spec, "rows", h.output.h, h.input.h, writer, &h.rows, &h.row_weights);
  pack_axis(spec, "columns", h.output.w, h.input.w, writer, &h.columns, &h.column_weights);
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() { return simple_types<ResizeLinear>("resize_linear", pack); }

}  // namespace activsparse::resize_linear
