// constant: a result that depends on no input, copied out of the plan at every run.
#include <cstring>

#include "operators/simple.h"

namespace activsparse::constant {
namespace {

struct Header {
  TensorDesc output;
  uint64_t value;
};

class Constant : public Operator {
 public:
  Constant(const BlobView& blob, const Kernels&)
      : h_(blob.header<Header>()), value_(blob.array<float>(h_.value, h_.output.c)) {
    require_packed(h_.output);
    require_packed(h_.output.pixels() == 1);
  }
  std::vector<TensorDesc> inputs() const override { return {}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override { return 1; }

  void run(const RunArgs& args, int, int, int) const override {
    std::memcpy(args.out(0), value_, sizeof(float) * h_.output.c);
  }

 private:
  const Header& h_;
  const float* value_;
};

Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 0);
  Header h{spec.outputs[0], 0};
  const ArrayView* value = spec.array("value");
  require(spec, h.output.pixels() == 1, "the output must be one pixel");
  require(spec, value && value->dtype == 'f' && value->size() == h.output.c,
          "value must be a float32 array of as many elements as the output");
  BlobWriter writer;
  writer.append<Header>(1);
  h.value = writer.append(static_cast<const float*>(value->data), h.output.c);
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() { return simple_types<Constant>("constant", pack); }

}  // namespace activsparse::constant
