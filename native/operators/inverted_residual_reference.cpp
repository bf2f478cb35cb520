// The definition of an inverted residual: its stages one after the other, each by the reference
// convolution.
#include "operators/checks.h"
#include "operators/residual_stages.h"

namespace activsparse::inverted_residual_reference {
namespace {

struct Header {
  int32_t stages;
  struct Stage {
    uint64_t blob, bytes;
    int64_t output_floats;  // 0: the operator's output
  } stage[3];
  int32_t has_residual;
};

class InvertedResidualReference : public Operator {
 public:
  InvertedResidualReference(const BlobView& blob, Isa isa) : h_(blob.header<Header>()) {
    const OperatorType& conv = find_operator_type("conv", "reference");
    require_packed(h_.stages >= 1 && h_.stages <= 3);
    for (int i = 0; i < h_.stages; ++i) {
      const Header::Stage& stage = h_.stage[i];
      stages_.push_back(
          conv.create({blob.array<uint8_t>(stage.blob, stage.bytes), stage.bytes}, isa));
      const Operator& made = *stages_.back();
      const bool last = i + 1 == h_.stages;
      require_packed(made.inputs().size() == 1 || last);
      if (i > 0) require_packed(fits(made.inputs()[0], stages_[i - 1]->outputs()[0]));
      const TensorDesc out = made.outputs()[0];
      require_packed(stage.output_floats == (last ? 0 : out.pixels() * out.stride));
    }
    require_packed((h_.has_residual != 0) == (stages_.back()->inputs().size() == 2));
  }
  std::vector<TensorDesc> inputs() const override {
    std::vector<TensorDesc> all = stages_.back()->inputs();
    all[0] = stages_.front()->inputs()[0];
    return all;
  }
  std::vector<TensorDesc> outputs() const override { return stages_.back()->outputs(); }
  int phases() const override { return h_.stages; }
  int tasks(int phase) const override { return stages_[phase]->tasks(0); }
  std::size_t shared_scratch_bytes() const override {
    int64_t floats = 0;
    for (int i = 0; i < h_.stages; ++i) floats += h_.stage[i].output_floats;
    return floats * sizeof(float);
  }
  std::string kernel() const override { return "scalar naive"; }

  void run(const RunArgs& args, int phase, int begin, int end) const override {
    float* between = reinterpret_cast<float*>(args.shared_scratch);
    const float* in = args.in(0);
    for (int i = 0; i < phase; ++i) {
      in = between;
      between += h_.stage[i].output_floats;
    }
    const bool last = phase + 1 == h_.stages;
    const void* inputs[2] = {in, last && h_.has_residual ? args.in(1) : nullptr};
    void* outputs[1] = {last ? args.out(0) : between};
    RunArgs stage = args;
    stage.inputs = inputs;
    stage.outputs = outputs;
    stages_[phase]->run(stage, 0, begin, end);
  }

 private:
  const Header& h_;
  std::vector<std::unique_ptr<Operator>> stages_;
};

Blob pack(const OpSpec& spec, Isa isa) {
  const ResidualStages all = residual_stages_of(spec);
  std::vector<const OpSpec*> stages;
  if (all.has_expand) stages.push_back(&all.expand);
  stages.push_back(&all.depthwise);
  if (all.has_project) stages.push_back(&all.project);
  const OperatorType& conv = find_operator_type("conv", "reference");
  BlobWriter writer;
  writer.append<Header>(1);
  Header h{};
  h.stages = static_cast<int32_t>(stages.size());
  h.has_residual = spec.inputs.size() == 2;
  for (int i = 0; i < h.stages; ++i) {
    const Blob blob = conv.pack(*stages[i], isa);
    const TensorDesc& out = stages[i]->outputs[0];
    h.stage[i] = {writer.append(blob.data(), blob.size()), blob.size(),
                  i + 1 < h.stages ? out.pixels() * out.stride : 0};
  }
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"inverted_residual", "reference",
           [](const OpSpec& spec, Isa) {
             return std::string(spec.outputs[0].nchw ? "the output is NCHW" : "");
           },
           pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<InvertedResidualReference>(blob, isa);
           }}};
}

}  // namespace activsparse::inverted_residual_reference
