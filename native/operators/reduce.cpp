// reduce: one number of many, along those axes of a view along which the output's stride is 0:
// sum, mean, maximum, minimum, sum of magnitudes (l1), root of the sum of squares (l2), product.
// Sums are of double precision. A NaN among the numbers gives NaN.
//
// Neighbours of the output whose inputs are neighbours as well are computed side by side, up to
// kChunk at once; elsewhere each output is computed by itself.
#include "operators/simple.h"
#include "operators/view_axes.h"

namespace activsparse::reduce {
namespace {

enum class Function : int32_t { kSum, kMean, kMaximum, kMinimum, kL1, kL2, kProduct };

struct Header {
  Function function;
  Epilogue epilogue;
  ViewAxes axes;
  int32_t kept;  // axes of the output; those behind are reduced
  TensorDesc input, output;
};

constexpr int64_t kChunk = 256;

class Reduce : public Operator {
 public:
  Reduce(const BlobView& blob, const Kernels& kernels)
      : h_(unary_header<Header>(blob)), kernels_(kernels) {
    const ViewAxes& axes = h_.axes;
    require_packed(h_.function >= Function::kSum && h_.function <= Function::kProduct);
    require_packed(h_.epilogue);
    require_packed(axes.sound() && axes.stays_inside(0, tensor_extent(h_.output)) &&
                   axes.stays_inside(1, tensor_extent(h_.input)));
    require_packed(h_.kept >= 0 && h_.kept <= axes.rank);
    for (int i = 0; i < axes.rank; ++i) {
      (i < h_.kept ? outputs_ : reduced_) *= axes.size[i];
      require_packed(i < h_.kept || axes.stride[i][0] == 0);
    }
    if (h_.kept > 0) {  // the last kept axis is the row
      row_ = axes.size[h_.kept - 1];
      step_ = axes.stride[h_.kept - 1];
    }
    rows_ = outputs_ / row_;
    chunks_ = divide_up(row_, kChunk);
    per_task_ = pixels_per_task(std::min(row_, kChunk) * reduced_);
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override { return static_cast<int>(divide_up(rows_ * chunks_, per_task_)); }
  std::string kernel() const override { return kernels_.isa; }

  void run(const RunArgs& args, int, int begin, int end) const override {
    const int64_t last = std::min(end * per_task_, rows_ * chunks_);
    for (int64_t i = begin * per_task_; i < last; ++i) chunk(args, i / chunks_, i % chunks_);
  }

 private:
  void chunk(const RunArgs& args, int64_t row, int64_t part) const {
    const ViewAxes& axes = h_.axes;
    const int64_t first = part * kChunk, count = std::min(kChunk, row_ - first);
    int64_t at[2] = {axes.offset[0] + first * step_[0], axes.offset[1] + first * step_[1]};
    for (int i = h_.kept - 2; i >= 0; --i) {
      for (int o = 0; o < 2; ++o) at[o] += row % axes.size[i] * axes.stride[i][o];
      row /= axes.size[i];
    }
    double sums[kChunk];
    reduce(args.in(0) + at[1], step_[1], count, sums);
    float out[kChunk];
    for (int64_t k = 0; k < count; ++k) out[k] = finished(sums[k]);
    kernels_.activate_f32.run(out, out, count, h_.epilogue);
    for (int64_t k = 0; k < count; ++k) args.out(0)[at[0] + k * step_[0]] = out[k];
  }

  void reduce(const float* in, int64_t step, int64_t count, double* sums) const {
    switch (h_.function) {
      case Function::kSum:
      case Function::kMean:
        return over(in, step, count, sums, 0, [](double s, double x) { return s + x; });
      case Function::kL1:
        return over(in, step, count, sums, 0, [](double s, double x) { return s + std::fabs(x); });
      case Function::kL2:
        return over(in, step, count, sums, 0, [](double s, double x) { return s + x * x; });
      case Function::kProduct:
        return over(in, step, count, sums, 1, [](double s, double x) { return s * x; });
      case Function::kMaximum:
        return over(in, step, count, sums, -INFINITY,
                    [](double s, double x) { return s > x || s != s ? s : x; });
      case Function::kMinimum:
        return over(in, step, count, sums, INFINITY,
                    [](double s, double x) { return s < x || s != s ? s : x; });
    }
  }

  float finished(double sum) const {
    if (h_.function == Function::kMean) sum /= static_cast<double>(reduced_);
    return static_cast<float>(h_.function == Function::kL2 ? std::sqrt(sum) : sum);
  }

  // Walks the reduced axes; of the last one all elements of an output where it stands alone.
  template <class Add>
  void over(const float* in, int64_t step, int64_t count, double* sums, double start,
            const Add& add) const {
    std::fill_n(sums, count, start);
    const ViewAxes& axes = h_.axes;
    const bool nested = axes.rank > h_.kept;
    const int64_t inner = nested ? axes.size[axes.rank - 1] : 1;
    const int64_t inner_step = nested ? axes.stride[axes.rank - 1][1] : 0;
    for (int64_t outer = 0; outer < reduced_ / inner; ++outer) {
      const float* from = in;
      int64_t rest = outer;
      for (int i = axes.rank - 2; i >= h_.kept; --i) {
        from += rest % axes.size[i] * axes.stride[i][1];
        rest /= axes.size[i];
      }
      if (count > 1 && step == 1) {
        for (int64_t i = 0; i < inner; ++i, from += inner_step)
          for (int64_t k = 0; k < count; ++k) sums[k] = add(sums[k], from[k]);
        continue;
      }
      for (int64_t k = 0; k < count; ++k) {
        double sum = sums[k];
        for (int64_t i = 0; i < inner; ++i) sum = add(sum, from[k * step + i * inner_step]);
        sums[k] = sum;
      }
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  static constexpr int64_t kAlone[2] = {0, 0};
  int64_t outputs_ = 1, reduced_ = 1, row_ = 1, rows_, chunks_, per_task_;
  const int64_t* step_ = kAlone;
};

Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  static const std::map<std::string, Function> kFunctions = {
      {"sum", Function::kSum},         {"mean", Function::kMean}, {"maximum", Function::kMaximum},
      {"minimum", Function::kMinimum}, {"l1", Function::kL1},     {"l2", Function::kL2},
      {"product", Function::kProduct}};
  Header h{};
  h.epilogue = epilogue_of(spec);
  h.input = spec.inputs[0];
  h.output = spec.outputs[0];
  const auto found = kFunctions.find(spec.string_or("function", ""));
  require(spec, found != kFunctions.end(), "unknown function");
  h.function = found->second;
  h.axes = ViewAxes::of(spec, {"x"}, {});  // sorted by the output's strides, those of 0 last
  while (h.kept < h.axes.rank && h.axes.stride[h.kept][0] > 0) ++h.kept;
  h.axes.choose_kept_row(h.kept);
  return pack_header(h);
}

std::string any_layout(const OpSpec&, Isa) { return ""; }

}  // namespace

std::vector<OperatorType> types() { return simple_types<Reduce>("reduce", pack, any_layout); }

}  // namespace activsparse::reduce
