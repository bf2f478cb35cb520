// add, mul, scale_shift, mask_multiply, activate, prelu: y[p][c] = activation(f(a[p][c], b[p][c])),
// where b may be broadcast. Positions that a mask leaves out are activation(0), even where they
// held NaN.
#include "operators/simple.h"

namespace activsparse::elementwise {
namespace {

enum class Function : int32_t { kAdd, kMultiply, kScaleShift, kMask, kPlane, kActivate, kPrelu };

// Where an operand's value for image n, position p (channel c) lies: n * image + p * pixel (+ c
// unless one_channel).
struct Operand {
  int64_t image, pixel;
  int32_t one_channel;
};

// What everything else follows from. Of float16 there are those without constants.
struct ElementwiseHeader {
  Function function;
  Epilogue epilogue;
  TensorDesc output, input[2];
  uint64_t table;  // of kMask, kPlane and kPrelu; of kScaleShift: scale, then shift
};

int inputs_of(Function function) {
  return function == Function::kAdd || function == Function::kMultiply ? 2 : 1;
}

bool broadcasts(const TensorDesc& t, const TensorDesc& out) {
  return (t.n == out.n || t.n == 1) && ((t.h == out.h && t.w == out.w) || (t.h == 1 && t.w == 1)) &&
         (t.c == out.c || t.c == 1);
}

Operand operand_of(const TensorDesc& t, const TensorDesc& out) {
  Operand o{};
  o.image = t.n == 1 ? 0 : int64_t{t.h} * t.w * t.stride;
  o.pixel = t.h == 1 && t.w == 1 ? 0 : t.stride;
  o.one_channel = t.c == 1 && out.c != 1;
  return o;
}

// One row per image when all tensors have the same pixels, back to back, and own everything between
// them.
bool is_flat(const TensorDesc& out, std::initializer_list<const TensorDesc*> tensors) {
  for (const TensorDesc* t : tensors) {
    const bool owned = t->stride == t->c || (t->padded && t->stride == least_stride(*t));
    if (!same_shape(*t, out) || t->stride != out.stride || !owned) return false;
  }
  return true;
}

// How an element-wise operator goes through its tensors.
struct Walk {
  int64_t positions, lanes;
  bool flat = false;     // pixels follow each other without gaps, an image is one row
  bool swapped = false;  // the functions commute, and the kernels take the wide operand first
  Operand a, b{0, 1, 1};

  explicit Walk(const ElementwiseHeader& h) : positions(int64_t{h.output.h} * h.output.w) {
    const TensorDesc &out = h.output, &first = h.input[0], &second = h.input[1];
    a = operand_of(first, out);
    if (inputs_of(h.function) == 1) {
      lanes = lanes_of({&out, &first});
      flat = h.function == Function::kActivate && is_flat(out, {&out, &first});
      return;
    }
    b = operand_of(second, out);
    flat = is_flat(out, {&out, &first, &second});
    swapped = a.one_channel;
    if (swapped) std::swap(a, b);
    lanes = b.one_channel ? lanes_of({&out, swapped ? &second : &first})
                          : lanes_of({&out, &first, &second});
  }
};

// Why a function cannot have these tensors; nullptr when it can.
const char* fault_of(const ElementwiseHeader& h) {
  if (inputs_of(h.function) == 1 && !same_shape(h.input[0], h.output))
    return "input and output differ in shape";
  bool wide = false;
  for (int i = 0; i < inputs_of(h.function); ++i) {
    if (!broadcasts(h.input[i], h.output))
      return "an input is neither of the output's shape nor broadcast over height and width or "
             "over channels";
    if (h.input[i].dtype != h.output.dtype) return "input and output differ in type";
    wide = wide || h.input[i].c == h.output.c;
  }
  if (h.output.dtype == DType::kFloat16 && h.function > Function::kMultiply &&
      h.function != Function::kActivate)
    return "its constants are float32";
  if (!wide) return "no input has the output's channels";
  return nullptr;
}

template <class T>
class Elementwise : public Operator {
 public:
  using Header = ElementwiseHeader;
  Elementwise(const BlobView& blob, const Kernels& kernels)
      : h_(blob.header<Header>()), kernels_(kernels), walk_(h_) {
    require_packed(h_.function >= Function::kAdd && h_.function <= Function::kPrelu);
    require_packed(h_.epilogue);
    require_packed(h_.output, kTypeOf<T>);
    require_packed(!h_.output.nchw);
    for (const TensorDesc& input : this->inputs()) {
      require_packed(input, kTypeOf<T>);
      require_packed(!input.nchw);
    }
    require_packed(fault_of(h_) == nullptr);
    if (h_.function == Function::kScaleShift) table_ = blob.array<float>(h_.table, 2 * walk_.lanes);
    require_packed(h_.function != Function::kPrelu || h_.epilogue.activation == Activation::kNone);
    if (h_.function == Function::kPrelu) table_ = blob.array<float>(h_.table, walk_.lanes);
    if (per_position()) table_ = blob.array<float>(h_.table, walk_.positions);
    per_task_ = pixels_per_task(h_.output.c);
    tasks_per_image_ = divide_up(walk_.positions, per_task_);
  }
  std::vector<TensorDesc> inputs() const override {
    return {h_.input, h_.input + inputs_of(h_.function)};
  }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override { return static_cast<int>(h_.output.n * tasks_per_image_); }
  std::string kernel() const override {
    return std::string(kernels_.isa) + (kTypeOf<T> == DType::kFloat16 ? " float16" : "");
  }
  std::size_t index_bytes() const override {
    return per_position() ? sizeof(float) * walk_.positions : 0;
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    // Neighbouring tasks of an image are one stretch.
    int64_t stop;
    for (int64_t task = begin; task < end; task = stop) {
      const int64_t image = task / tasks_per_image_, before = image * tasks_per_image_;
      stop = std::min<int64_t>(end, before + tasks_per_image_);
      const int64_t first = (task - before) * per_task_;
      run_pixels(args, image, first,
                 std::min((stop - before) * per_task_, walk_.positions) - first);
    }
  }

 private:
  bool per_position() const {
    return h_.function == Function::kMask || h_.function == Function::kPlane;
  }

  void run_pixels(const RunArgs& args, int64_t image, int64_t first, int64_t pixels) const {
    const auto at = [&](const T* base, const Operand& o) {
      return base + image * o.image + first * o.pixel;
    };
    RowsArgsOf<T> rows{};
    rows.a = at(args.in<T>(walk_.swapped ? 1 : 0), walk_.a);
    rows.out = args.out<T>(0) + (image * walk_.positions + first) * h_.output.stride;
    rows.rows = walk_.flat ? 1 : pixels;
    rows.count = walk_.flat ? pixels * h_.output.stride : walk_.lanes;
    rows.a_stride = walk_.a.pixel;
    rows.b_stride = walk_.b.pixel;
    rows.out_stride = h_.output.stride;
    rows.epilogue = &h_.epilogue;
    const auto& k = elementwise_of<T>(kernels_);
    switch (h_.function) {
      case Function::kAdd:
      case Function::kMultiply: {
        rows.b = at(args.in<T>(walk_.swapped ? 0 : 1), walk_.b);
        const bool add = h_.function == Function::kAdd;
        (walk_.b.one_channel ? (add ? k.add_scalar : k.multiply_scalar)
                             : (add ? k.add : k.multiply))(rows);
        break;
      }
      case Function::kActivate:
        for (int64_t r = 0; r < rows.rows; ++r)
          activate_of<T>(kernels_).run(rows.a + r * rows.a_stride, rows.out + r * rows.out_stride,
                                       rows.count, h_.epilogue);
        break;
      default:
        if constexpr (kTypeOf<T> == DType::kFloat32) run_with_constants(rows, first);
    }
  }

  void run_with_constants(RowsArgs& rows, int64_t first) const {
    const ElementwiseKernels& k = kernels_.elementwise_f32;
    switch (h_.function) {
      case Function::kScaleShift:
        rows.b = table_;
        rows.c = table_ + walk_.lanes;
        k.scale_shift(rows);
        break;
      case Function::kPrelu:
        rows.b = table_;
        k.prelu(rows);
        break;
      case Function::kMask:
      case Function::kPlane:
        rows.b = table_ + first;
        (h_.function == Function::kMask ? k.keep_scalar : k.multiply_scalar)(rows);
        break;
      default:
        break;
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  const Walk walk_;
  const float* table_ = nullptr;
  int64_t per_task_, tasks_per_image_;
};

using Header = ElementwiseHeader;

Header header_of(const OpSpec& spec, Function function) {
  require_counts(spec, inputs_of(function));
  Header h{};
  h.function = function;
  h.epilogue = epilogue_of(spec);
  h.output = spec.outputs[0];
  std::copy(spec.inputs.begin(), spec.inputs.end(), h.input);
  if (const char* fault = fault_of(h)) require(spec, false, fault);
  return h;
}

template <Function function>
Blob pack(const OpSpec& spec, Isa) {
  return pack_header(header_of(spec, function));
}

// One row of each array, a number per channel.
Blob pack_rows(const OpSpec& spec, Function function, std::initializer_list<const char*> names) {
  Header h = header_of(spec, function);
  const int64_t lanes = Walk(h).lanes;
  BlobWriter writer;
  writer.append<Header>(1);
  h.table = writer.append<float>(static_cast<int64_t>(names.size()) * lanes);
  int64_t row = 0;
  for (const char* name : names) {
    const ArrayView* values = spec.array(name);
    require(spec, values && values->dtype == 'f' && values->size() == h.output.c,
            std::string(name) + " must be a float32 array (C)");
    std::copy_n(static_cast<const float*>(values->data), h.output.c,
                writer.at<float>(h.table) + row++ * lanes);
  }
  *writer.at<Header>(0) = h;
  return writer.take();
}

Blob pack_scale_shift(const OpSpec& spec, Isa) {
  return pack_rows(spec, Function::kScaleShift, {"scale", "shift"});
}

Blob pack_prelu(const OpSpec& spec, Isa) {
  require(spec, epilogue_of(spec).activation == Activation::kNone,
          "its activation is an operator of its own");
  return pack_rows(spec, Function::kPrelu, {"slope"});
}

Blob pack_mask(const OpSpec& spec, Isa) {
  Header h = header_of(spec, Function::kMask);
  const int64_t positions = Walk(h).positions;
  const ArrayView* mask = spec.array("mask");
  require(spec, mask && (mask->dtype == 'b' || mask->dtype == 'f') && mask->size() == positions,
          "mask must be a uint8 or float32 array (H, W)");
  h.function = mask->dtype == 'b' ? Function::kMask : Function::kPlane;
  BlobWriter writer;
  writer.append<Header>(1);
  h.table = writer.append<float>(positions);
  float* table = writer.at<float>(h.table);
  if (h.function == Function::kPlane)
    std::copy_n(static_cast<const float*>(mask->data), positions, table);
  else  // every bit of a kept position
    for (int64_t p = 0; p < positions; ++p)
      if (static_cast<const uint8_t*>(mask->data)[p]) std::memset(table + p, 0xff, sizeof(float));
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() {
  std::vector<OperatorType> all;
  for (const auto& types : {typed_types<Elementwise>("add", pack<Function::kAdd>),
                            typed_types<Elementwise>("mul", pack<Function::kMultiply>),
                            typed_types<Elementwise>("scale_shift", pack_scale_shift),
                            typed_types<Elementwise>("prelu", pack_prelu),
                            typed_types<Elementwise>("mask_multiply", pack_mask),
                            typed_types<Elementwise>("activate", pack<Function::kActivate>)})
    all.insert(all.end(), types.begin(), types.end());
  return all;
}

}  // namespace activsparse::elementwise
