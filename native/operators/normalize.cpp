// normalize: y = activation((x - mean) / sqrt(variance + epsilon) * scale[c] + shift[c]), mean and
// variance over
//   groups = 0: the channels of each position by itself (a layer norm over channels),
//   groups = g: all positions of each of g groups of channels (a group norm; g = C: an instance
//               norm).
// The first is one pass over pixels. The second takes two phases: moments of every channel, and,
// when all are there, each group's from those of its channels, and the pixels.
#include "operators/simple.h"

namespace activsparse::normalize {
namespace {

struct Header {
  TensorDesc input, output;
  Epilogue epilogue;
  int32_t groups;
  int32_t columns;  // channels of a task of the first phase
  float epsilon;
  uint64_t tables;  // (2, C): scale and shift
};

constexpr int64_t kColumns = 64;   // at most, channels of a task of the first phase
constexpr int64_t kLine = 16;      // floats of a cache line
constexpr int64_t kPixels = 1024;  // at most, of a task of the second one

class Normalize : public Operator {
 public:
  Normalize(const BlobView& blob, const Kernels& kernels)
      : h_(unary_header<Header>(blob)),
        kernels_(kernels),
        scale_(blob.array<float>(h_.tables, 2 * int64_t{h_.input.c})),
        shift_(scale_ + h_.input.c),
        channels_(h_.input.c),
        positions_(int64_t{h_.input.h} * h_.input.w) {
    require_packed(h_.epilogue);
    require_packed(same_shape(h_.input, h_.output) && !h_.input.nchw && !h_.output.nchw);
    require_packed(h_.columns >= 1 && h_.groups >= 0 && h_.epsilon >= 0 &&
                   (h_.groups == 0 || channels_ % h_.groups == 0));
    blocks_ = divide_up(channels_, h_.columns);
    // What a task computes of the groups is little next to its pixels.
    per_task_ = std::min({positions_, kPixels, std::max<int64_t>(pixels_per_task(channels_), 64)});
    if (h_.groups == 0) per_task_ = pixels_per_task(channels_);
    parts_ = divide_up(positions_, per_task_);
  }
  std::vector<TensorDesc> inputs() const override { return {h_.input}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  std::string kernel() const override { return kernels_.isa; }
  int phases() const override { return h_.groups == 0 ? 1 : 2; }
  int tasks(int phase) const override {
    if (h_.groups == 0) return static_cast<int>(divide_up(h_.input.pixels(), per_task_));
    return static_cast<int>(h_.input.n * (phase == 0 ? blocks_ : parts_));
  }
  std::size_t scratch_bytes() const override {
    return h_.groups == 0 ? 0 : sizeof(float) * 3 * channels_;
  }
  std::size_t shared_scratch_bytes() const override {
    return h_.groups == 0 ? 0 : sizeof(float) * 2 * channels_ * h_.input.n;
  }

  void run(const RunArgs& args, int phase, int begin, int end) const override {
    if (h_.groups == 0) {
      const int64_t last = std::min(end * per_task_, h_.input.pixels());
      for (int64_t pixel = begin * per_task_; pixel < last; ++pixel) normalize(args, pixel);
      return;
    }
    for (int task = begin; task < end; ++task) {
      if (phase == 0)
        measure(args, task / blocks_, task % blocks_ * h_.columns);
      else
        apply(args, task / parts_, task % parts_ * per_task_);
    }
  }

 private:
  void normalize(const RunArgs& args, int64_t pixel) const {
    NormalizeArgs row{};
    row.x = args.in(0) + pixel * h_.input.stride;
    row.out = args.out(0) + pixel * h_.output.stride;
    row.scale = scale_, row.shift = shift_;
    row.count = channels_;
    row.epsilon = h_.epsilon;
    row.epilogue = &h_.epilogue;
    kernels_.normalize_f32.row(row);
  }

  float* means_of(const RunArgs& args, int64_t image) const {
    return reinterpret_cast<float*>(args.shared_scratch) + image * 2 * channels_;
  }

  void measure(const RunArgs& args, int64_t image, int64_t channel) const {
    MomentsArgs moments{};
    moments.x = args.in(0) + image * positions_ * h_.input.stride + channel;
    moments.rows = positions_;
    moments.stride = h_.input.stride;
    moments.count = std::min<int64_t>(h_.columns, channels_ - channel);
    moments.means = means_of(args, image) + channel;
    moments.squares = moments.means + channels_;
    kernels_.normalize_f32.moments(moments);
  }

  // Each channel's mean, factor and shift, and the pixels of a task by them. The mean is taken off
  // before the factor is applied: in the shift it would leave its rounding to values all alike,
  // whose factor is large.
  void apply(const RunArgs& args, int64_t image, int64_t first) const {
    const float *means = means_of(args, image), *squares = means + channels_;
    float* centres = reinterpret_cast<float*>(args.scratch);
    float *factors = centres + channels_, *shifts = factors + channels_;
    const int64_t size = channels_ / h_.groups;
    for (int64_t begin = 0; begin < channels_; begin += size) {
      double mean = 0, variance = 0;
      for (int64_t c = begin; c < begin + size; ++c) mean += means[c];
      mean /= static_cast<double>(size);
      for (int64_t c = begin; c < begin + size; ++c) {
        const double off = means[c] - mean;
        variance += squares[c] / static_cast<double>(positions_) + off * off;
      }
      const double inverse = 1 / std::sqrt(variance / static_cast<double>(size) + h_.epsilon);
      const float centre = static_cast<float>(mean);
      for (int64_t c = begin; c < begin + size; ++c) {
        centres[c] = centre;
        factors[c] = static_cast<float>(inverse * scale_[c]);
        shifts[c] = static_cast<float>(shift_[c] + (centre - mean) * inverse * scale_[c]);
      }
    }
    CentreArgs rows{};
    rows.x = args.in(0) + (image * positions_ + first) * h_.input.stride;
    rows.means = centres, rows.factors = factors, rows.shifts = shifts;
    rows.out = args.out(0) + (image * positions_ + first) * h_.output.stride;
    rows.rows = std::min(per_task_, positions_ - first);
    rows.stride = h_.input.stride, rows.out_stride = h_.output.stride;
    rows.count = channels_;
    rows.epilogue = &h_.epilogue;
    kernels_.normalize_f32.centre(rows);
  }

  const Header& h_;
  const Kernels& kernels_;
  const float *scale_, *shift_;
  const int64_t channels_, positions_;
  int64_t blocks_, per_task_, parts_;
};

Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 1);
  Header h{};
  h.input = spec.inputs[0];
  h.output = spec.outputs[0];
  h.epilogue = epilogue_of(spec);
  h.groups = static_cast<int32_t>(spec.int_or("groups", 0));
  h.epsilon = static_cast<float>(spec.float_or("epsilon", 0));
  // Cache lines of channels, so many that all threads get some.
  const int64_t share = divide_up(divide_up(h.input.c, spec.threads), kLine) * kLine;
  h.columns = static_cast<int32_t>(std::min(kColumns, share));
  require(spec, same_shape(h.input, h.output), "input and output differ in shape");
  require(spec, h.groups >= 0 && (h.groups == 0 || h.input.c % h.groups == 0),
          "groups must divide the channels");
  require(spec, h.epsilon >= 0, "epsilon must not be negative");
  BlobWriter writer;
  writer.append<Header>(1);
  h.tables = writer.append<float>(2 * int64_t{h.input.c});
  float* table = writer.at<float>(h.tables);
  for (const char* name : {"scale", "shift"}) {
    const ArrayView* values = spec.array(name);
    require(spec, values && values->dtype == 'f' && values->size() == h.input.c,
            std::string(name) + " must be a float32 array (C)");
    table = std::copy_n(static_cast<const float*>(values->data), h.input.c, table);
  }
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() { return simple_types<Normalize>("normalize", pack); }

}  // namespace activsparse::normalize
