#include "operators/pixel_product.h"

#include <algorithm>

#include "operators/panel_tiles.h"

namespace activsparse {
namespace {

constexpr int64_t kChunkShare = 640;  // of the first-level cache
// Chunks are whole tiles of every height in use: 48 is a multiple of 6, 8, 12 and 16.
constexpr int kChunkRows = 48;

}  // namespace

std::string PixelProduct::unsupported(const OpSpec& spec) {
  const ArrayView* weight = spec.array("weight");
  if (spec.int_or("group", 1) != 1) return "it has groups";
  if (weight == nullptr || weight->shape.size() != 4 || weight->shape[2] * weight->shape[3] != 1)
    return "the kernel is not 1x1";
  for (const char* stride : {"stride_h", "stride_w"})
    if (spec.int_or(stride, 1) != 1) return "the stride is not 1";
  for (const char* pad : {"pad_top", "pad_left", "pad_bottom", "pad_right"})
    if (spec.int_or(pad, 0) != 0) return "it has padding";
  return "";
}

PixelProductHeader PixelProduct::pack(BlobWriter& writer, const OpSpec& spec,
                                      const ConvParams& params, const Kernels& kernels, bool half) {
  const int64_t depth = params.input.c;
  const Panels panels(kernels, 1, params.output.c, depth, kernels.gemm_f32.sizes.max_vectors, true);
  const float* weight = spec.float_array("weight");
  PixelProductHeader h{};
  h.weights =
      panels.pack_weights(writer, half, [&](int o, int64_t k) { return weight[o * depth + k]; });
  h.bias = panels.pack_channels(writer, spec.float_array("bias"));
  h.skipped_value = panels.pack_channels(writer, spec.float_array("skipped_value"));
  return h;
}

PixelProduct::PixelProduct(const BlobView& blob, const PixelProductHeader& header,
                           const ConvParams& params, const Kernels& kernels)
    : params_(params),
      kernels_(kernels),
      panels_(kernels, 1, params.output.c, params.input.c, kernels.gemm_f32.sizes.max_vectors,
              true) {
  weights_ = panels_.weights(blob, header.weights);
  bias_ = blob.array<float>(header.bias, panels_.channel_floats());
  skipped_value_ = blob.array<float>(header.skipped_value, panels_.channel_floats());
  const int64_t fit =
      kernels.caches.of_l1(kChunkShare) / 4 / params.input.c / kChunkRows * kChunkRows;
  chunk_rows_ = static_cast<int>(std::clamp<int64_t>(fit, kChunkRows, 4 * kChunkRows));
}

const float* PixelProduct::wide(float* room) const {
  if (!half()) return weights_.floats();
  for (const Panel& panel : panels_.all())
    weights_.wide(kernels_, panels_.index_of(panel), panel.weights, panels_.floats_of(panel),
                  room + panel.weights);
  return room;
}

void PixelProduct::run(const float* weights, const float* const* rows, float* const* out,
                       const float* const* residual, int count, bool skipped, Fetch& fetch) const {
  GemmArgs args{};
  args.taps = skipped ? 0 : 1;
  args.channels = params_.input.c;
  args.epilogue = &params_.epilogue;
  int chunk;
  for (int begin = 0; begin < count; begin += chunk) {
    chunk = count - begin < chunk_rows_ * 3 / 2 ? count - begin : chunk_rows_;
    int64_t tiles = 0;
    for (const Panel& panel : panels_.all()) tiles += cut_rows(panels_, panel, chunk).tiles();
    fetch.spread(tiles, params_.input.c);
    args.rows = rows + begin;
    args.out = out + begin;
    args.residual = residual ? residual + begin : nullptr;
    for (const Panel& panel : panels_.all()) {
      args.start = (skipped ? skipped_value_ : bias_) + panel.channels;
      set_lanes(args, panel, params_.output);
      run_panel(panels_, panel, weights + panel.weights, chunk, args, &fetch);
    }
  }
}

}  // namespace activsparse
