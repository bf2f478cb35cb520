// max_pool, average_pool, global_average_pool.
#include <cmath>

#include "operators/pool_rows.h"
#include "operators/simple.h"

namespace activsparse::pool {
namespace {

struct PoolHeader {
  Epilogue epilogue;
  TensorDesc input, output;
  int32_t average, include_pad;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int32_t pad_top, pad_left, pad_bottom, pad_right;
  int64_t lanes;
};

// The taps of a window that lie inside the input, for one axis of one output coordinate.
struct Span {
  int first;   // input coordinate of the first tap inside
  int taps;    // inside the input
  int padded;  // inside the input and its padding: what an average that counts the padding divides
               // by
};

Span span_of(int out, int kernel, int stride, int dilation, int pad, int pad_end, int size) {
  const int start = out * stride - pad;
  const int skipped = start < 0 ? static_cast<int>(divide_up(-start, dilation)) : 0;
  const auto taps_before = [&](int limit) {  // taps at coordinates below `limit`
    return std::clamp(static_cast<int>(divide_up(limit - start, dilation)), 0, kernel);
  };
  return {start + skipped * dilation, taps_before(size) - skipped, taps_before(size + pad_end)};
}

using Header = PoolHeader;

// Why the windows cannot be pooled; nullptr when they can.
const char* fault_of_windows(const Header& h) {
  for (const int32_t positive :
       {h.kernel_h, h.kernel_w, h.stride_h, h.stride_w, h.dilation_h, h.dilation_w})
    if (positive < 1) return "kernel, strides and dilations must be positive";
  for (const int32_t pad : {h.pad_top, h.pad_left, h.pad_bottom, h.pad_right})
    if (pad < 0) return "padding must not be negative";
  // Rounding the output's size up (ONNX ceil_mode) is fine as long as no window misses the input.
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

// Checked but for the windows.
const Header& checked_header(const BlobView& blob, DType type) {
  const Header& h = blob.header<Header>();
  require_packed(h.input, type);
  require_packed(h.output, type);
  require_packed(h.epilogue);
  require_packed(!h.input.nchw && !h.output.nchw && h.input.n == h.output.n &&
                 h.input.c == h.output.c && h.lanes == lanes_of({&h.output, &h.input}));
  return h;
}

template <class T>
class Pool : public PoolOperator {
 public:
  using Header = PoolHeader;

  Pool(const BlobView& blob, const Kernels& kernels)
      : h_(checked_header(blob, kTypeOf<T>)), kernels_(kernels) {
    require_packed(fault_of_windows(h_) == nullptr);
    // Outputs whose window lies inside the input form one run per row.
    const auto full = [&](int ox) { return column(ox).taps == h_.kernel_w; };
    while (inner_begin_ < h_.output.w && !full(inner_begin_)) ++inner_begin_;
    inner_end_ = inner_begin_;
    while (inner_end_ < h_.output.w && full(inner_end_)) ++inner_end_;
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  InputRows rows_of(int oy) const override {
    const Span rows =
        span_of(oy, h_.kernel_h, h_.stride_h, h_.dilation_h, h_.pad_top, h_.pad_bottom, h_.input.h);
    return {rows.first, rows.first + (rows.taps - 1) * h_.dilation_h + 1};
  }
  int tasks(int) const override { return h_.output.n * h_.output.h; }
  std::string kernel() const override {
    return std::string(kernels_.isa) + (kTypeOf<T> == DType::kFloat16 ? " float16" : "");
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    for (int task = begin; task < end; ++task) {
      const int oy = task % h_.output.h;
      const Span rows = span_of(oy, h_.kernel_h, h_.stride_h, h_.dilation_h, h_.pad_top,
                                h_.pad_bottom, h_.input.h);
      const T* image =
          args.in<T>(0) + int64_t{task / h_.output.h} * h_.input.h * h_.input.w * h_.input.stride;
      const T* in = image + int64_t{rows.first} * h_.input.w * h_.input.stride;
      T* out = args.out<T>(0) + int64_t{task} * h_.output.w * h_.output.stride;
      for (int ox = 0; ox < h_.output.w;) {
        const int count = ox == inner_begin_ ? std::max(1, inner_end_ - inner_begin_) : 1;
        run_pixels(in, out, rows, ox, count);
        ox += count;
      }
    }
  }

 private:
  Span column(int ox) const {
    return span_of(ox, h_.kernel_w, h_.stride_w, h_.dilation_w, h_.pad_left, h_.pad_right,
                   h_.input.w);
  }

  void run_pixels(const T* in, T* out, const Span& rows, int ox, int count) const {
    const Span columns = column(ox);
    PoolArgsOf<T> p{};
    p.in = in + int64_t{columns.first} * h_.input.stride;
    p.out = out + int64_t{ox} * h_.output.stride;
    p.outputs = count;
    p.in_step = int64_t{h_.stride_w} * h_.input.stride;
    p.out_step = h_.output.stride;
    p.window_h = rows.taps;
    p.window_w = columns.taps;
    p.row_stride = int64_t{h_.dilation_h} * h_.input.w * h_.input.stride;
    p.col_stride = int64_t{h_.dilation_w} * h_.input.stride;
    p.count = h_.lanes;
    p.scale = 1.0f / static_cast<float>(h_.include_pad ? rows.padded * columns.padded
                                                       : rows.taps * columns.taps);
    p.epilogue = &h_.epilogue;
    const auto& kernels = pool_of<T>(kernels_);
    (h_.average ? kernels.average : kernels.max)(p);
  }

  const Header& h_;
  const Kernels& kernels_;
  int inner_begin_ = 0, inner_end_ = 0;
};

Header header_of(const OpSpec& spec) {
  require_counts(spec, 1);
  Header h{};
  h.epilogue = epilogue_of(spec);
  h.input = spec.inputs[0];
  h.output = spec.outputs[0];
  h.lanes = lanes_of({&h.output, &h.input});
  require(spec, h.input.n == h.output.n && h.input.c == h.output.c,
          "input and output differ in images or channels");
  require(spec, h.input.dtype == h.output.dtype, "input and output differ in type");
  return h;
}

Blob pack(const OpSpec& spec, Isa) {
  Header h = header_of(spec);
  const auto value = [&](const char* name, int64_t fallback) {
    return static_cast<int32_t>(spec.int_or(name, fallback));
  };
  h.average = spec.kind == "average_pool";
  h.include_pad = value("count_include_pad", 0);
  h.kernel_h = value("kernel_h", 0), h.kernel_w = value("kernel_w", 0);
  h.stride_h = value("stride_h", 1), h.stride_w = value("stride_w", 1);
  h.dilation_h = value("dilation_h", 1), h.dilation_w = value("dilation_w", 1);
  h.pad_top = value("pad_top", 0), h.pad_left = value("pad_left", 0);
  h.pad_bottom = value("pad_bottom", 0), h.pad_right = value("pad_right", 0);
  if (const char* fault = fault_of_windows(h)) require(spec, false, fault);
  return pack_header(h);
}

// Tasks are runs of channels, so that one image keeps several threads busy.
template <class T>
class GlobalPool : public Operator {
 public:
  using Header = PoolHeader;
  static constexpr int kChannels = 64;

  GlobalPool(const BlobView& blob, const Kernels& kernels)
      : h_(checked_header(blob, kTypeOf<T>)), kernels_(kernels) {
    require_packed(h_.output.h == 1 && h_.output.w == 1);
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override { return h_.output.n * runs(); }
  std::string kernel() const override {
    return std::string(kernels_.isa) + (kTypeOf<T> == DType::kFloat16 ? " float16" : "");
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    for (int task = begin; task < end; ++task) {
      const int64_t image = task / runs(), channel = int64_t{task % runs()} * kChannels;
      PoolArgsOf<T> p{};
      p.in = args.in<T>(0) + image * h_.input.h * h_.input.w * h_.input.stride + channel;
      p.out = args.out<T>(0) + image * h_.output.stride + channel;
      p.outputs = 1;
      p.window_h = h_.input.h;
      p.window_w = h_.input.w;
      p.row_stride = int64_t{h_.input.w} * h_.input.stride;
      p.col_stride = h_.input.stride;
      p.count = std::min<int64_t>(kChannels, h_.lanes - channel);
      p.scale = 1.0f / static_cast<float>(int64_t{h_.input.h} * h_.input.w);
      p.epilogue = &h_.epilogue;
      pool_of<T>(kernels_).average(p);
    }
  }

 private:
  int runs() const { return static_cast<int>(divide_up(h_.lanes, kChannels)); }

  const Header& h_;
  const Kernels& kernels_;
};

Blob pack_global(const OpSpec& spec, Isa) {
  const Header h = header_of(spec);
  require(spec, h.output.h == 1 && h.output.w == 1, "the output must be one pixel");
  return pack_header(h);
}

}  // namespace

std::vector<OperatorType> types() {
  std::vector<OperatorType> all = typed_types<Pool>("max_pool", pack);
  for (const auto& types : {typed_types<Pool>("average_pool", pack),
                            typed_types<GlobalPool>("global_average_pool", pack_global)})
    all.insert(all.end(), types.begin(), types.end());
  return all;
}

}  // namespace activsparse::pool
