// The first convolution of a network: a graph input in NCHW with at most 4 channels, read where it
// lies.
//
// For one output row, the input rows it needs are copied into scratch with their padding (a few
// percent of the work). There every output position sees its window at the same distances, so a
// tile of the matrix product takes one pointer per row and one table of distances, over all
// channels and taps as a single reduction.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "operators/conv_params.h"
#include "operators/panels.h"
#include "operators/source_fill.h"

namespace activsparse {
namespace {

constexpr int kMaxChannels = 4;

struct Header {
  ConvParams params;
  SourceFillHeader fill;
  int32_t has_mask;
  uint64_t weights, bias, skipped_value, columns, kept;
};

int64_t depth_of(const ConvParams& p) { return int64_t{p.input.c} * p.taps(); }

class ConvStem : public Operator {
 public:
  ConvStem(const BlobView& blob, Isa isa)
      : h_(blob.header<Header>()),
        kernels_(kernels_for(isa)),
        panels_(kernels_, 1, h_.params.output.c, depth_of(h_.params),
                kernels_.gemm_f32.max_vectors),
        fill_(blob, h_.fill, h_.params.output) {
    const ConvParams& p = h_.params;
    weights_ = blob.array<float>(h_.weights, panels_.weight_floats());
    bias_ = blob.array<float>(h_.bias, panels_.channel_floats());
    skipped_value_ = blob.array<float>(h_.skipped_value, panels_.channel_floats());
    if (h_.has_mask) {
      columns_ = blob.array<int32_t>(h_.columns, int64_t{p.output.h} * p.output.w);
      kept_ = blob.array<int32_t>(h_.kept, p.output.h);
      for (int i = 0; i < p.output.h * p.output.w; ++i)
        require(columns_[i] >= 0 && columns_[i] < p.output.w);
      for (int y = 0; y < p.output.h; ++y) require(kept_[y] >= 0 && kept_[y] <= p.output.w);
    }
    row_floats_ = (p.output.w - 1) * p.stride_w + (p.kernel_w - 1) * p.dilation_w + 1;
    for (int c = 0; c < p.input.c; ++c)
      for (int ky = 0; ky < p.kernel_h; ++ky)
        for (int kx = 0; kx < p.kernel_w; ++kx)
          distances_.push_back((c * p.kernel_h + ky) * row_floats_ + kx * p.dilation_w);
  }

  int phases() const override { return fill_.empty() ? 1 : 2; }
  int tasks(int phase) const override {
    return phase == 0 ? h_.params.output.n * h_.params.output.h : SourceFill::kTasks;
  }
  std::size_t scratch_bytes() const override {
    return (3 * kMaxTileRows + 1) * sizeof(float*) + window_floats() * sizeof(float);
  }
  std::size_t index_bytes() const override {
    const TensorDesc& out = h_.params.output;
    return fill_.bytes() + (h_.has_mask ? sizeof(int32_t) * out.h * (out.w + 1) : 0);
  }
  double macs() const override {
    const TensorDesc& out = h_.params.output;
    double positions = double(out.h) * out.w;
    if (h_.has_mask) positions = std::accumulate(kept_, kept_ + out.h, 0.0);
    return positions * out.n * out.c * depth_of(h_.params);
  }
  std::string kernel() const override {
    const int vectors = panels_.all()[0].vectors;
    return std::string(kernels_.isa) + " " +
           std::to_string(kernels_.gather_gemm_f32.max_rows[vectors - 1]) + "x" +
           std::to_string(vectors * kernels_.width);
  }

  void run(const RunArgs& args, int phase, int begin, int end) const override {
    if (phase == 1) return fill_.run(args.outputs[0], begin, end);
    const ConvParams& p = h_.params;
    for (int task = begin; task < end; ++task) {
      const int image = task / p.output.h, y = task % p.output.h;
      float* window = reinterpret_cast<float*>(args.scratch);
      copy_window(args.inputs[0] + int64_t{image} * p.input.c * p.input.h * p.input.w, y, window);
      const int32_t* columns = h_.has_mask ? columns_ + int64_t{y} * p.output.w : nullptr;
      const int kept = h_.has_mask ? kept_[y] : p.output.w;
      run_row(args, task, window, columns, 0, kept, false);
      if (kept < p.output.w && fill_.empty())
        run_row(args, task, window, columns, kept, p.output.w, true);
    }
  }

 private:
  static void require(bool condition) {
    if (!condition) throw Error("the packed convolution is damaged; compile the model again");
  }

  // Rounded up, so that the pointers behind it are aligned.
  int64_t window_floats() const {
    return (int64_t{h_.params.input.c} * h_.params.kernel_h * row_floats_ + 15) / 16 * 16;
  }

  // window[c][ky] = the input row that tap row ky of output row y reads, from column -pad_left.
  void copy_window(const float* image, int y, float* window) const {
    const ConvParams& p = h_.params;
    const int left = std::min(p.pad_left, row_floats_);
    const int inside = std::clamp(p.input.w, 0, row_floats_ - left);
    for (int c = 0; c < p.input.c; ++c)
      for (int ky = 0; ky < p.kernel_h; ++ky, window += row_floats_) {
        const int iy = y * p.stride_h - p.pad_top + ky * p.dilation_h;
        if (iy < 0 || iy >= p.input.h) {
          std::fill_n(window, row_floats_, 0.0f);
          continue;
        }
        std::fill_n(window, left, 0.0f);
        std::memcpy(window + left, image + (int64_t{c} * p.input.h + iy) * p.input.w,
                    sizeof(float) * inside);
        std::fill(window + left + inside, window + row_floats_, 0.0f);
      }
  }

  // Positions begin..end of `columns` (nullptr: every column) of one output row.
  void run_row(const RunArgs& run, int row, const float* window, const int32_t* columns, int begin,
               int end, bool skipped) const {
    const ConvParams& p = h_.params;
    const float** rows =
        reinterpret_cast<const float**>(run.scratch + window_floats() * sizeof(float));
    const float** residual = rows + kMaxTileRows;
    float** out = const_cast<float**>(residual + kMaxTileRows);
    const float* weights = nullptr;
    GemmArgs args{};
    args.rows = rows;
    args.weights = &weights;
    args.distances = distances_.data();
    args.taps = skipped ? 0 : 1;
    args.channels = static_cast<int>(depth_of(p));
    args.out = out;
    args.residual = p.has_residual ? residual : nullptr;
    args.epilogue = &p.epilogue;
    for (const Panel& panel : panels_.all()) {
      weights = weights_ + panel.weights;
      args.start = (skipped ? skipped_value_ : bias_) + panel.channels;
      set_lanes(args, panel, p.output, kernels_.width);
      const int max_rows = kernels_.gather_gemm_f32.max_rows[panel.vectors - 1];
      const int count = end - begin, tiles = (count + max_rows - 1) / max_rows;
      for (int t = 0; t < tiles; ++t) {
        const int first = begin + count * t / tiles, last = begin + count * (t + 1) / tiles;
        for (int i = first; i < last; ++i) {
          const int x = columns ? columns[i] : i;
          const int64_t pixel = int64_t{row} * p.output.w + x;
          rows[i - first] = window + x * p.stride_w;
          out[i - first] = run.outputs[0] + pixel * p.output.stride + panel.first;
          if (p.has_residual)
            residual[i - first] = run.inputs[1] + pixel * p.residual.stride + panel.first;
        }
        kernels_.gather_gemm_f32.tile[panel.vectors - 1][last - first - 1](args);
      }
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  Panels panels_;
  SourceFill fill_;
  int row_floats_;
  std::vector<int32_t> distances_;
  const float *weights_, *bias_, *skipped_value_;
  const int32_t *columns_ = nullptr, *kept_ = nullptr;
};

Blob pack(const OpSpec& spec, Isa isa) {
  const Kernels& kernels = kernels_for(isa);
  Header h{};
  h.params = conv_params_of(spec);
  const ConvParams& p = h.params;
  const int64_t depth = depth_of(p);
  const Panels panels(kernels, 1, p.output.c, depth, kernels.gemm_f32.max_vectors);
  BlobWriter writer;
  writer.append<Header>(1);
  const float* weight = spec.float_array("weight");
  h.weights = panels.pack_weights(writer, [&](int o, int64_t k) { return weight[o * depth + k]; });
  h.bias = panels.pack_channels(writer, spec.float_array("bias"));
  h.skipped_value = panels.pack_channels(writer, spec.float_array("skipped_value"));
  if (const ArrayView* array = spec.array("mask")) {
    // Of each row, the kept columns, then the skipped ones.
    const auto* mask = static_cast<const uint8_t*>(array->data);
    std::vector<int32_t> columns, kept;
    for (int y = 0; y < p.output.h; ++y, mask += p.output.w) {
      const std::size_t row = columns.size();
      for (int x = 0; x < p.output.w; ++x) columns.push_back(x);
      const auto end = std::stable_partition(columns.begin() + row, columns.end(),
                                             [&](int32_t x) { return mask[x] != 0; });
      kept.push_back(static_cast<int32_t>(end - columns.begin() - row));
    }
    h.has_mask = 1;
    h.columns = writer.append(columns.data(), columns.size());
    h.kept = writer.append(kept.data(), kept.size());
  }
  h.fill = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa) {
  if (!spec.inputs[0].nchw) return "the input is not NCHW";
  if (spec.outputs[0].nchw) return "the output is NCHW";
  if (spec.inputs[0].c > kMaxChannels) return "the input has more than 4 channels";
  if (spec.int_or("group", 1) != 1) return "it has groups";
  return "";
}

}  // namespace

std::vector<OperatorType> conv_stem_types() {
  return {{"conv", "stem", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvStem>(blob, isa);
           }}};
}

}  // namespace activsparse
