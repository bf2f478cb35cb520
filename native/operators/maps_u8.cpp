// Operators on bytes that compute element by element: quantise, dequantise, add_u8, mul_u8,
// lookup_u8 (any function of one operand, as a table), and gather_u8, which moves whole pixels:
// copies, resizing, what a mask leaves of an image, padding.
#include <cmath>
#include <cstring>

#include "operators/finish_u8.h"
#include "operators/simple.h"

namespace activsparse::maps_u8 {
namespace {

constexpr int64_t kRun = 4096;  // elements of a task where pixels lie without gaps

enum class Map : int32_t { kQuantise, kDequantise, kAdd, kMultiply, kLookup, kGather };

struct Header {
  Map map;
  int32_t inputs;
  TensorDesc input[2], output;
  float a_scale, b_scale, shift, lo, hi;
  int32_t a_zero, b_zero, zero;
  uint64_t table, source;
  int32_t has_source;
  int32_t pad_top, pad_left;  // of images that become larger ones
};

bool same_bytes(const TensorDesc& a, const TensorDesc& b) {
  return a.n == b.n && a.h == b.h && a.w == b.w && a.c == b.c;
}

// Whether `t` is one pixel per image (h = w = 1) for a larger output.
bool is_vector(const TensorDesc& t, const TensorDesc& output) {
  return t.h == 1 && t.w == 1 && (output.h != 1 || output.w != 1);
}

// Whether an image of few channels, pixels without gaps, becomes one whose pixels are quads.
bool is_spread(const Header& h) {
  const TensorDesc& in = h.input[0];
  return (h.map == Map::kQuantise || h.map == Map::kLookup) && !in.nchw && in.c <= 4 &&
         in.stride == in.c && h.output.stride == 4;
}

// Why there is no such operator; nullptr when there is.
const char* fault_of(const Header& h) {
  const DType in = h.map == Map::kQuantise ? DType::kFloat32 : DType::kU8;
  const DType out = h.map == Map::kDequantise ? DType::kFloat32 : DType::kU8;
  const bool binary = h.map == Map::kAdd || h.map == Map::kMultiply;
  if (h.inputs != (binary ? 2 : 1)) return "it takes another number of inputs";
  if (const char* fault = fault_of_any(h.output)) return fault;
  if (h.output.dtype != out || h.output.nchw) return "its output is of the wrong type or layout";
  for (int i = 0; i < h.inputs; ++i) {
    const TensorDesc& t = h.input[i];
    if (const char* fault = fault_of_any(t)) return fault;
    if (t.dtype != in || (t.nchw && h.map != Map::kQuantise))
      return "an input is of the wrong type or layout";
    if (t.n != h.output.n || t.c != h.output.c)
      return "input and output differ in images or channels";
    const bool vector = i == 1 && h.map == Map::kMultiply && is_vector(t, h.output);
    const bool padded = (t.nchw || is_spread(h)) && h.pad_top >= 0 && h.pad_left >= 0 &&
                        h.pad_top <= h.output.h - t.h && h.pad_left <= h.output.w - t.w;
    if (h.map != Map::kGather && !vector && !padded && !same_bytes(t, h.output))
      return "input and output differ in shape";
  }
  if (h.map == Map::kGather && !h.has_source && !same_bytes(h.input[0], h.output))
    return "input and output differ in shape";
  const auto is_byte = [](float v) { return v >= 0 && v <= 255; };
  for (const int32_t zero : {h.a_zero, h.b_zero, h.zero})
    if (zero < 0 || zero > 255) return "a zero point is no uint8 number";
  const float zero = static_cast<float>(h.zero);
  if (!(h.lo <= h.hi && is_byte(h.lo + zero) && is_byte(h.hi + zero)))
    return "'lo' and 'hi' are no range of uint8 numbers";
  return nullptr;
}

class MapU8 : public Operator {
 public:
  MapU8(const BlobView& blob, const Kernels& kernels)
      : h_(blob.header<Header>()), kernels_(kernels), per_task_(4 * pixels_per_task(h_.output.c)) {
    require_packed(h_.map >= Map::kQuantise && h_.map <= Map::kGather);
    require_packed(fault_of(h_) == nullptr);
    table_ = blob.array<uint8_t>(h_.table, h_.map == Map::kLookup ? 256 : 0);
    const int64_t positions = int64_t{h_.output.h} * h_.output.w;
    if (h_.has_source) {
      source_ = blob.array<int32_t>(h_.source, positions);
      const int64_t most = int64_t{h_.input[0].h} * h_.input[0].w;
      for (int64_t i = 0; i < positions; ++i) require_packed(source_[i] >= -1 && source_[i] < most);
    }
    std::vector<const TensorDesc*> all = {&h_.output, &h_.input[0]};
    if (h_.inputs == 2) all.push_back(&h_.input[1]);
    // Whole groups of channels where every tensor owns them.
    lanes_ = (h_.output.c + 15) / 16 * 16;
    for (const TensorDesc* t : all)
      if (!t->padded || t->stride < lanes_) lanes_ = h_.output.c;
    // Pixels without gaps are one run.
    by_rows_ = h_.input[0].nchw || is_spread(h_);
    dense_ = h_.map != Map::kGather && !by_rows_;
    for (const TensorDesc* t : all)
      dense_ = dense_ && t->stride == lanes_ && t->pixels() == h_.output.pixels();
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input, h_.input + h_.inputs}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override {
    if (by_rows_) return h_.output.n * h_.output.h;
    return static_cast<int>(dense_ ? divide_up(h_.output.pixels() * lanes_, kRun)
                                   : divide_up(h_.output.pixels(), per_task_));
  }
  std::string kernel() const override { return kernels_.isa; }
  std::size_t index_bytes() const override {
    return h_.has_source ? sizeof(int32_t) * h_.output.h * h_.output.w : 0;
  }
  std::size_t scratch_bytes() const override {
    return by_rows_ ? std::size_t{1} * h_.input[0].w * h_.output.c : 0;
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    if (by_rows_) {
      for (int row = begin; row < end; ++row) image_row(args, row);
      return;
    }
    if (dense_) {
      const int64_t from = begin * kRun, to = std::min(end * kRun, h_.output.pixels() * lanes_);
      return map(args, from, from, from, to - from);
    }
    const int64_t first = begin * per_task_, last = std::min(end * per_task_, h_.output.pixels());
    if (h_.map == Map::kGather) return gather(args, first, last);
    for (int64_t pixel = first; pixel < last; ++pixel)
      map(args, pixel * h_.input[0].stride, h_.inputs == 2 ? other(pixel) * h_.input[1].stride : 0,
          pixel * h_.output.stride, lanes_);
  }

 private:
  int64_t other(int64_t pixel) const {
    return is_vector(h_.input[1], h_.output) ? pixel / (int64_t{h_.output.h} * h_.output.w) : pixel;
  }

  // `count` elements from those on.
  void map(const RunArgs& args, int64_t a, int64_t b, int64_t out, int64_t count) const {
    const auto* in = args.in<uint8_t>(0) + size_of(h_.input[0].dtype) * a;
    auto* to = args.out<uint8_t>(0) + size_of(h_.output.dtype) * out;
    apply(in, h_.inputs == 2 ? args.in<uint8_t>(1) + b : nullptr, to, count);
  }

  void apply(const uint8_t* in, const uint8_t* second, uint8_t* to, int64_t count) const {
    if (h_.map == Map::kLookup) return kernels_.maps_u8.lookup({table_, &in, &to, 1, count});
    const MapU8Args m{in,       second, to,    count,     h_.a_scale, h_.b_scale,
                      h_.shift, h_.lo,  h_.hi, h_.a_zero, h_.b_zero,  h_.zero};
    const BytesKernels& k = kernels_.maps_u8;
    (h_.map == Map::kQuantise     ? k.quantise
     : h_.map == Map::kDequantise ? k.dequantise
     : h_.map == Map::kAdd        ? k.add
                                  : k.multiply)(m);
  }

  // By memmove: in a forged plan the tensors may overlap.
  void gather(const RunArgs& args, int64_t first, int64_t last) const {
    const int64_t positions = int64_t{h_.output.h} * h_.output.w;
    const TensorDesc& in = h_.input[0];
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const int64_t image = pixel / positions, position = pixel - image * positions;
      const int64_t from = source_ ? source_[position] : position;
      uint8_t* out = args.out<uint8_t>(0) + pixel * h_.output.stride;
      if (from < 0)
        std::memset(out, h_.zero, h_.output.c);
      else
        std::memmove(out, args.in<uint8_t>(0) + (image * in.h * in.w + from) * in.stride,
                     h_.output.c);
    }
  }

  // A row of an image of planes, or of few channels: bytes are made where they lie side by side,
  // then go where their pixels are.
  void image_row(const RunArgs& args, int task) const {
    const TensorDesc &in = h_.input[0], &out = h_.output;
    const int image = task / out.h, y = task % out.h - h_.pad_top;
    uint8_t* row = args.out<uint8_t>(0) + int64_t{task} * out.w * out.stride;
    const auto fill = [&](int64_t first, int64_t count) {
      for (int64_t i = first; i < first + count; ++i)
        std::memset(row + i * out.stride, h_.zero, out.c);
    };
    if (y < 0 || y >= in.h) return fill(0, out.w);
    fill(0, h_.pad_left);
    fill(h_.pad_left + int64_t{in.w}, out.w - h_.pad_left - int64_t{in.w});
    uint8_t* pixels = row + int64_t{h_.pad_left} * out.stride;
    const int64_t item = size_of(in.dtype);
    if (!in.nchw) {
      const int64_t first = (int64_t{image} * in.h + y) * in.w * in.c;
      apply(args.in<uint8_t>(0) + item * first, nullptr, args.scratch, int64_t{in.w} * in.c);
      return spread(args.scratch, pixels, in.w);
    }
    for (int plane = 0; plane < out.c; ++plane) {
      const int64_t first = ((int64_t{image} * out.c + plane) * in.h + y) * in.w;
      apply(args.in<uint8_t>(0) + item * first, nullptr, args.scratch + int64_t{plane} * in.w,
            in.w);
    }
    interleave(args.scratch, pixels, in.w);
  }

  // The fourth byte of an image of three channels is nobody's.
  void spread(const uint8_t* bytes, uint8_t* out, int64_t count) const {
    const int c = h_.output.c;
    if (c == 4) return void(std::memcpy(out, bytes, 4 * count));
    int64_t i = 0;
    for (; c == 3 && i < count - 1; ++i) std::memcpy(out + 4 * i, bytes + 3 * i, 4);
    for (; i < count; ++i) std::memcpy(out + 4 * i, bytes + i * c, c);
  }

  void interleave(const uint8_t* planes, uint8_t* out, int64_t count) const {
    const int64_t stride = h_.output.stride;
    if (h_.output.c == 3 && stride == 4) {  // the fourth byte is nobody's
      const uint8_t *r = planes, *g = planes + count, *b = planes + 2 * count;
      for (int64_t i = 0; i < count - 1; ++i) {
        const uint32_t pixel = r[i] | uint32_t{g[i]} << 8 | uint32_t{b[i]} << 16;
        std::memcpy(out + 4 * i, &pixel, sizeof(pixel));
      }
      const int64_t i = count - 1;
      out[4 * i] = r[i], out[4 * i + 1] = g[i], out[4 * i + 2] = b[i];
      return;
    }
    for (int64_t i = 0; i < count; ++i)
      for (int c = 0; c < h_.output.c; ++c) out[i * stride + c] = planes[c * count + i];
  }

  const Header& h_;
  const Kernels& kernels_;
  const int64_t per_task_;
  int64_t lanes_;
  bool dense_, by_rows_;
  const uint8_t* table_;
  const int32_t* source_ = nullptr;
};

constexpr struct {
  const char* kind;
  Map map;
} kKinds[] = {{"quantise", Map::kQuantise}, {"dequantise", Map::kDequantise},
              {"add_u8", Map::kAdd},        {"mul_u8", Map::kMultiply},
              {"lookup_u8", Map::kLookup},  {"gather_u8", Map::kGather}};

Blob pack(const OpSpec& spec, Isa) {
  Header h{};
  for (const auto& row : kKinds)
    if (spec.kind == row.kind) h.map = row.map;
  require(spec, spec.inputs.size() <= 2, "takes at most two inputs");
  h.inputs = static_cast<int32_t>(spec.inputs.size());
  std::copy(spec.inputs.begin(), spec.inputs.end(), h.input);
  h.output = spec.outputs[0];
  const auto number = [&](const char* name, double fallback) {
    return static_cast<float>(spec.float_or(name, fallback));
  };
  h.a_scale = number("a_scale", 1), h.b_scale = number("b_scale", 1);
  h.a_zero = zero_point_of(spec, "a_zero"), h.b_zero = zero_point_of(spec, "b_zero");
  h.zero = zero_point_of(spec, "zero");
  h.pad_top = static_cast<int32_t>(spec.int_or("pad_top", 0));
  h.pad_left = static_cast<int32_t>(spec.int_or("pad_left", 0));
  h.shift = -(static_cast<float>(h.a_zero) * h.a_scale + static_cast<float>(h.b_zero) * h.b_scale);
  h.lo = number("lo", -h.zero), h.hi = number("hi", 255 - h.zero);
  const ArrayView *table = spec.array("table"), *source = spec.array("source");
  h.has_source = source != nullptr;
  const int64_t positions = int64_t{h.output.h} * h.output.w;
  require(spec, h.map != Map::kLookup || (table && table->dtype == 'b' && table->size() == 256),
          "the table must be uint8 (256)");
  require(spec,
          source == nullptr ||
              (h.map == Map::kGather && source->dtype == 'i' && source->size() == positions),
          "source must be an int32 array (OH*OW)");
  if (const char* fault = fault_of(h)) require(spec, false, fault);
  BlobWriter writer;
  writer.append<Header>(1);
  if (h.map == Map::kLookup) h.table = writer.append(static_cast<const uint8_t*>(table->data), 256);
  if (source != nullptr) {
    const auto* from = static_cast<const int32_t*>(source->data);
    for (int64_t i = 0; i < positions; ++i)
      require(spec, from[i] >= -1 && from[i] < int64_t{h.input[0].h} * h.input[0].w,
              "source names a position outside of the input");
    h.source = writer.append(from, positions);
  }
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string any(const OpSpec&, Isa) { return ""; }

}  // namespace

std::vector<OperatorType> types() {
  std::vector<OperatorType> all;
  for (const auto& row : kKinds)
    for (OperatorType type : simple_types<MapU8>(row.kind, pack, any)) {
      type.types = kFloatsAndBytes;
      all.push_back(type);
    }
  return all;
}

}  // namespace activsparse::maps_u8
