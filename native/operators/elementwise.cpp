// add, mul, scale_shift, mask_multiply, activate: y[p][c] = activation(f(a[p][c], b[p][c])), where
// b may be broadcast. Positions that a mask leaves out are activation(0), even where they held NaN.
#include "operators/simple.h"

namespace activsparse {
namespace {

enum class Function : int32_t { kAdd, kMultiply, kScaleShift, kMask, kPlane, kActivate };

// Where an operand's value for image n, position p (channel c) lies: n * image + p * pixel (+ c
// unless one_channel).
struct Operand {
  int64_t image, pixel;
  int32_t one_channel;
};

struct Header {
  Function function;
  Epilogue epilogue;
  TensorDesc output;
  int64_t positions, lanes;
  int32_t flat, swapped;  // flat: pixels follow each other without gaps, an image is one row
  Operand a, b;  // b of kMask and kPlane: `table`; of kScaleShift: `table` is scale, then shift
  uint64_t table;
};

class Elementwise : public Operator {
 public:
  Elementwise(const BlobView& blob, const Kernels& kernels)
      : h_(blob.header<Header>()), kernels_(kernels) {
    const int64_t c = h_.output.c;
    if (h_.function == Function::kScaleShift) table_ = blob.array<float>(h_.table, 2 * h_.lanes);
    if (per_position()) table_ = blob.array<float>(h_.table, h_.positions);
    per_task_ = pixels_per_task(c);
    tasks_per_image_ = divide_up(h_.positions, per_task_);
  }
  int tasks(int) const override { return static_cast<int>(h_.output.n * tasks_per_image_); }
  std::string kernel() const override { return kernels_.isa; }
  std::size_t index_bytes() const override {
    return per_position() ? sizeof(float) * h_.positions : 0;
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    for (int task = begin; task < end; ++task) {
      const int64_t image = task / tasks_per_image_;
      const int64_t first = task % tasks_per_image_ * per_task_;
      run_pixels(args, image, first, std::min(per_task_, h_.positions - first));
    }
  }

 private:
  bool per_position() const {
    return h_.function == Function::kMask || h_.function == Function::kPlane;
  }

  void run_pixels(const RunArgs& args, int64_t image, int64_t first, int64_t pixels) const {
    const auto at = [&](const float* base, const Operand& o) {
      return base + image * o.image + first * o.pixel;
    };
    RowsArgs rows{};
    rows.a = at(args.inputs[h_.swapped ? 1 : 0], h_.a);
    rows.out = args.outputs[0] + (image * h_.positions + first) * h_.output.stride;
    rows.rows = h_.flat ? 1 : pixels;
    rows.count = h_.flat ? pixels * h_.output.stride : h_.lanes;
    rows.a_stride = h_.a.pixel;
    rows.b_stride = h_.b.pixel;
    rows.out_stride = h_.output.stride;
    rows.epilogue = &h_.epilogue;
    const ElementwiseKernels& k = kernels_.elementwise_f32;
    switch (h_.function) {
      case Function::kAdd:
      case Function::kMultiply: {
        rows.b = at(args.inputs[h_.swapped ? 0 : 1], h_.b);
        const bool add = h_.function == Function::kAdd;
        (h_.b.one_channel ? (add ? k.add_scalar : k.multiply_scalar)
                          : (add ? k.add : k.multiply))(rows);
        break;
      }
      case Function::kScaleShift:
        rows.b = table_;
        rows.c = table_ + h_.lanes;
        k.scale_shift(rows);
        break;
      case Function::kMask:
      case Function::kPlane:
        rows.b = table_ + first;
        (h_.function == Function::kMask ? k.keep_scalar : k.multiply_scalar)(rows);
        break;
      case Function::kActivate:
        for (int64_t r = 0; r < rows.rows; ++r)
          kernels_.activate_f32.run(rows.a + r * rows.a_stride, rows.out + r * rows.out_stride,
                                    rows.count, h_.epilogue);
        break;
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  const float* table_ = nullptr;
  int64_t per_task_, tasks_per_image_;
};

Operand operand_of(const OpSpec& spec, const TensorDesc& t) {
  const TensorDesc& out = spec.outputs[0];
  const bool one_position = t.h == 1 && t.w == 1;
  require(spec,
          (t.n == out.n || t.n == 1) && ((t.h == out.h && t.w == out.w) || one_position) &&
              (t.c == out.c || t.c == 1),
          "an input is neither of the output's shape nor broadcast over height and width or over "
          "channels");
  Operand o{};
  o.image = t.n == 1 ? 0 : int64_t{t.h} * t.w * t.stride;
  o.pixel = one_position ? 0 : t.stride;
  o.one_channel = t.c == 1 && out.c != 1;
  return o;
}

Header header_of(const OpSpec& spec, Function function, size_t inputs) {
  require_counts(spec, inputs);
  Header h{};
  h.function = function;
  h.epilogue = epilogue_of(spec);
  h.output = spec.outputs[0];
  h.positions = int64_t{h.output.h} * h.output.w;
  h.a = operand_of(spec, spec.inputs[0]);
  return h;
}

// One row per image when all tensors have the same pixels, back to back, and own everything between
// them.
bool is_flat(const TensorDesc& out, std::initializer_list<const TensorDesc*> tensors) {
  for (const TensorDesc* t : tensors) {
    const bool owned = t->stride == t->c || (t->padded && t->stride == (t->c + 15) / 16 * 16);
    if (!same_shape(*t, out) || t->stride != out.stride || !owned) return false;
  }
  return true;
}

template <Function function>
Blob pack_binary(const OpSpec& spec, Isa) {
  Header h = header_of(spec, function, 2);
  h.b = operand_of(spec, spec.inputs[1]);
  const TensorDesc &a = spec.inputs[0], &b = spec.inputs[1];
  h.flat = is_flat(h.output, {&h.output, &a, &b});
  if (h.a.one_channel) {  // both functions commute, and the kernels take the wide operand first
    std::swap(h.a, h.b);
    h.swapped = 1;
  }
  require(spec, !h.a.one_channel, "no input has the output's channels");
  h.lanes =
      h.b.one_channel ? lanes_of({&h.output, h.swapped ? &b : &a}) : lanes_of({&h.output, &a, &b});
  return pack_header(h);
}

// One input of the output's shape.
template <Function function>
Header unary_header(const OpSpec& spec) {
  require_counts(spec, 1);
  require(spec, same_shape(spec.inputs[0], spec.outputs[0]), "input and output differ in shape");
  Header h = header_of(spec, function, 1);
  h.lanes = lanes_of({&h.output, &spec.inputs[0]});
  return h;
}

Blob pack_scale_shift(const OpSpec& spec, Isa) {
  Header h = unary_header<Function::kScaleShift>(spec);
  BlobWriter writer;
  writer.append<Header>(1);
  h.table = writer.append<float>(2 * h.lanes);
  int64_t row = 0;
  for (const char* name : {"scale", "shift"}) {
    const ArrayView* values = spec.array(name);
    require(spec, values && values->dtype == 'f' && values->size() == h.output.c,
            std::string(name) + " must be a float32 array (C)");
    std::copy_n(static_cast<const float*>(values->data), h.output.c,
                writer.at<float>(h.table) + row++ * h.lanes);
  }
  *writer.at<Header>(0) = h;
  return writer.take();
}

Blob pack_mask(const OpSpec& spec, Isa) {
  Header h = unary_header<Function::kMask>(spec);
  const ArrayView* mask = spec.array("mask");
  require(spec, mask && (mask->dtype == 'b' || mask->dtype == 'f') && mask->size() == h.positions,
          "mask must be a uint8 or float32 array (H, W)");
  h.function = mask->dtype == 'b' ? Function::kMask : Function::kPlane;
  h.b = {0, 1, 1};
  BlobWriter writer;
  writer.append<Header>(1);
  h.table = writer.append<float>(h.positions);
  float* table = writer.at<float>(h.table);
  if (h.function == Function::kPlane)
    std::copy_n(static_cast<const float*>(mask->data), h.positions, table);
  else  // every bit of a kept position
    for (int64_t p = 0; p < h.positions; ++p)
      if (static_cast<const uint8_t*>(mask->data)[p]) std::memset(table + p, 0xff, sizeof(float));
  *writer.at<Header>(0) = h;
  return writer.take();
}

Blob pack_activate(const OpSpec& spec, Isa) {
  Header h = unary_header<Function::kActivate>(spec);
  h.flat = is_flat(h.output, {&h.output, &spec.inputs[0]});
  return pack_header(h);
}

}  // namespace

std::vector<OperatorType> elementwise_types() {
  std::vector<OperatorType> all;
  for (const auto& types : {simple_types<Elementwise>("add", pack_binary<Function::kAdd>),
                            simple_types<Elementwise>("mul", pack_binary<Function::kMultiply>),
                            simple_types<Elementwise>("scale_shift", pack_scale_shift),
                            simple_types<Elementwise>("mask_multiply", pack_mask),
                            simple_types<Elementwise>("activate", pack_activate)})
    all.insert(all.end(), types.begin(), types.end());
  return all;
}

}  // namespace activsparse
