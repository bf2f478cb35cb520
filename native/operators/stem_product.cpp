#include "operators/stem_product.h"

#include <algorithm>
#include <cstring>

namespace activsparse {
namespace {

constexpr int kMaxChannels = 4;
constexpr int kLineFloats = 16;

Panels panels_of(const ConvParams& p, const Kernels& kernels) {
  return Panels(kernels, 1, p.output.c, int64_t{p.input.c} * p.taps(),
                kernels.gemm_f32.max_vectors);
}

}  // namespace

std::string StemProduct::unsupported(const OpSpec& spec) {
  if (!spec.inputs[0].nchw) return "the input is not NCHW";
  if (spec.outputs[0].nchw) return "the output is NCHW";
  if (spec.inputs[0].c > kMaxChannels) return "the input has more than 4 channels";
  if (spec.int_or("group", 1) != 1) return "it has groups";
  return "";
}

StemProductHeader StemProduct::pack(BlobWriter& writer, const OpSpec& spec,
                                    const ConvParams& params, const Kernels& kernels) {
  const Panels panels = panels_of(params, kernels);
  const int64_t depth = int64_t{params.input.c} * params.taps();
  const float* weight = spec.float_array("weight");
  StemProductHeader h{};
  h.weights = panels.pack_weights(writer, [&](int o, int64_t k) { return weight[o * depth + k]; });
  h.bias = panels.pack_channels(writer, spec.float_array("bias"));
  h.skipped_value = panels.pack_channels(writer, spec.float_array("skipped_value"));
  return h;
}

StemProduct::StemProduct(const BlobView& blob, const StemProductHeader& header,
                         const ConvParams& params, const Kernels& kernels)
    : params_(params), kernels_(kernels), panels_(panels_of(params, kernels)) {
  const ConvParams& p = params_;
  weights_ = blob.array<float>(header.weights, panels_.weight_floats());
  bias_ = blob.array<float>(header.bias, panels_.channel_floats());
  skipped_value_ = blob.array<float>(header.skipped_value, panels_.channel_floats());
  row_floats_ = (p.output.w - 1) * p.stride_w + (p.kernel_w - 1) * p.dilation_w + 1;
  for (int c = 0; c < p.input.c; ++c)
    for (int ky = 0; ky < p.kernel_h; ++ky)
      for (int kx = 0; kx < p.kernel_w; ++kx)
        distances_.push_back((c * p.kernel_h + ky) * row_floats_ + kx * p.dilation_w);
}

// Rounded up, so that the pointers behind it are aligned.
int64_t StemProduct::window_floats() const {
  return (int64_t{params_.input.c} * params_.kernel_h * row_floats_ + 15) / 16 * 16;
}

std::size_t StemProduct::scratch_bytes() const {
  return window_floats() * sizeof(float) + 3 * kMaxTileRows * sizeof(float*);
}

std::string StemProduct::kernel() const {
  const int vectors = panels_.all()[0].vectors;
  return std::string(kernels_.isa) + " " +
         std::to_string(kernels_.gather_gemm_f32.max_rows[vectors - 1]) + "x" +
         std::to_string(vectors * kernels_.width);
}

// window[c][ky] = the input row that tap row ky of output row y reads, from column -pad_left.
void StemProduct::load(const float* image, int y, uint8_t* scratch) const {
  const ConvParams& p = params_;
  float* window = reinterpret_cast<float*>(scratch);
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
  const int seen = y * p.stride_h - p.pad_top + (p.kernel_h - 1) * p.dilation_h;
  for (int iy = std::max(seen + 1, 0); iy <= std::min(seen + p.stride_h, p.input.h - 1); ++iy)
    fetch_row(image, iy);
}

// The input is the one tensor nothing has brought into a cache, and its rows are too short for the
// hardware to foresee.
void StemProduct::fetch_row(const float* image, int y) const {
  const TensorDesc& in = params_.input;
  for (int c = 0; c < in.c; ++c) {
    const float* row = image + (int64_t{c} * in.h + y) * in.w;
    for (int x = 0; x < in.w; x += kLineFloats) __builtin_prefetch(row + x);
  }
}

void StemProduct::run(const int32_t* columns, int count, const Row& row, bool skipped,
                      uint8_t* scratch) const {
  const ConvParams& p = params_;
  const float* window = reinterpret_cast<const float*>(scratch);
  const auto rows = reinterpret_cast<const float**>(scratch + window_floats() * sizeof(float));
  const float** residual = rows + kMaxTileRows;
  float** out = const_cast<float**>(residual + kMaxTileRows);
  const float* weights = nullptr;
  GemmArgs args{};
  args.rows = rows;
  args.weights = &weights;
  args.distances = distances_.data();
  args.taps = skipped ? 0 : 1;
  args.channels = static_cast<int>(depth());
  args.out = out;
  args.residual = row.residual ? residual : nullptr;
  args.epilogue = &p.epilogue;
  for (const Panel& panel : panels_.all()) {
    weights = weights_ + panel.weights;
    args.start = (skipped ? skipped_value_ : bias_) + panel.channels;
    set_lanes(args, panel, p.output);
    const int max_rows = kernels_.gather_gemm_f32.max_rows[panel.vectors - 1];
    const int tiles = (count + max_rows - 1) / max_rows;
    for (int t = 0; t < tiles; ++t) {
      const int first = count * t / tiles, last = count * (t + 1) / tiles;
      for (int i = first; i < last; ++i) {
        const int x = columns ? columns[i] : i;
        rows[i - first] = window + x * p.stride_w;
        out[i - first] = row.out + x * row.out_stride + panel.first;
        if (row.residual)
          residual[i - first] = row.residual + x * row.residual_stride + panel.first;
      }
      kernels_.gather_gemm_f32.tile[panel.vectors - 1][last - first - 1](args);
    }
  }
}

}  // namespace activsparse
