// to_float16 and to_float32: the same values in another type, rounded once, or exactly.
#include "operators/simple.h"

namespace activsparse::convert_f16 {
namespace {

struct Header {
  TensorDesc input, output;
};

template <DType to>
class Convert : public Operator {
 public:
  Convert(const BlobView& blob, const Kernels& kernels)
      : h_(blob.header<Header>()), kernels_(kernels), per_task_(pixels_per_task(h_.output.c)) {
    constexpr bool narrows = to == DType::kFloat16;
    require_packed(h_.input, narrows ? DType::kFloat32 : DType::kFloat16);
    require_packed(h_.output, to);
    require_packed(same_shape(h_.input, h_.output) && !h_.input.nchw && !h_.output.nchw);
    lanes_ = lanes_of({&h_.output, &h_.input});
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override {
    return static_cast<int>(divide_up(h_.output.pixels(), per_task_));
  }
  std::string kernel() const override { return kernels_.isa; }

  void run(const RunArgs& args, int, int begin, int end) const override {
    const int64_t last = std::min(end * per_task_, h_.output.pixels());
    for (int64_t pixel = begin * per_task_; pixel < last; ++pixel) {
      const int64_t from = pixel * h_.input.stride, at = pixel * h_.output.stride;
      if constexpr (to == DType::kFloat16)
        kernels_.convert_f16.narrow(args.in(0) + from, args.out<Half>(0) + at, lanes_);
      else
        kernels_.convert_f16.widen(args.in<Half>(0) + from, args.out(0) + at, lanes_);
    }
  }

 private:
  const Header& h_;
  const Kernels& kernels_;
  const int64_t per_task_;
  int64_t lanes_;
};

template <DType to>
Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  const TensorDesc &in = spec.inputs[0], &out = spec.outputs[0];
  require(spec, same_shape(in, out), "input and output differ in shape");
  require(spec, out.dtype == to && in.dtype != to, "its tensors are of the wrong types");
  return pack_header(Header{in, out});
}

template <DType to>
void add_kind(std::vector<OperatorType>& all, const char* kind) {
  all.push_back({kind, "vector", nhwc_only, pack<to>,
                 [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
                   require_halves(isa);
                   return std::make_unique<Convert<to>>(blob, kernels_for(isa));
                 },
                 kFloatsAndHalves});
}

}  // namespace

std::vector<OperatorType> types() {
  std::vector<OperatorType> all;
  add_kind<DType::kFloat16>(all, "to_float16");
  add_kind<DType::kFloat32>(all, "to_float32");
  return all;
}

}  // namespace activsparse::convert_f16
