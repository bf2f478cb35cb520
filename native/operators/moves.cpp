// Operators that move whole pixels: copy, concat, resize_nearest, and by a list of positions
// gather_positions (what fills holes) and resize_positions (at scales that are not whole). By
// memmove: in a forged plan the output may overlap an input, and still nothing may go wrong but the
// numbers. Of bytes there is concat alone.
#include <cstring>
#include <string_view>

#include "operators/simple.h"

namespace activsparse::moves {
namespace {

enum class Move : int32_t { kCopy, kResize, kGather };

struct Header {
  Move move;
  Epilogue epilogue;
  TensorDesc input, output;
  int32_t scale_h, scale_w;
  uint64_t source;
};

bool positions_lie_inside(const int32_t* index, int64_t count, const TensorDesc& tensor) {
  return std::all_of(index, index + count,
                     [&](int32_t i) { return i >= 0 && i < int64_t{tensor.h} * tensor.w; });
}

class MovePixels : public Operator {
 public:
  MovePixels(const BlobView& blob, const Kernels& kernels)
      : h_(blob.header<Header>()), kernels_(kernels), per_task_(pixels_per_task(h_.output.c)) {
    const TensorDesc &in = h_.input, &out = h_.output;
    require_packed(in, out.dtype);
    require_packed(out, out.dtype);
    require_packed(out.dtype != DType::kU8);
    require_packed(h_.epilogue);
    // Nobody makes activations of float16 an epilogue of a move.
    require_packed(h_.epilogue.activation == Activation::kNone || out.dtype == DType::kFloat32);
    require_packed(!in.nchw && !out.nchw && in.n == out.n && in.c == out.c);
    if (h_.move == Move::kGather) {
      const int64_t positions = int64_t{out.h} * out.w;
      source_ = blob.array<int32_t>(h_.source, positions);
      require_packed(positions_lie_inside(source_, positions, in));
    } else {
      require_packed((h_.move == Move::kResize || h_.move == Move::kCopy) && h_.scale_h >= 1 &&
                     h_.scale_w >= 1 && out.h == int64_t{in.h} * h_.scale_h &&
                     out.w == int64_t{in.w} * h_.scale_w);
    }
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override {
    return static_cast<int>(divide_up(h_.output.pixels(), per_task_));
  }
  std::string kernel() const override { return kernels_.isa; }
  std::size_t index_bytes() const override {
    return source_ ? sizeof(int32_t) * h_.output.h * h_.output.w : 0;
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    const int64_t last = std::min(end * per_task_, h_.output.pixels());
    const int64_t positions = int64_t{h_.output.h} * h_.output.w;
    const int64_t item = size_of(h_.output.dtype);
    for (int64_t pixel = begin * per_task_; pixel < last; ++pixel) {
      const int64_t image = pixel / positions;
      const int64_t from = image * h_.input.h * h_.input.w + source_of(pixel - image * positions);
      if (h_.epilogue.activation == Activation::kNone)
        std::memmove(args.out<uint8_t>(0) + item * pixel * h_.output.stride,
                     args.in<uint8_t>(0) + item * from * h_.input.stride, item * h_.output.c);
      else
        kernels_.activate_f32.run(args.in(0) + from * h_.input.stride,
                                  args.out(0) + pixel * h_.output.stride, h_.output.c, h_.epilogue);
    }
  }

 private:
  int64_t source_of(int64_t position) const {
    if (h_.move == Move::kCopy) return position;
    if (h_.move == Move::kGather) return source_[position];
    const int64_t y = position / h_.output.w, x = position % h_.output.w;
    return y / h_.scale_h * h_.input.w + x / h_.scale_w;
  }

  const Header& h_;
  const Kernels& kernels_;
  const int64_t per_task_;
  const int32_t* source_ = nullptr;
};

Header header_of(const OpSpec& spec, Move move) {
  require_counts(spec, 1);
  Header h{};
  h.move = move;
  h.epilogue = epilogue_of(spec);
  h.input = spec.inputs[0];
  h.output = spec.outputs[0];
  h.scale_h = h.scale_w = 1;
  require(spec, h.input.dtype == h.output.dtype, "input and output differ in type");
  require(spec, h.epilogue.activation == Activation::kNone || h.output.dtype == DType::kFloat32,
          "what moves float16 has no activation");
  return h;
}

Blob pack_copy(const OpSpec& spec, Isa) {
  const Header h = header_of(spec, Move::kCopy);
  require(spec, same_shape(h.input, h.output), "input and output differ in shape");
  return pack_header(h);
}

Blob pack_resize(const OpSpec& spec, Isa) {
  Header h = header_of(spec, Move::kResize);
  h.scale_h = static_cast<int32_t>(spec.int_or("scale_h", 1));
  h.scale_w = static_cast<int32_t>(spec.int_or("scale_w", 1));
  require(spec,
          h.scale_h >= 1 && h.scale_w >= 1 && h.output.h == int64_t{h.input.h} * h.scale_h &&
              h.output.w == int64_t{h.input.w} * h.scale_w && h.input.n == h.output.n &&
              h.input.c == h.output.c,
          "the output's size is not the input's times the scales");
  return pack_header(h);
}

Blob pack_gather(const OpSpec& spec, Isa) {
  Header h = header_of(spec, Move::kGather);
  require(spec, h.input.n == h.output.n && h.input.c == h.output.c,
          "input and output differ in images or channels");
  const ArrayView* source = spec.array("source");
  const int64_t positions = int64_t{h.output.h} * h.output.w;
  require(spec, source && source->dtype == 'i' && source->size() == positions,
          "source must be an int32 array (OH*OW)");
  const auto* index = static_cast<const int32_t*>(source->data);
  require(spec, positions_lie_inside(index, positions, h.input),
          "source names a position outside of the input");
  BlobWriter writer;
  writer.append<Header>(1);
  h.source = writer.append(index, positions);
  *writer.at<Header>(0) = h;
  return writer.take();
}

struct ConcatHeader {
  TensorDesc output;
  int32_t inputs;
  uint64_t parts;
};

class Concat : public Operator {
 public:
  Concat(const BlobView& blob, const Kernels&)
      : h_(blob.header<ConcatHeader>()),
        parts_(blob.array<TensorDesc>(h_.parts, std::max(h_.inputs, 0))),
        per_task_(pixels_per_task(h_.output.c)) {
    const DType type = h_.output.dtype;
    require_packed(h_.output, type);
    require_packed(h_.inputs >= 1 && !h_.output.nchw);
    int64_t channels = 0;
    for (int i = 0; i < h_.inputs; ++i) {
      const TensorDesc& part = parts_[i];
      require_packed(part, type);
      require_packed(!part.nchw && part.n == h_.output.n && part.h == h_.output.h &&
                     part.w == h_.output.w);
      channels += part.c;
    }
    require_packed(channels <= h_.output.c);
    require_packed(channels == h_.output.c || type == DType::kFloat32);
  }
  std::vector<TensorDesc> inputs() const override { return {parts_, parts_ + h_.inputs}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override {
    return static_cast<int>(divide_up(h_.output.pixels(), per_task_));
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    const int64_t last = std::min(end * per_task_, h_.output.pixels());
    const int64_t item = size_of(h_.output.dtype);
    for (int64_t pixel = begin * per_task_; pixel < last; ++pixel) {
      uint8_t* out = args.out<uint8_t>(0) + item * pixel * h_.output.stride;
      uint8_t* const end_of_pixel = out + item * h_.output.c;
      for (int i = 0; i < h_.inputs; ++i) {
        const int64_t bytes = item * parts_[i].c;
        std::memmove(out, args.in<uint8_t>(i) + item * pixel * parts_[i].stride, bytes);
        out += bytes;
      }
      std::memset(out, 0, end_of_pixel - out);  // zeros of float32, of which alone there are some
    }
  }

 private:
  const ConcatHeader& h_;
  const TensorDesc* parts_;
  const int64_t per_task_;
};

Blob pack_concat(const OpSpec& spec, Isa) {
  require_counts(spec, spec.inputs.size());
  const TensorDesc& out = spec.outputs[0];
  int64_t channels = 0;
  for (const TensorDesc& t : spec.inputs) {
    require(spec, t.n == out.n && t.h == out.h && t.w == out.w && t.dtype == out.dtype,
            "an input's size or type is not the output's");
    channels += t.c;
  }
  require(spec, channels + spec.int_or("zeros", 0) == out.c && channels <= out.c,
          "the inputs' channels, and the zeros behind them, do not add up to the output's");
  require(spec, channels == out.c || out.dtype == DType::kFloat32, "zeros are of float32");
  ConcatHeader h{out, static_cast<int32_t>(spec.inputs.size()), 0};
  BlobWriter writer;
  writer.append<ConcatHeader>(1);
  h.parts = writer.append(spec.inputs.data(), spec.inputs.size());
  *writer.at<ConcatHeader>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() {
  std::vector<OperatorType> all;
  for (const auto& types : {simple_types<MovePixels>("copy", pack_copy),
                            simple_types<MovePixels>("resize_nearest", pack_resize),
                            simple_types<MovePixels>("gather_positions", pack_gather),
                            simple_types<MovePixels>("resize_positions", pack_gather),
                            simple_types<Concat>("concat", pack_concat)})
    all.insert(all.end(), types.begin(), types.end());
  for (OperatorType& type : all)
    type.types = std::string_view(type.kind) == "concat" ? kFloatsAndBytes | kFloatsAndHalves
                                                         : kFloatsAndHalves;
  return all;
}

}  // namespace activsparse::moves
