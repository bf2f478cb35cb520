#include "operators/stem_product.h"

#include <algorithm>

#include "operators/locate.h"
#include "operators/panel_tiles.h"

namespace activsparse {
namespace {

constexpr int kMaxStemChannels = 4;
constexpr int kLineFloats = 16;
constexpr int kTilesPerFetch = 4;

Panels panels_of(const ConvParams& p, const Kernels& kernels) {
  return Panels(kernels, 1, p.output.c, int64_t{p.input.c} * p.taps(),
                kernels.gemm_f32.sizes.max_vectors);
}

}  // namespace

std::string StemProduct::unsupported(const OpSpec& spec) {
  if (!spec.inputs[0].nchw) return "the input is not NCHW";
  if (spec.outputs[0].nchw) return "the output is NCHW";
  if (spec.inputs[0].c > kMaxStemChannels) return "the input has more than 4 channels";
  if (spec.int_or("group", 1) != 1) return "it has groups";
  const TensorDesc& in = spec.inputs[0];
  if (int64_t{in.c} * in.h * in.w > INT32_MAX) return "an image has more than 2147483647 values";
  return "";
}

StemProductHeader StemProduct::pack(BlobWriter& writer, const OpSpec& spec,
                                    const ConvParams& params, const Kernels& kernels) {
  const Panels panels = panels_of(params, kernels);
  const int64_t depth = int64_t{params.input.c} * params.taps();
  const float* weight = spec.float_array("weight");
  StemProductHeader h{};
  h.weights =
      panels.pack_weights(writer, false, [&](int o, int64_t k) { return weight[o * depth + k]; });
  h.bias = panels.pack_channels(writer, spec.float_array("bias"));
  h.skipped_value = panels.pack_channels(writer, spec.float_array("skipped_value"));
  return h;
}

StemProduct::StemProduct(const BlobView& blob, const StemProductHeader& header,
                         const ConvParams& params, const Kernels& kernels)
    : params_(params), kernels_(kernels), panels_(panels_of(params, kernels)) {
  const ConvParams& p = params_;
  require_packed(p.group == 1 && p.input.nchw);
  const Weights weights = panels_.weights(blob, header.weights);
  require_packed(!weights.half());
  weights_ = weights.floats();
  bias_ = blob.array<float>(header.bias, panels_.channel_floats());
  skipped_value_ = blob.array<float>(header.skipped_value, panels_.channel_floats());
  row_floats_ = (p.output.w - 1) * p.stride_w + (p.kernel_w - 1) * p.dilation_w + 1;
  // Distances have 32 bits.
  require_packed(int64_t{p.input.c} * p.input.h * p.input.w <= INT32_MAX &&
                 int64_t{p.input.c} * p.kernel_h * row_floats_ <= INT32_MAX);
  for (int c = 0; c < p.input.c; ++c)
    for (int ky = 0; ky < p.kernel_h; ++ky)
      for (int kx = 0; kx < p.kernel_w; ++kx) {
        distances_.push_back((c * p.kernel_h + ky) * row_floats_ + kx * p.dilation_w);
        image_distances_.push_back((c * p.input.h + ky * p.dilation_h) * p.input.w +
                                   kx * p.dilation_w);
      }
  const int reach = (p.kernel_w - 1) * p.dilation_w;
  const int room = p.input.w + p.pad_left - reach;  // columns a window may start at
  inside_begin_ = std::min((p.pad_left + p.stride_w - 1) / p.stride_w, p.output.w);
  inside_end_ = std::clamp((room + p.stride_w - 1) / p.stride_w, inside_begin_, p.output.w);
}

// Rounded up, so that the pointers behind it are aligned.
int64_t StemProduct::window_floats() const {
  return (int64_t{params_.input.c} * params_.kernel_h * row_floats_ + 15) / 16 * 16;
}

std::size_t StemProduct::scratch_bytes() const {
  return window_floats() * sizeof(float) + 3 * params_.output.w * sizeof(float*);
}

std::string StemProduct::kernel() const {
  const int vectors = panels_.all()[0].vectors;
  return std::string(kernels_.isa) + " " +
         std::to_string(kernels_.gather_gemm_f32.sizes.max_rows[vectors - 1]) + "x" +
         std::to_string(vectors * kernels_.width);
}

// copy[c][ky] = the input row that tap row ky of output row y reads, from column -pad_left.
StemProduct::Windows StemProduct::load(const float* image, int y, uint8_t* scratch) const {
  const ConvParams& p = params_;
  const int first = y * p.stride_h - p.pad_top;
  const int seen = first + (p.kernel_h - 1) * p.dilation_h + 1;
  const int next = std::clamp(seen, 0, p.input.h);
  Windows windows{nullptr, reinterpret_cast<float*>(scratch), image + int64_t{next} * p.input.w,
                  (std::clamp(seen + p.stride_h, next, p.input.h) - next) * p.input.w};
  if (first < 0 || seen > p.input.h) {
    copy(image, y, 0, row_floats_, windows.copy);
    return windows;
  }
  windows.image = image + int64_t{first} * p.input.w - p.pad_left;
  const int reach = (p.kernel_w - 1) * p.dilation_w;
  if (inside_begin_ > 0)
    copy(image, y, 0, (inside_begin_ - 1) * p.stride_w + reach + 1, windows.copy);
  if (inside_end_ < p.output.w) copy(image, y, inside_end_ * p.stride_w, row_floats_, windows.copy);
  return windows;
}

// Columns begin..end of the window.
void StemProduct::copy(const float* image, int y, int begin, int end, float* window) const {
  const ConvParams& p = params_;
  const int left = std::clamp(p.pad_left, begin, end);
  const int right = std::clamp(p.input.w + p.pad_left, left, end);
  for (int c = 0; c < p.input.c; ++c)
    for (int ky = 0; ky < p.kernel_h; ++ky, window += row_floats_) {
      const int iy = y * p.stride_h - p.pad_top + ky * p.dilation_h;
      const bool inside = iy >= 0 && iy < p.input.h;
      const float* from = image + (int64_t{c} * p.input.h + (inside ? iy : 0)) * p.input.w;
      // Mostly of a few columns, for which a call of memcpy would be the dearest part.
      for (int x = begin; x < end; ++x)
        window[x] = inside && x >= left && x < right ? from[x - p.pad_left] : 0.0f;
    }
}

// The input is the one tensor nothing has brought into a cache, and its rows are too short for the
// hardware to foresee. All of the next row's at once would keep the core waiting.
void StemProduct::fetch(const Windows& windows, int begin, int end, int shares) const {
  const int64_t plane = int64_t{params_.input.h} * params_.input.w;
  const int lines = (windows.count + kLineFloats - 1) / kLineFloats;
  const int all = lines * params_.input.c;
  for (int i = all * begin / shares; i < all * end / shares; ++i)
    __builtin_prefetch(windows.next + i / lines * plane + i % lines * kLineFloats);
}

void StemProduct::run(const Windows& windows, const Columns& columns, const Row& row, bool skipped,
                      uint8_t* scratch) const {
  const ConvParams& p = params_;
  const int count = columns.count;
  const auto rows = reinterpret_cast<const float**>(scratch + window_floats() * sizeof(float));
  const float** residual = rows + p.output.w;
  float** out = const_cast<float**>(residual + p.output.w);
  const auto before = [&](int x) {
    if (columns.list == nullptr) return std::min(x, count);
    const int32_t* end = columns.list + count;
    return static_cast<int>(std::lower_bound(columns.list, end, columns.first + x) - columns.list);
  };
  const bool inside = windows.image != nullptr;
  const int bounds[] = {0, inside ? before(inside_begin_) : 0, inside ? before(inside_end_) : 0,
                        count};
  const auto point = [&](auto** to, auto* first, int begin, int end, int64_t stride) {
    if (begin == end) return;  // of an image nobody sees, `first` is null
    if (columns.list == nullptr)
      locate_all(to + begin, first + begin * stride, end - begin, stride);
    else
      locate(to + begin, reinterpret_cast<std::uintptr_t>(first - columns.first * stride),
             columns.list + begin, end - begin, stride);
  };
  for (int part = 0; part < 3; ++part)
    point(rows, part == 1 ? windows.image : windows.copy, bounds[part], bounds[part + 1],
          p.stride_w);
  point(out, row.out, 0, count, row.out_stride);
  if (row.residual) point(residual, row.residual, 0, count, row.residual_stride);

  GemmArgs args{};
  args.taps = skipped ? 0 : 1;
  args.channels = static_cast<int>(depth());
  args.epilogue = &p.epilogue;
  for (const Panel& panel : panels_.all()) {
    const float* weights = weights_ + panel.weights;
    args.weights = &weights;
    args.start = (skipped ? skipped_value_ : bias_) + panel.channels;
    args.column = panel.first;
    set_lanes(args, panel, p.output);
    for (int part = 0; part < 3; ++part) {
      args.distances = (part == 1 ? image_distances_ : distances_).data();
      const int first = bounds[part], here = bounds[part + 1] - first;
      args.rows = rows + first;
      args.out = out + first;
      args.residual = row.residual ? residual + first : nullptr;
      const bool fetches = here * 2 > count && !skipped && panel.first == 0;
      run_tiles(panel, args, here, fetches ? &windows : nullptr);
    }
  }
}

void StemProduct::run_tiles(const Panel& panel, GemmArgs args, int rows,
                            const Windows* windows) const {
  const GemmKernels& gemm = kernels_.gather_gemm_f32;
  const int v = panel.vectors - 1;
  const TileCut cut = TileCut::of(rows, gemm.sizes.best_rows[v], gemm.sizes.max_rows[v]);
  int done = 0;
  const auto run = [&](int height, int count) {
    for (int end = done + count; done < end; done += 1 + args.more) {
      args.more = std::min(kTilesPerFetch, end - done) - 1;
      if (windows) fetch(*windows, done, done + 1 + args.more, cut.tiles());
      gemm.tile[v][height - 1](args);
      const int64_t pixels = int64_t{height} * (1 + args.more);
      args.rows += pixels;
      args.out += pixels;
      if (args.residual) args.residual += pixels;
    }
  };
  run(cut.height, cut.count);
  run(cut.last_height, cut.last_count);
}

}  // namespace activsparse
