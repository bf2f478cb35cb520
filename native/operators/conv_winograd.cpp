// Winograd convolutions over kept tiles: conv/winograd6, conv/winograd4 and conv/winograd2, and
// with stride 2 conv/winograd4_s2 and conv/winograd2_s2. The maths and layouts of the inner loops
// are in kernels/winograd.h, their error bounds in docs/numerics.md.
//
// All tiles of the batch are numbered through, sorted by shape (tile / images in the cover, tile %
// images the image). A small layer ("shared") transforms every tile first and then multiplies
// blocks of output channels by blocks of tiles, so that its large weights are read once and threads
// share the transformed input. A large layer goes block of tiles by block of tiles, each staying in
// the second-level cache.
#include <algorithm>

#include "kernels/kernels.h"
#include "operators/conv_params.h"
#include "operators/skipped_fill.h"
#include "operators/source_fill.h"
#include "operators/tile_cover.h"
#include "operators/winograd_weights.h"

namespace activsparse {
namespace {

// A layer is "shared" up to this many bytes of transformed input, or while its weights are so many
// times larger: reading them again for every block of tiles would cost more than an input that
// leaves the second-level cache.
constexpr int64_t kSharedBytes = 1 << 20, kSharedWeights = 4;
// Transformed input and products of one block of tiles; the second-level cache holds them next to a
// panel of weights.
constexpr int64_t kBlockBytes = 320 << 10;
// Every block of tiles reads all weights. Up to this size they stay in the third-level cache, and
// 16 tiles give the products enough to do for each of them; larger ones come from memory each time
// and want more tiles. (All found on a Zen 4 server core, 1 MiB of second-level cache; differences
// around these values are a few percent.)
constexpr int64_t kCachedWeightBytes = 16 << 20;
constexpr int64_t kMinBlockTiles = 16, kMinUncachedBlockTiles = 64;

struct Header {
  ConvParams params;
  int32_t image_tiles;  // per image
  int32_t block_tiles;  // tiles that are multiplied together
  int32_t shared;
  int32_t blocks;  // of output channels
  uint64_t weights, bias, tiles;
  SkippedFillHeader skipped;
  SourceFillHeader source;
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int shape_of(const CoverTile& tile) {
  if (tile.short_height) return tile.short_width ? kShortBoth : kShortHeight;
  return tile.short_width ? kShortWidth : kFull;
}

template <int kOut, int kStride>
const WinogradKernels& winograd_of(const Kernels& table) {
  if (kStride == 2) return kOut == 4 ? table.winograd4_s2_f32 : table.winograd2_s2_f32;
  return kOut == 6 ? table.winograd6_f32 : kOut == 4 ? table.winograd4_f32 : table.winograd2_f32;
}

template <int kOut, int kStride>
class ConvWinograd : public Operator {
  static constexpr int kFull = winograd_points(kOut, kStride);
  static constexpr int kShort = winograd_points(winograd_short(kOut), kStride);
  static constexpr int kElements = kFull * kFull;

 public:
  ConvWinograd(const BlobView& blob, Isa isa)
      : h_(blob.header<Header>()),
        table_(kernels_for(isa)),
        kernels_(winograd_of<kOut, kStride>(table_)),
        skipped_(blob, h_.skipped, h_.params, table_),
        source_(blob, h_.source, h_.params.output) {
    const ConvParams& p = h_.params;
    weights_ = blob.array<float>(
        h_.weights, kElements * p.input.c * ceil_div(p.output.c, table_.width) * table_.width);
    bias_ = blob.array<float>(h_.bias, p.output.c);
    tiles_ = blob.array<CoverTile>(h_.tiles, h_.image_tiles);
    check();
    total_ = int64_t{p.output.n} * h_.image_tiles;
    for (int i = 0; i < h_.image_tiles; ++i)
      for (int shape = shape_of(tiles_[i]); shape < kWinogradShapes; ++shape)
        first_[shape + 1] += p.output.n;
    row_stride_ = v_row_stride(p.input.c);
    max_vecs_ =
        static_cast<int>(ceil_div(ceil_div(p.output.c, table_.width), std::max(h_.blocks, 1)));
  }

  std::size_t scratch_bytes() const override {
    const int64_t m = int64_t{h_.block_tiles} * kElements * max_vecs_ * table_.width;
    return ((h_.shared ? 0 : v_floats(h_.block_tiles)) + m) * sizeof(float);
  }
  std::size_t shared_scratch_bytes() const override {
    return h_.shared ? v_floats(total_) * sizeof(float) : 0;
  }
  int phases() const override { return 1 + h_.shared + !source_.empty(); }
  int tasks(int phase) const override {
    if (phase == 1 + h_.shared) return SourceFill::kTasks;
    if (phase == 1) return static_cast<int>(tile_blocks() * h_.blocks);
    return static_cast<int>(std::max<int64_t>(1, h_.shared ? total_ : tile_blocks()));
  }
  std::string kernel() const override {
    return std::string(table_.isa) + " F(" + std::to_string(kOut) + "x" + std::to_string(kOut) +
           ",3x3" + (kStride == 2 ? "/2" : "") + ") x" + std::to_string(max_vecs_ * table_.width);
  }
  double macs() const override {
    const double channels = static_cast<double>(h_.params.input.c) * h_.params.output.c;
    constexpr int products[kWinogradShapes] = {kFull * kShort, kFull * kFull, kFull * kShort,
                                               kShort * kShort};
    double sum = 0;
    for (int s = 0; s < kWinogradShapes; ++s)
      sum += (first_[s + 1] - first_[s]) * channels * products[s];
    return sum;
  }
  std::size_t index_bytes() const override {
    return h_.image_tiles * sizeof(CoverTile) + skipped_.bytes() + source_.bytes();
  }

  void run(const RunArgs& args, int phase, int begin, int end) const override {
    float* scratch = reinterpret_cast<float*>(args.scratch);
    if (phase == 1 + h_.shared) {
      source_.run(args.outputs[0], begin, end);
    } else if (phase == 1) {
      const int64_t tile_blocks = this->tile_blocks();
      const float* v = reinterpret_cast<const float*>(args.shared_scratch);
      for (int task = begin; task < end; ++task)
        multiply(args, v, v_stride(total_), 0, task % tile_blocks * h_.block_tiles,
                 task / tile_blocks, scratch);
    } else if (h_.shared) {
      float* v = reinterpret_cast<float*>(args.shared_scratch);
      transform_input(args, begin, std::min<int64_t>(end, total_), v + begin * row_stride_,
                      v_stride(total_));
      skipped_.run(args, begin, end, tasks(0));
    } else {
      float* m = scratch + v_floats(h_.block_tiles);
      const int64_t stride = v_stride(h_.block_tiles);
      for (int task = begin; task < end; ++task) {
        const int64_t first = int64_t{task} * h_.block_tiles;
        transform_input(args, first, std::min(first + h_.block_tiles, total_), scratch, stride);
        for (int block = 0; block < h_.blocks; ++block)
          multiply(args, scratch, stride, first, first, block, m);
      }
      skipped_.run(args, begin, end, tasks(0));
    }
  }

  // An odd number of cache lines between rows and between elements: a power of two would map them
  // to few sets.
  static int64_t v_row_stride(int channels) { return ceil_div(channels, 16) / 2 * 32 + 16; }
  static int64_t v_bytes_per_tile(int channels) {
    return v_row_stride(channels) * kElements * int64_t{sizeof(float)};
  }

 private:
  int64_t v_stride(int64_t tiles) const { return (tiles * row_stride_ / 32) * 32 + 16 + 32; }
  int64_t v_floats(int64_t tiles) const { return v_stride(tiles) * kElements; }
  int64_t tile_blocks() const { return h_.block_tiles ? ceil_div(total_, h_.block_tiles) : 0; }

  // A damaged plan must be refused, never executed.
  void check() const {
    const ConvParams& p = h_.params;
    bool good = h_.block_tiles >= 1 && h_.blocks >= 1 && p.kernel_h == 3 && p.kernel_w == 3 &&
                p.stride_h == kStride && p.stride_w == kStride;
    for (int i = 0; i < h_.image_tiles && good; ++i) {
      const CoverTile& t = tiles_[i];
      good = t.y >= 0 && t.x >= 0 && (i == 0 || shape_of(tiles_[i - 1]) <= shape_of(t));
      for (int bit = 0; bit < kOut * kOut; ++bit)
        if ((t.keep | t.fill) >> bit & 1)
          good = good && t.y + bit / kOut < p.output.h && t.x + bit % kOut < p.output.w;
    }
    if (!good) throw Error("the packed convolution is damaged; compile the model again");
  }

  void transform_input(const RunArgs& args, int64_t begin, int64_t end, float* v,
                       int64_t v_stride) const {
    const ConvParams& p = h_.params;
    WinogradSource source{nullptr, p.input.h, p.input.w, p.input.c, p.input.stride};
    const int64_t image_floats = int64_t{p.input.h} * p.input.w * p.input.stride;
    for (int64_t i = begin; i < end; ++i, v += row_stride_) {
      const CoverTile& tile = tiles_[i / p.input.n];
      source.x = args.inputs[0] + i % p.input.n * image_floats;
      kernels_.transform_input[shape_of(tile)](source, tile.y * kStride - p.pad_top,
                                               tile.x * kStride - p.pad_left, v, v_stride);
    }
  }

  // Products and results of the tiles [begin, begin + block_tiles) for one block of output
  // channels. Row 0 of `v` is tile `origin`.
  void multiply(const RunArgs& args, const float* v, int64_t v_stride, int64_t origin,
                int64_t begin, int64_t block, float* m) const {
    const ConvParams& p = h_.params;
    const int width = table_.width;
    const int vectors = static_cast<int>(ceil_div(p.output.c, width));
    const int first_vector = block_start(vectors, h_.blocks, static_cast<int>(block));
    const int vecs = block_start(vectors, h_.blocks, static_cast<int>(block) + 1) - first_vector;
    const int first = first_vector * width;
    const int64_t end = std::min(begin + h_.block_tiles, total_);
    int shapes[kWinogradShapes + 1];
    for (int s = 0; s <= kWinogradShapes; ++s)
      shapes[s] = static_cast<int>(std::clamp(first_[s], begin, end) - begin);
    kernels_.multiply(v + (begin - origin) * row_stride_, v_stride, row_stride_, shapes, p.input.c,
                      weights_ + int64_t{first} * kElements * p.input.c, vecs, m);

    const int64_t positions = int64_t{p.output.h} * p.output.w;
    WinogradTarget target{};
    target.row = int64_t{p.output.w} * p.output.stride;
    target.stride = p.output.stride;
    target.residual_row = int64_t{p.output.w} * p.residual.stride;
    target.residual_stride = p.residual.stride;
    target.bias = bias_ + first;
    target.channels = std::min(vecs * width, p.output.c - first);
    target.padded = p.output.padded;
    target.skipped = skipped_.value() + first;
    for (int64_t i = begin; i < end; ++i, m += int64_t{kElements} * vecs * width) {
      const CoverTile& tile = tiles_[i / p.output.n];
      const int64_t pixel = i % p.output.n * positions + int64_t{tile.y} * p.output.w + tile.x;
      target.y = args.outputs[0] + pixel * p.output.stride + first;
      target.keep = tile.keep;
      target.fill = tile.fill;
      if (p.has_residual) target.residual = args.inputs[1] + pixel * p.residual.stride + first;
      kernels_.transform_output[shape_of(tile)](m, vecs, target, p.epilogue);
    }
  }

  const Header& h_;
  const Kernels& table_;
  const WinogradKernels& kernels_;
  SkippedFill skipped_;
  SourceFill source_;
  const float *weights_, *bias_;
  const CoverTile* tiles_;
  int64_t first_[kWinogradShapes + 1] = {};  // first tile of each shape
  int64_t total_, row_stride_;
  int max_vecs_;
};

template <int kStride>
std::string unsupported(const OpSpec& spec, Isa) {
  const ArrayView* weight = spec.array("weight");
  if (!weight || weight->shape.size() != 4 || weight->shape[2] != 3 || weight->shape[3] != 3)
    return "the kernel is not 3x3";
  for (const char* name : {"stride_h", "stride_w"})
    if (spec.int_or(name, 1) != kStride) return "the stride is not " + std::to_string(kStride);
  for (const char* name : {"dilation_h", "dilation_w", "group"})
    if (spec.int_or(name, 1) != 1) return "dilation or groups";
  if (spec.inputs[0].nchw || spec.outputs[0].nchw) return "input is NCHW";
  if (std::max(spec.outputs[0].h, spec.outputs[0].w) > 32767) return "the map is too large";
  return "";
}

template <int kOut, int kStride>
Blob pack(const OpSpec& spec, Isa isa) {
  const Kernels& table = kernels_for(isa);
  const WinogradKernels& kernels = winograd_of<kOut, kStride>(table);
  Header h{};
  h.params = conv_params_of(spec);
  const ConvParams& p = h.params;
  const ArrayView* mask_view = spec.array("mask");
  const auto* mask = mask_view ? static_cast<const uint8_t*>(mask_view->data) : nullptr;
  std::vector<CoverTile> tiles = cover_with_tiles(mask, p.output.h, p.output.w, kOut, kStride);
  std::vector<uint8_t> filled(int64_t{p.output.h} * p.output.w);
  for (CoverTile& tile : tiles) {
    if (spec.array("source") != nullptr) tile.fill = 0;
    for (int bit = 0; bit < kOut * kOut; ++bit)
      if (tile.fill >> bit & 1)
        filled[(tile.y + bit / kOut) * p.output.w + tile.x + bit % kOut] = 1;
  }
  h.image_tiles = static_cast<int32_t>(tiles.size());
  const int vectors = static_cast<int>(ceil_div(p.output.c, table.width));
  h.blocks = static_cast<int32_t>(ceil_div(vectors, kernels.max_vecs));

  const int64_t total = int64_t{p.output.n} * h.image_tiles;
  constexpr int64_t points = winograd_points(kOut, kStride), elements = points * points;
  const int64_t v_bytes = ConvWinograd<kOut, kStride>::v_bytes_per_tile(p.input.c);
  const int64_t m_bytes = elements * ceil_div(vectors, h.blocks) * table.width * sizeof(float);
  const int64_t weight_bytes = elements * p.input.c * vectors * table.width * sizeof(float);
  h.shared = total * v_bytes <= std::max(kSharedBytes, weight_bytes / kSharedWeights);
  const int64_t fit =
      std::max(kBlockBytes / (h.shared ? m_bytes : v_bytes + m_bytes),
               weight_bytes <= kCachedWeightBytes ? kMinBlockTiles : kMinUncachedBlockTiles);
  int64_t blocks = std::max<int64_t>(1, ceil_div(total, fit));
  if (!h.shared && blocks > 2) blocks = ceil_div(blocks, 4) * 4;  // even shares for 2 and 4 threads
  h.block_tiles = static_cast<int32_t>(std::max<int64_t>(1, ceil_div(total, blocks)));

  BlobWriter writer;
  writer.append<Header>(1);
  h.weights = writer.append<float>(
      winograd_weight_floats(p.output.c, p.input.c, kOut, kStride, table.width));
  transform_winograd_weights(static_cast<const float*>(spec.array("weight")->data), p.output.c,
                             p.input.c, kOut, kStride, table.width, h.blocks,
                             writer.at<float>(h.weights));
  const float* bias = spec.float_array("bias");
  h.bias = bias ? writer.append(bias, p.output.c) : writer.append<float>(p.output.c);
  h.tiles = writer.append(tiles.data(), tiles.size());

  h.skipped = SkippedFill::pack(writer, spec, p, filled.data());
  h.source = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

template <int kOut, int kStride>
std::unique_ptr<Operator> create(const BlobView& blob, Isa isa) {
  return std::make_unique<ConvWinograd<kOut, kStride>>(blob, isa);
}

template <int kOut, int kStride>
OperatorType type(const char* algorithm) {
  return {"conv", algorithm, unsupported<kStride>, pack<kOut, kStride>, create<kOut, kStride>};
}

}  // namespace

std::vector<OperatorType> conv_winograd_types() {
  return {type<6, 1>("winograd6"), type<4, 1>("winograd4"), type<2, 1>("winograd2"),
          type<4, 2>("winograd4_s2"), type<2, 2>("winograd2_s2")};
}

}  // namespace activsparse
