// softmax over the channels of every pixel.
#include "operators/simple.h"

namespace activsparse::softmax {
namespace {

struct Header {
  TensorDesc input, output;
};

class Softmax : public Operator {
 public:
  Softmax(const BlobView& blob, const Kernels& kernels)
      : h_(unary_header<Header>(blob)), kernels_(kernels), per_task_(pixels_per_task(h_.input.c)) {
    require_packed(same_shape(h_.input, h_.output) && !h_.input.nchw && !h_.output.nchw);
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override {
    return static_cast<int>(divide_up(h_.input.pixels(), per_task_));
  }
  std::string kernel() const override { return kernels_.isa; }

  void run(const RunArgs& args, int, int begin, int end) const override {
    const int64_t last = std::min(end * per_task_, h_.input.pixels());
    for (int64_t p = begin * per_task_; p < last; ++p)
      kernels_.softmax_f32.run(args.in(0) + p * h_.input.stride, args.out(0) + p * h_.output.stride,
                               h_.input.c);
  }

 private:
  const Header& h_;
  const Kernels& kernels_;
  const int64_t per_task_;
};

Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  require(spec, same_shape(spec.inputs[0], spec.outputs[0]) && spec.inputs[0].c >= 1,
          "input and output differ in shape");
  return pack_header(Header{spec.inputs[0], spec.outputs[0]});
}

}  // namespace

std::vector<OperatorType> types() { return simple_types<Softmax>("softmax", pack); }

}  // namespace activsparse::softmax
