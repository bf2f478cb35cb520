// Pooling of bytes: max_pool_u8, whose input and output have the same scale, and average_pool_u8,
// over windows or, without any, over the whole image.
#include "operators/finish_u8.h"
#include "operators/simple.h"

namespace activsparse::pool_u8 {
namespace {

struct Header {
  TensorDesc input, output;
  int32_t average, include_pad;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int32_t pad_top, pad_left, pad_bottom, pad_right;
  int32_t input_zero, zero;
  float scale;  // of the input over that of the output
};

struct Span {
  int first, taps, padded;  // inside the input; inside it and its padding
};

Span span_of(int out, int kernel, int stride, int dilation, int pad, int pad_end, int size) {
  Span span{0, 0, 0};
  const int start = out * stride - pad;
  for (int k = 0; k < kernel; ++k) {
    const int at = start + k * dilation;
    if (at >= 0 && at < size && span.taps++ == 0) span.first = at;
    span.padded += at < size + pad_end;
  }
  return span;
}

const char* fault_of(const Header& h) {
  for (const TensorDesc* t : {&h.input, &h.output}) {
    if (const char* fault = fault_of_any(*t)) return fault;
    if (t->dtype != DType::kU8 || t->nchw) return "its tensors must be uint8";
  }
  if (h.input.n != h.output.n || h.input.c != h.output.c)
    return "input and output differ in images or channels";
  for (const int32_t positive :
       {h.kernel_h, h.kernel_w, h.stride_h, h.stride_w, h.dilation_h, h.dilation_w})
    if (positive < 1 || positive > kMostReach)
      return "kernel, strides and dilations must be positive";
  for (const int32_t pad : {h.pad_top, h.pad_left, h.pad_bottom, h.pad_right})
    if (pad < 0 || pad > kMostReach) return "padding must not be negative";
  if (h.input_zero < 0 || h.input_zero > 255 || h.zero < 0 || h.zero > 255)
    return "a zero point is no uint8 number";
  if (int64_t{h.kernel_h} * h.kernel_w > 1 << 23) return "the window is too large";
  const auto misses = [](int out, int kernel, int stride, int dilation, int pad, int pad_end,
                         int size) {
    if (int64_t{out} * stride > kMostReach || int64_t{kernel} * dilation > kMostReach ||
        int64_t{size} + pad + pad_end > kMostReach)
      return true;
    for (int i = 0; i < out; ++i)
      if (span_of(i, kernel, stride, dilation, pad, pad_end, size).taps < 1) return true;
    return false;
  };
  if (misses(h.output.h, h.kernel_h, h.stride_h, h.dilation_h, h.pad_top, h.pad_bottom,
             h.input.h) ||
      misses(h.output.w, h.kernel_w, h.stride_w, h.dilation_w, h.pad_left, h.pad_right, h.input.w))
    return "a window lies outside of the input; check the output's size and the padding";
  return nullptr;
}

const Header& checked(const BlobView& blob) {
  const Header& h = blob.header<Header>();
  require_packed(fault_of(h) == nullptr);
  return h;
}

class PoolU8 : public Operator {
 public:
  PoolU8(const BlobView& blob, const Kernels& kernels) : h_(checked(blob)), kernels_(kernels) {}
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override { return h_.output.n * h_.output.h; }
  std::string kernel() const override { return kernels_.isa; }
  std::size_t scratch_bytes() const override {
    return h_.average ? h_.output.c * (sizeof(int32_t) + sizeof(float)) : 0;
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    for (int task = begin; task < end; ++task) {
      const Span rows = span_of(task % h_.output.h, h_.kernel_h, h_.stride_h, h_.dilation_h,
                                h_.pad_top, h_.pad_bottom, h_.input.h);
      const uint8_t* in =
          args.in<uint8_t>(0) +
          (int64_t{task / h_.output.h} * h_.input.h + rows.first) * h_.input.w * h_.input.stride;
      uint8_t* out = args.out<uint8_t>(0) + int64_t{task} * h_.output.w * h_.output.stride;
      for (int ox = 0; ox < h_.output.w; ++ox, out += h_.output.stride) {
        const Span columns = span_of(ox, h_.kernel_w, h_.stride_w, h_.dilation_w, h_.pad_left,
                                     h_.pad_right, h_.input.w);
        const uint8_t* first = in + int64_t{columns.first} * h_.input.stride;
        if (h_.average)
          average(first, rows, columns, args.scratch, out);
        else
          maximum(first, rows, columns, out);
      }
    }
  }

 private:
  template <class Body>
  void each(const uint8_t* in, const Span& rows, const Span& columns, const Body& body) const {
    for (int y = 0; y < rows.taps; ++y)
      for (int x = 0; x < columns.taps; ++x)
        body(in + (int64_t{y} * h_.dilation_h * h_.input.w + int64_t{x} * h_.dilation_w) *
                      h_.input.stride,
             y == 0 && x == 0);
  }

  void maximum(const uint8_t* in, const Span& rows, const Span& columns, uint8_t* out) const {
    MapU8Args m{};
    m.out = out;
    m.count = h_.output.padded && h_.input.padded ? (h_.output.c + 15) / 16 * 16 : h_.output.c;
    each(in, rows, columns, [&](const uint8_t* pixel, bool first) {
      m.a = pixel, m.b = first ? pixel : out;
      kernels_.maps_u8.maximum(m);
    });
  }

  void average(const uint8_t* in, const Span& rows, const Span& columns, uint8_t* scratch,
               uint8_t* out) const {
    auto* sums = reinterpret_cast<int32_t*>(scratch);
    auto* floats = reinterpret_cast<float*>(sums + h_.output.c);
    std::fill_n(sums, h_.output.c, 0);
    each(in, rows, columns, [&](const uint8_t* pixel, bool) {
      kernels_.maps_u8.accumulate(pixel, sums, h_.output.c);
    });
    const int taps = rows.taps * columns.taps;
    for (int c = 0; c < h_.output.c; ++c)
      floats[c] = static_cast<float>(sums[c] - int64_t{taps} * h_.input_zero);
    MapU8Args m{};
    m.a = floats, m.out = out, m.count = h_.output.c;
    m.a_scale = h_.scale / static_cast<float>(h_.include_pad ? rows.padded * columns.padded : taps);
    m.zero = h_.zero;
    m.lo = static_cast<float>(-h_.zero), m.hi = static_cast<float>(255 - h_.zero);
    kernels_.maps_u8.quantise(m);
  }

  const Header& h_;
  const Kernels& kernels_;
};

Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  Header h{};
  h.input = spec.inputs[0], h.output = spec.outputs[0];
  const auto value = [&](const char* name, int64_t fallback) {
    return static_cast<int32_t>(spec.int_or(name, fallback));
  };
  h.average = spec.kind == "average_pool_u8";
  h.include_pad = value("count_include_pad", 0);
  h.kernel_h = value("kernel_h", h.input.h), h.kernel_w = value("kernel_w", h.input.w);
  h.stride_h = value("stride_h", 1), h.stride_w = value("stride_w", 1);
  h.dilation_h = value("dilation_h", 1), h.dilation_w = value("dilation_w", 1);
  h.pad_top = value("pad_top", 0), h.pad_left = value("pad_left", 0);
  h.pad_bottom = value("pad_bottom", 0), h.pad_right = value("pad_right", 0);
  h.input_zero = zero_point_of(spec, "input_zero"), h.zero = zero_point_of(spec, "zero");
  h.scale = static_cast<float>(spec.float_or("scale", 1));
  if (const char* fault = fault_of(h)) require(spec, false, fault);
  return pack_header(h);
}

std::string any(const OpSpec&, Isa) { return ""; }

}  // namespace

std::vector<OperatorType> types() {
  std::vector<OperatorType> all;
  for (const char* kind : {"max_pool_u8", "average_pool_u8"})
    for (OperatorType type : simple_types<PoolU8>(kind, pack, any)) {
      type.types = kFloatsAndBytes;
      all.push_back(type);
    }
  return all;
}

}  // namespace activsparse::pool_u8
