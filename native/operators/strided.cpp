// map, combine and softmax_axis: element-wise work on views of any rank. A view names an element of
// a tensor by one index and one stride per axis, so transposed, sliced and reshaped tensors are
// read, and parts of concatenations written, where they lie.
//
//   map:          y[i] = activation(x[i] * scale[i] + shift[i])
//   combine:      y[i] = activation(a[i] op b[i]); the minimum and the maximum of NaN and a number
//                 are NaN; comparisons give 1 or 0, and `select`, of three views, b[i] where a[i]
//                 is not 0, else c[i]
//   softmax_axis: softmax along one axis
#include <array>

#include "operators/simple.h"
#include "operators/view_axes.h"

namespace activsparse::strided {
namespace {

enum class Function : int32_t {
  kCopy,
  kAffine,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kMinimum,
  kMaximum,
  kEqual,
  kGreater,
  kGreaterEqual,
  kSelect,
  kSoftmax
};

struct Header {
  Function function;
  Epilogue epilogue;
  ViewAxes axes;
  TensorDesc output, input[3];
  int32_t transposed;  // the last two axes are a matrix, transposed block by block
  uint64_t tables[2];  // kAffine: scale and shift
  uint64_t table_sizes[2];
};

int inputs_of(Function function) {
  if (function == Function::kSelect) return 3;
  return function >= Function::kAdd && function < Function::kSelect ? 2 : 1;
}

void set_tensors(Header& header, const OpSpec& spec) {
  header.output = spec.outputs[0];
  std::copy(spec.inputs.begin(), spec.inputs.end(), header.input);
}

constexpr int64_t kChunk = 512;   // elements gathered at once, where a row is not contiguous
constexpr int64_t kPiece = 1024;  // elements of a row that tasks do not divide
constexpr int64_t kTile = 16;     // rows of a transposed block

// Functions of which the kernels take many rows at once, and one number for a row.
bool takes_rows(Function function) {
  return function == Function::kAdd || function == Function::kSubtract ||
         function == Function::kMultiply;
}

class Strided : public Operator {
 public:
  Strided(const BlobView& blob, const Kernels& kernels)
      : h_(blob.header<Header>()), kernels_(kernels) {
    check();
    if (h_.function == Function::kAffine)
      for (int i = 0; i < 2; ++i) {
        tables_[i] = blob.array<float>(h_.tables[i], h_.table_sizes[i]);
        require_packed(h_.axes.stays_inside(2 + i, static_cast<int64_t>(h_.table_sizes[i])));
      }
    const int inner = h_.transposed ? 2 : 1;
    int64_t work = 1;
    for (int i = 0; i < h_.axes.rank; ++i) {
      const int64_t size = h_.axes.size[i];
      (i < h_.axes.rank - inner ? rows_ : work) *= size;
    }
    const bool whole_rows = h_.transposed || h_.function == Function::kSoftmax;
    pieces_ = whole_rows ? 1 : std::max<int64_t>(1, divide_up(work, kPiece));
    per_task_ = pixels_per_task(divide_up(work, pieces_));
    const int64_t* const lanes = last_stride();
    many_rows_ = takes_rows(h_.function) && h_.axes.rank >= 2 && pieces_ == 1 && lanes[0] == 1 &&
                 lanes[1] == 1 && (lanes[2] == 0 || lanes[2] == 1);
  }
  std::vector<TensorDesc> inputs() const override {
    return {h_.input, h_.input + inputs_of(h_.function)};
  }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override { return static_cast<int>(divide_up(rows_ * pieces_, per_task_)); }
  std::string kernel() const override { return kernels_.isa; }
  std::size_t scratch_bytes() const override {
    const int64_t row = h_.function == Function::kSoftmax ? last_size() : kChunk;
    return sizeof(float) * kViewOperands * (row + 16);
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    std::array<const float*, kViewOperands> base{};
    base[1] = args.in(0);
    const int inputs = inputs_of(h_.function);
    base[2] = inputs > 1 ? args.in(1) : tables_[0];
    base[3] = inputs > 2 ? args.in(2) : tables_[1];
    const int64_t last = std::min(end * per_task_, rows_ * pieces_);
    int64_t stop;
    for (int64_t piece = begin * per_task_; piece < last; piece = stop) {
      const int64_t row = piece / pieces_, first = row * pieces_;
      stop = std::min(first + pieces_, last);
      int64_t at[kViewOperands];
      std::copy_n(h_.axes.offset, kViewOperands, at);
      int64_t rest = row;
      int64_t below = 1;  // rows to the end of the axis before the last
      for (int i = h_.axes.rank - (h_.transposed ? 3 : 2); i >= 0; --i) {
        if (i == h_.axes.rank - 2) below = h_.axes.size[i] - rest % h_.axes.size[i];
        const int64_t index = rest % h_.axes.size[i];
        rest /= h_.axes.size[i];
        for (int o = 0; o < kViewOperands; ++o) at[o] += index * h_.axes.stride[i][o];
      }
      Row r{args.out(0) + at[0], {}, reinterpret_cast<float*>(args.scratch)};
      for (int o = 1; o < kViewOperands; ++o) r.in[o] = base[o] ? base[o] + at[o] : nullptr;
      if (many_rows_) {
        const int64_t count = std::min(below, last - piece);
        rows_of(r, count);
        stop = piece + count;
      } else if (h_.transposed)
        transpose(r);
      else if (h_.function == Function::kSoftmax)
        softmax(r);
      else
        elements(r, (piece - first) * kPiece, std::min((stop - first) * kPiece, last_size()));
    }
  }

 private:
  struct Row {
    float* out;
    const float* in[kViewOperands];
    float* scratch;
  };
  void check() const {
    const ViewAxes& axes = h_.axes;
    require_packed(h_.function >= Function::kCopy && h_.function <= Function::kSoftmax);
    require_packed(h_.epilogue);
    require_packed(h_.output);
    require_packed(axes.sound() && axes.stays_inside(0, tensor_extent(h_.output)));
    for (int i = 0; i < inputs_of(h_.function); ++i) {
      require_packed(h_.input[i]);
      require_packed(axes.stays_inside(1 + i, tensor_extent(h_.input[i])));
    }
    if (!h_.transposed) return;
    require_packed(h_.function == Function::kCopy && axes.rank >= 2 &&
                   axes.stride[axes.rank - 1][1] == 1 && axes.stride[axes.rank - 2][0] == 1);
  }
  int64_t last_size() const { return h_.axes.size[h_.axes.rank - 1]; }
  const int64_t* last_stride() const { return h_.axes.stride[h_.axes.rank - 1]; }

  // Elements i..i + count of an operand side by side: where they lie if they do so already.
  const float* gathered(const Row& r, int operand, int64_t i, int64_t count) const {
    const int64_t stride = last_stride()[operand];
    const float* from = r.in[operand] + i * stride;
    if (stride == 1) return from;
    float* to = r.scratch + operand * (count + 16);
    for (int64_t k = 0; k < count; ++k) to[k] = from[k * stride];
    return to;
  }

  void elements(const Row& r, int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; i += kChunk) chunk(r, i, std::min(kChunk, end - i));
  }

  // `count` rows along the axis before the last, elements of each side by side.
  void rows_of(const Row& r, int64_t count) const {
    const int64_t* const step = h_.axes.stride[h_.axes.rank - 2];
    RowsArgs rows{};
    rows.a = r.in[1], rows.b = r.in[2], rows.out = r.out;
    rows.rows = count, rows.count = last_size();
    rows.a_stride = step[1], rows.b_stride = step[2], rows.out_stride = step[0];
    rows.epilogue = &h_.epilogue;
    const bool one_number = last_stride()[2] == 0;
    const ElementwiseKernels& kernels = kernels_.elementwise_f32;
    if (h_.function == Function::kAdd) return (one_number ? kernels.add_scalar : kernels.add)(rows);
    if (h_.function == Function::kMultiply)
      return (one_number ? kernels.multiply_scalar : kernels.multiply)(rows);
    for (int64_t i = 0; i < count; ++i) {
      const float *a = rows.a + i * rows.a_stride, *b = rows.b + i * rows.b_stride;
      float* out = rows.out + i * rows.out_stride;
      const float number = *b;
      if (one_number)
        for (int64_t k = 0; k < rows.count; ++k) out[k] = a[k] - number;
      else
        for (int64_t k = 0; k < rows.count; ++k) out[k] = a[k] - b[k];
      kernels_.activate_f32.run(out, out, rows.count, h_.epilogue);
    }
  }

  void scatter(const float* from, float* to, int64_t count) const {
    const int64_t stride = last_stride()[0];
    for (int64_t k = 0; k < count; ++k) to[k * stride] = from[k];
  }

  void chunk(const Row& r, int64_t i, int64_t count) const {
    const int64_t out_stride = last_stride()[0], in_stride = last_stride()[1];
    float* to = r.out + i * out_stride;
    const bool direct = out_stride == 1;
    if (h_.function == Function::kCopy && h_.epilogue.activation == Activation::kNone &&
        !(direct && in_stride == 1)) {
      const float* from = r.in[1] + i * in_stride;
      for (int64_t k = 0; k < count; ++k) to[k * out_stride] = from[k * in_stride];
      return;
    }
    float* out = direct ? to : r.scratch;
    compute(r, i, count, out);
    if (!direct) scatter(out, to, count);
  }

  void compute(const Row& r, int64_t i, int64_t count, float* out) const {
    const float* a = gathered(r, 1, i, count);
    if (h_.function == Function::kCopy) {
      // Copies too: a memcpy of bounded size would become `rep movs`, which is much slower.
      kernels_.activate_f32.run(a, out, count, h_.epilogue);
      return;
    }
    const float* b = gathered(r, 2, i, count);
    RowsArgs rows{};
    rows.a = a, rows.b = b, rows.out = out;
    rows.rows = 1, rows.count = count;
    rows.epilogue = &h_.epilogue;
    const auto each = [&](auto function) {
      for (int64_t k = 0; k < count; ++k) out[k] = function(a[k], b[k]);
      kernels_.activate_f32.run(out, out, count, h_.epilogue);
    };
    switch (h_.function) {
      case Function::kAffine:
        rows.c = gathered(r, 3, i, count);
        kernels_.elementwise_f32.scale_shift(rows);
        break;
      case Function::kAdd:
        kernels_.elementwise_f32.add(rows);
        break;
      case Function::kMultiply:
        kernels_.elementwise_f32.multiply(rows);
        break;
      case Function::kSubtract:
        each([](float x, float y) { return x - y; });
        break;
      case Function::kDivide:
        each([](float x, float y) { return x / y; });
        break;
      case Function::kMinimum:
        each([](float x, float y) { return x < y || x != x ? x : y; });
        break;
      case Function::kMaximum:
        each([](float x, float y) { return x > y || x != x ? x : y; });
        break;
      case Function::kEqual:
        each([](float x, float y) { return x == y ? 1.0f : 0.0f; });
        break;
      case Function::kGreater:
        each([](float x, float y) { return x > y ? 1.0f : 0.0f; });
        break;
      case Function::kGreaterEqual:
        each([](float x, float y) { return x >= y ? 1.0f : 0.0f; });
        break;
      default: {
        const float* c = gathered(r, 3, i, count);
        for (int64_t k = 0; k < count; ++k) out[k] = a[k] != 0.0f ? b[k] : c[k];
        kernels_.activate_f32.run(out, out, count, h_.epilogue);
      }
    }
  }

  void softmax(const Row& r) const {
    const int64_t count = last_size();
    const float* in = gathered(r, 1, 0, count);
    if (last_stride()[0] == 1) {
      kernels_.softmax_f32.run(in, r.out, count);
    } else {
      kernels_.softmax_f32.run(in, r.scratch, count);
      scatter(r.scratch, r.out, count);
    }
  }

  // The last axis is contiguous in the input, the one before it in the output.
  void transpose(const Row& r) const {
    const int rank = h_.axes.rank;
    const int64_t positions = h_.axes.size[rank - 2], channels = h_.axes.size[rank - 1];
    const int64_t in_stride = h_.axes.stride[rank - 2][1];
    const int64_t out_stride = h_.axes.stride[rank - 1][0];
    for (int64_t p = 0; p < positions; p += kTile) {
      const int64_t count = std::min(kTile, positions - p);
      kernels_.transpose_f32.run(r.in[1] + p * in_stride, in_stride, count, channels, r.out + p,
                                 out_stride);
      if (h_.epilogue.activation == Activation::kNone) continue;
      for (int64_t c = 0; c < channels; ++c) {
        float* row = r.out + c * out_stride + p;
        kernels_.activate_f32.run(row, row, count, h_.epilogue);
      }
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  const float* tables_[2] = {nullptr, nullptr};
  int64_t rows_ = 1, pieces_, per_task_;  // pieces of a row; pieces of a task
  bool many_rows_;
};

Blob pack_map(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  Header h{};
  h.epilogue = epilogue_of(spec);
  set_tensors(h, spec);
  const ArrayView *scale = spec.array("scale"), *shift = spec.array("shift");
  require(spec, !scale == !shift, "scale and shift come together");
  h.function = scale ? Function::kAffine : Function::kCopy;
  h.axes = ViewAxes::of(spec, {"x"}, {scale, shift});
  h.transposed = h.function == Function::kCopy && h.axes.to_matrix();
  if (!h.transposed) h.axes.choose_row();
  BlobWriter writer;
  writer.append<Header>(1);
  if (scale) {
    const ArrayView* tables[2] = {scale, shift};
    for (int i = 0; i < 2; ++i) {
      h.table_sizes[i] = tables[i]->size();
      h.tables[i] = writer.append(static_cast<const float*>(tables[i]->data), h.table_sizes[i]);
    }
  }
  *writer.at<Header>(0) = h;
  return writer.take();
}

Blob pack_combine(const OpSpec& spec, Isa) {
  static const std::map<std::string, Function> kFunctions = {
      {"add", Function::kAdd},           {"subtract", Function::kSubtract},
      {"multiply", Function::kMultiply}, {"divide", Function::kDivide},
      {"minimum", Function::kMinimum},   {"maximum", Function::kMaximum},
      {"equal", Function::kEqual},       {"greater", Function::kGreater},
      {"select", Function::kSelect},     {"greater_equal", Function::kGreaterEqual}};
  Header h{};
  h.epilogue = epilogue_of(spec);
  const auto found = kFunctions.find(spec.string_or("function", ""));
  require(spec, found != kFunctions.end(), "unknown function");
  h.function = found->second;
  require_counts(spec, inputs_of(h.function));
  set_tensors(h, spec);
  h.axes = h.function == Function::kSelect ? ViewAxes::of(spec, {"a", "b", "c"}, {})
                                           : ViewAxes::of(spec, {"a", "b"}, {});
  h.axes.choose_row();
  return pack_header(h);
}

Blob pack_softmax(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  Header h{};
  h.function = Function::kSoftmax;
  set_tensors(h, spec);
  h.axes = ViewAxes::of(spec, {"x"}, {}, static_cast<int>(spec.int_or("axis", -1)));
  return pack_header(h);
}

std::string any_layout(const OpSpec&, Isa) { return ""; }

}  // namespace

std::vector<OperatorType> types() {
  std::vector<OperatorType> all;
  for (const auto& types : {simple_types<Strided>("map", pack_map, any_layout),
                            simple_types<Strided>("combine", pack_combine, any_layout),
                            simple_types<Strided>("softmax_axis", pack_softmax, any_layout)})
    all.insert(all.end(), types.begin(), types.end());
  return all;
}

}  // namespace activsparse::strided
