// Winograd convolutions over kept tiles: conv/winograd6, conv/winograd4 and conv/winograd2, with
// stride 2 conv/winograd4_s2 and conv/winograd2_s2, and on a chequerboard
// conv/winograd6_chequered and conv/winograd4_chequered. The maths and layouts of the inner loops
// are in kernels/winograd.h, their error bounds in docs/numerics.md.
//
// On a chequerboard all tiles start where y + x is even, and i + j even must be the colour of the
// live inputs in every patch. Of the other colour, tiles are *flipped*: their rows are read and
// written from the lowest up, with the kernel upside down.
//
// All tiles of the batch are numbered through, sorted by shape (tile / images in the cover, tile %
// images the image). A small layer ("shared") transforms every tile first and then multiplies
// blocks of output channels by blocks of tiles, so that its large weights are read once and threads
// share the transformed input. A large layer goes block of tiles by block of tiles, each staying in
// the second-level cache.
#include <algorithm>

#include "kernels/kernels.h"
#include "kernels/vector_sizes.h"
#include "operators/conv_params.h"
#include "operators/even_parts.h"
#include "operators/skipped_fill.h"
#include "operators/source_fill.h"
#include "operators/tile_cover.h"
#include "operators/weights.h"
#include "operators/winograd_target.h"
#include "operators/winograd_weights.h"

namespace activsparse::conv_winograd {
namespace {

// A layer is "shared" while its transformed input fits the second-level cache, or while its weights
// are so many times larger: reading them again for every block of tiles would cost more than an
// input that leaves the cache.
constexpr int64_t kSharedWeights = 4;
// Transformed input and products of one block of tiles; the second-level cache holds them next to a
// panel of weights. (Blocks cut for a part of that cache read weights oftener, which costs more
// than tiles that leave it.)
constexpr int64_t kBlockShare = 320;
// Every block of tiles reads all weights. Up to half of the third-level cache they stay there, and
// 16 tiles give the products enough to do for each of them; larger ones come from memory each time
// and want more tiles. (All found on a Zen 4 server core; differences around these values are a few
// percent.) Narrow vectors take so long for a weight that memory keeps up at 16.
constexpr int64_t kMinBlockTiles = 16, kMinUncachedBlockTiles = 64;

// More tiles than the first are two register tiles of four vectors, but up to the second a single
// one of two. Weights from memory then pass the first-level cache once: 9 tiles of 14x14x256 take
// 0.256 ms in place of 0.266, of 7x7x512 0.435 in place of 0.45 (Zen 5); with 6 it would be 3 %
// more.
constexpr int kWideTiles = 6, kNarrowTiles = 14, kNarrowVecs = 2;

// What a tile's transforms take, in multiply-adds per element and channel, and what a block of
// tiles takes beside its products, in tiles: its weights pass by once more. For cutting work into
// equal shares.
constexpr double kTransforms = 12, kBlockTiles = 2;
constexpr double kUneven = 1.2;  // the longest share, of the mean

struct Header {
  ConvParams params;
  int32_t image_tiles;  // per image
  int32_t block_tiles;  // tiles that are multiplied together
  int32_t shared;
  int32_t blocks;  // of output channels
  int32_t flipped;
  WeightsHeader weights;
  uint64_t bias, tiles;
  SkippedFillHeader skipped;
  SourceFillHeader source;
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int shape_of(const CoverTile& tile) {
  if (tile.short_height) return tile.short_width ? kShortBoth : kShortHeight;
  return tile.short_width ? kShortWidth : kFull;
}

template <int kOut, int kStride, bool kChequered>
const WinogradKernels& winograd_of(const Kernels& table) {
  if (kChequered) return kOut == 6 ? table.winograd6_chequered_f32 : table.winograd4_chequered_f32;
  if (kStride == 2) return kOut == 4 ? table.winograd4_s2_f32 : table.winograd2_s2_f32;
  return kOut == 6 ? table.winograd6_f32 : kOut == 4 ? table.winograd4_f32 : table.winograd2_f32;
}

// Outputs of a tile along the vertical axis.
int height_of(const CoverTile& tile, int size) {
  return tile.short_height ? winograd_short(size) : size;
}

// Of tasks of the first phases, in multiply-adds.
double cost_per_element(const Header& h, int64_t total, int phase, int begin, int end) {
  const double in = h.params.input.c, out = h.params.output.c;
  const double before = kTransforms * in, after = out * (in + kTransforms);
  if (phase == 0 && h.shared) return before * (end - begin);
  const int64_t blocks = ceil_div(total, h.block_tiles);
  double sum = 0;
  for (int task = begin; task < end && blocks > 0; ++task) {
    const int64_t first = task % blocks * h.block_tiles;
    const double tiles = double(std::min(first + h.block_tiles, total) - first);
    sum += phase == 0 ? tiles * (before + after) : tiles * after / h.blocks;
  }
  return sum;
}

template <int kOut, int kStride, bool kChequered>
class ConvWinograd : public ConvOperator {
  static constexpr int kFull = winograd_points(kOut, kStride);
  static constexpr int kShort = winograd_points(winograd_short(kOut), kStride);
  static constexpr int kElements = WinogradForm{kOut, kStride, kChequered}.elements();

 public:
  ConvWinograd(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob)),
        table_(kernels_for(isa)),
        kernels_(winograd_of<kOut, kStride, kChequered>(table_)),
        skipped_(blob, h_.skipped, h_.params, table_),
        source_(blob, h_.source, h_.params.output) {
    const ConvParams& p = h_.params;
    require_packed(h_.blocks >= 1 && h_.blocks <= ceil_div(p.output.c, table_.width));
    weights_ =
        Weights(blob, h_.weights,
                int64_t{kElements} * p.input.c * ceil_div(p.output.c, table_.width) * table_.width,
                uint64_t{kElements} * h_.blocks);
    bias_ = blob.array<float>(h_.bias, p.output.c);
    require_packed(h_.image_tiles >= 0);
    tiles_ = blob.array<CoverTile>(h_.tiles, h_.image_tiles);
    total_ = int64_t{p.output.n} * h_.image_tiles;
    check();
    for (int i = 0; i < h_.image_tiles; ++i)
      for (int shape = shape_of(tiles_[i]); shape < kWinogradShapes; ++shape)
        first_[shape + 1] += p.output.n;
    row_stride_ = v_row_stride(p.input.c);
    max_vecs_ = static_cast<int>(ceil_div(ceil_div(p.output.c, table_.width), h_.blocks));
    require_packed(max_vecs_ <= kernels_.max_vecs);
  }

  std::size_t scratch_bytes() const override {
    return (room() + (h_.shared ? 0 : v_floats(h_.block_tiles)) + m_floats()) * sizeof(float);
  }
  bool half_weights() const override { return weights_.half(); }
  std::size_t shared_scratch_bytes() const override {
    return h_.shared ? v_floats(total_) * sizeof(float) : 0;
  }
  const ConvParams& params() const override { return h_.params; }
  int phases() const override { return 1 + h_.shared + !source_.empty(); }
  int tasks(int phase) const override {
    if (phase == 1 + h_.shared) return SourceFill::kTasks;
    if (phase == 1) return static_cast<int>(tile_blocks() * h_.blocks);
    return static_cast<int>(std::max<int64_t>(1, h_.shared ? total_ : tile_blocks()));
  }
  double cost(int phase, int begin, int end) const override {
    if (phase == 1 + h_.shared) return ConvOperator::cost(phase, begin, end);
    return kElements * cost_per_element(h_, total_, phase, begin, end);
  }
  std::string kernel() const override {
    return std::string(table_.isa) + " F(" + std::to_string(kOut) + "x" + std::to_string(kOut) +
           ",3x3" + (kStride == 2 ? "/2" : "") + (kChequered ? ")/chequered x" : ") x") +
           std::to_string(max_vecs_ * table_.width);
  }
  double macs() const override {
    const double channels = static_cast<double>(h_.params.input.c) * h_.params.output.c;
    constexpr int products[kWinogradShapes] = {kFull * kShort, kFull * kFull, kFull * kShort,
                                               kShort * kShort};
    double sum = 0;
    for (int s = 0; s < kWinogradShapes; ++s)
      sum += (first_[s + 1] - first_[s]) * channels * products[s];
    return kChequered ? sum / 2 : sum;
  }
  std::size_t index_bytes() const override {
    return h_.image_tiles * sizeof(CoverTile) + skipped_.bytes() + source_.bytes();
  }

  void run(const RunArgs& args, int phase, int begin, int end) const override {
    float* scratch = reinterpret_cast<float*>(args.scratch) + room();
    if (phase == 1 + h_.shared) {
      source_.run(args.out(0), begin, end);
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
  int64_t m_floats() const {
    return int64_t{h_.block_tiles} * kElements * max_vecs_ * table_.width;
  }
  // For an element's weights that have to be widened, before all else in a thread's scratch: whole
  // cache lines.
  int64_t room() const {
    const int64_t floats = int64_t{h_.params.input.c} * max_vecs_ * table_.width;
    return weights_.half() ? ceil_div(floats, 16) * 16 : 0;
  }
  int64_t tile_blocks() const { return h_.block_tiles ? ceil_div(total_, h_.block_tiles) : 0; }

  // A damaged plan must be refused, never executed.
  void check() const {
    const ConvParams& p = h_.params;
    bool good = h_.block_tiles >= 1 && h_.block_tiles <= std::max<int64_t>(total_, 1) &&
                (h_.shared == 0 || h_.shared == 1) && p.group == 1 && p.kernel_h == 3 &&
                p.kernel_w == 3 && p.stride_h == kStride && p.stride_w == kStride &&
                p.dilation_h == 1 && p.dilation_w == 1;
    for (int i = 0; i < h_.image_tiles && good; ++i) {
      const CoverTile& t = tiles_[i];
      good = t.y >= 0 && t.x >= 0 && (i == 0 || shape_of(tiles_[i - 1]) <= shape_of(t));
      if (kChequered) good = good && (t.y + t.x) % 2 == 0;
      for (int bit = 0; bit < kOut * kOut; ++bit)
        if ((t.keep | t.fill) >> bit & 1) {
          const int y = h_.flipped ? first_row(t) - bit / kOut : t.y + bit / kOut;
          good = good && y >= 0 && y < p.output.h && t.x + bit % kOut < p.output.w;
        }
    }
    require_packed(good);
  }

  // The image's row that is row 0 of a tile.
  int first_row(const CoverTile& tile) const {
    return h_.flipped ? tile.y + height_of(tile, kOut) - 1 : tile.y;
  }

  void transform_input(const RunArgs& args, int64_t begin, int64_t end, float* v,
                       int64_t v_stride) const {
    const ConvParams& p = h_.params;
    const int64_t row = int64_t{p.input.w} * p.input.stride, image_floats = p.input.h * row;
    WinogradSource source{nullptr,       p.input.h, p.input.w, p.input.c, h_.flipped ? -row : row,
                          p.input.stride};
    for (int64_t i = begin; i < end; ++i, v += row_stride_) {
      const CoverTile& tile = tiles_[i / p.input.n];
      source.x = args.in(0) + i % p.input.n * image_floats;
      int top = tile.y * kStride - p.pad_top;
      if (h_.flipped) {
        source.x += image_floats - row;
        top = p.input.h - (top + winograd_points(height_of(tile, kOut), kStride));
      }
      kernels_.transform_input[shape_of(tile)](source, top, tile.x * kStride - p.pad_left, v,
                                               v_stride);
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
    const int64_t from = int64_t{first} * kElements * p.input.c;
    WinogradWeights weights{};
    if (weights_.half())
      weights = {nullptr, weights_.halves() + from, weights_.scales() + block * kElements,
                 reinterpret_cast<float*>(args.scratch)};
    else
      weights.u = weights_.floats() + from;
    kernels_.multiply(v + (begin - origin) * row_stride_, v_stride, row_stride_, shapes, p.input.c,
                      weights, vecs, m);

    WinogradTargets targets(args, p, first, vecs * width, bias_, skipped_.value());
    if (h_.flipped) targets.flip();
    for (int64_t i = begin; i < end; ++i, m += int64_t{kElements} * vecs * width) {
      const CoverTile& tile = tiles_[i / p.output.n];
      kernels_.transform_output[shape_of(tile)](
          m, vecs, targets.at(i % p.output.n, first_row(tile), tile), p.epilogue);
    }
  }

  const Header& h_;
  const Kernels& table_;
  const WinogradKernels& kernels_;
  SkippedFill skipped_;
  SourceFill source_;
  Weights weights_;
  const float* bias_;
  const CoverTile* tiles_;
  int64_t first_[kWinogradShapes + 1] = {};  // first tile of each shape
  int64_t total_, row_stride_;
  int max_vecs_;
};

// Products of the 6x6 tiles err by the rounding of their weights 21 times as much as a direct
// convolution: docs/numerics.md, "Weights in float16".
constexpr int kMostHalfTile = 4;

template <int kOut, int kStride>
std::string unsupported(const OpSpec& spec, Isa) {
  if (kOut > kMostHalfTile && wants_half(spec))
    return "float16 is too coarse for its transformed weights";

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

// nullptr without a mask, or with one that is not of the tensor's size, which packing refuses.
const uint8_t* mask_of(const OpSpec& spec, const char* name, const TensorDesc& plane) {
  const ArrayView* view = spec.array(name);
  const bool there = view && view->dtype == 'b' && view->size() == int64_t{plane.h} * plane.w;
  return there ? static_cast<const uint8_t*>(view->data) : nullptr;
}

// Whether nothing but positions with (y + x + offset) even is set.
bool on_colour(const uint8_t* mask, int h, int w, int offset) {
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x)
      if (mask[int64_t{y} * w + x] && (y + x + offset) % 2 != 0) return false;
  return true;
}

// Whether live inputs and kept outputs all have y + x + `colour` even, counted from the padding.
bool chequered(const OpSpec& spec, int colour) {
  const TensorDesc &in = spec.inputs[0], &out = spec.outputs[0];
  const uint8_t* mask = mask_of(spec, "mask", out);
  const uint8_t* input_mask = mask_of(spec, "input_mask", in);
  const int pads = static_cast<int>((spec.int_or("pad_top", 0) + spec.int_or("pad_left", 0)) % 2);
  return mask && input_mask && on_colour(mask, out.h, out.w, colour) &&
         on_colour(input_mask, in.h, in.w, colour + pads);
}

template <int kOut>
std::string unsupported_chequered(const OpSpec& spec, Isa isa) {
  const std::string reason = unsupported<kOut, 1>(spec, isa);
  if (!reason.empty()) return reason;
  if (!chequered(spec, 0) && !chequered(spec, 1))
    return "input and output are not masked by the same chequerboard";
  return "";
}

// The tiles of the dense map, which start at even places, as far as they keep a position.
std::vector<CoverTile> chequered_cover(const uint8_t* mask, int h, int w, int size, bool flipped) {
  std::vector<CoverTile> tiles;
  for (CoverTile tile : cover_with_tiles(nullptr, h, w, size, 1)) {
    const uint64_t inside = tile.keep;
    tile.keep = tile.fill = 0;
    for (int bit = 0; bit < size * size; ++bit) {
      if (!(inside >> bit & 1)) continue;
      const int i = bit / size, j = bit % size;
      const bool kept = mask[(int64_t{tile.y} + i) * w + tile.x + j];
      const int row = flipped ? height_of(tile, size) - 1 - i : i;
      (kept ? tile.keep : tile.fill) |= uint64_t{1} << (row * size + j);
    }
    if (tile.keep) tiles.push_back(tile);
  }
  return tiles;
}

// Blocks of tiles and of output channels, and how much longer than the mean the longest share is.
struct Cut {
  int64_t tiles, channels;
  double over = 1;
};

// The cut from `least` on whose longest share takes least time on so many threads. Only a shared
// layer's channels are cut: others have all blocks of channels in one task.
Cut even_shares(const Cut& least, int64_t total, int vectors, bool shared, int threads) {
  Cut best = least;
  double best_time = 0;
  const int64_t most_channels =
      shared ? std::min<int64_t>(vectors, 4 * least.channels) : least.channels;
  for (int64_t channels = least.channels; channels <= most_channels; ++channels)
    for (int64_t tiles = least.tiles; tiles <= std::min(total, least.tiles + 2 * threads);
         ++tiles) {
      const int64_t block = ceil_div(total, tiles), tasks = shared ? tiles * channels : tiles;
      // A row of tiles is broadcast for every block of channels, as half a vector of products.
      const double vecs = static_cast<double>(ceil_div(vectors, channels));
      const double task = (double(block) + kBlockTiles) * (shared ? vecs + 0.5 : vectors);
      const double time = double(ceil_div(tasks, threads)) * task;
      if (best_time != 0 && time >= 0.99 * best_time) continue;
      best_time = time;
      best = {tiles, channels,
              shared ? unevenness(tasks, threads)
                     : double(ceil_div(tasks, threads) * block * threads) / double(total)};
    }
  return best;
}

// All tiles, vectors of output channels, bytes of a tile's transformed input and products, and of
// the weights.
struct Sizes {
  int64_t total;
  int vectors;
  int64_t v_bytes, m_bytes, weight_bytes;
};

// Decides whether a layer is shared, and how large its blocks are.
void cut_work(Header& h, int threads, const CacheSizes& caches, const Sizes& sizes) {
  const auto& [total, vectors, v_bytes, m_bytes, weight_bytes] = sizes;
  const bool uncached = caches.l3 > 0 && weight_bytes > caches.l3 / 2;
  Cut cut{};
  const auto choose = [&, total = total, vectors = vectors](bool shared, int64_t bytes) {
    const int64_t fit = std::max(caches.of_l2_alone(kBlockShare) / bytes,
                                 uncached ? kMinUncachedBlockTiles : kMinBlockTiles);
    h.shared = shared;
    cut = {std::max<int64_t>(1, ceil_div(total, fit)), h.blocks};
    if (threads > 1)
      cut = even_shares(cut, total, vectors, shared, threads);
    else if (!shared && cut.tiles > 2)  // even shares for 2 and 4, should it run on so many
      cut.tiles = ceil_div(cut.tiles, 4) * 4;
  };
  if (total * v_bytes > std::max(caches.l2_alone, weight_bytes / kSharedWeights))
    choose(false, v_bytes + m_bytes);
  else
    choose(true, m_bytes);
  // Many threads have second-level caches enough for it.
  if (!h.shared && cut.over > kUneven && total * v_bytes <= caches.l2_alone * threads / 2)
    choose(true, m_bytes);
  h.blocks = static_cast<int32_t>(cut.channels);
  h.block_tiles = static_cast<int32_t>(std::max<int64_t>(1, ceil_div(total, cut.tiles)));
}

template <int kOut, int kStride, bool kChequered>
Blob pack(const OpSpec& spec, Isa isa) {
  const Kernels& table = kernels_for(isa);
  const WinogradKernels& kernels = winograd_of<kOut, kStride, kChequered>(table);
  Header h{};
  h.params = conv_params_of(spec);
  h.flipped = kChequered && !chequered(spec, 0);
  const ConvParams& p = h.params;
  const WinogradForm form{kOut, kStride, kChequered, h.flipped != 0};
  const uint8_t* mask = mask_of(spec, "mask", p.output);
  std::vector<CoverTile> tiles =
      kChequered ? chequered_cover(mask, p.output.h, p.output.w, kOut, h.flipped)
                 : cover_with_tiles(mask, p.output.h, p.output.w, kOut, kStride);
  std::vector<uint8_t> filled(int64_t{p.output.h} * p.output.w);
  for (CoverTile& tile : tiles) {
    if (spec.array("source") != nullptr) tile.fill = 0;
    for (int bit = 0; bit < kOut * kOut; ++bit)
      if (tile.fill >> bit & 1) {
        const int i = h.flipped ? height_of(tile, kOut) - 1 - bit / kOut : bit / kOut;
        filled[int64_t{tile.y + i} * p.output.w + tile.x + bit % kOut] = 1;
      }
  }
  h.image_tiles = static_cast<int32_t>(tiles.size());
  const int vectors = static_cast<int>(ceil_div(p.output.c, table.width));
  const int64_t total = int64_t{p.output.n} * h.image_tiles;
  const int64_t elements = form.elements();
  const int64_t weight_bytes = elements * p.input.c * vectors * table.width * sizeof(float);
  const bool narrow =
      total > kWideTiles && total <= kNarrowTiles && weight_bytes > table.caches.l2_alone;
  h.blocks = static_cast<int32_t>(
      ceil_div(vectors, narrow ? std::min(kNarrowVecs, kernels.max_vecs) : kernels.max_vecs));

  const int64_t v_bytes = ConvWinograd<kOut, kStride, kChequered>::v_bytes_per_tile(p.input.c);
  const int64_t m_bytes = elements * ceil_div(vectors, h.blocks) * table.width * sizeof(float);
  cut_work(h, spec.threads, table.caches, {total, vectors, v_bytes, m_bytes, weight_bytes});

  BlobWriter writer;
  writer.append<Header>(1);
  // Every element of every block of output channels is a part.
  std::vector<uint64_t> ends;
  for (int block = 0; block < h.blocks; ++block) {
    const int vecs =
        block_start(vectors, h.blocks, block + 1) - block_start(vectors, h.blocks, block);
    for (int64_t k = 0; k < elements; ++k)
      ends.push_back((ends.empty() ? 0 : ends.back()) + uint64_t(p.input.c) * vecs * table.width);
  }
  h.weights = pack_weights(writer, ends, wants_half(spec), [&](float* u) {
    transform_winograd_weights(spec.float_array("weight"), p.output.c, p.input.c, form, table.width,
                               h.blocks, u);
  });
  const float* bias = spec.float_array("bias");
  h.bias = bias ? writer.append(bias, p.output.c) : writer.append<float>(p.output.c);
  h.tiles = writer.append(tiles.data(), tiles.size());

  h.skipped = SkippedFill::pack(writer, spec, p, filled.data());
  h.source = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

template <int kOut, int kStride, bool kChequered = false>
OperatorType type(const char* algorithm) {
  return {"conv", algorithm, kChequered ? unsupported_chequered<kOut> : unsupported<kOut, kStride>,
          pack<kOut, kStride, kChequered>,
          [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
            return std::make_unique<ConvWinograd<kOut, kStride, kChequered>>(blob, isa);
          }};
}

}  // namespace

std::vector<OperatorType> types() {
  std::vector<OperatorType> rows = {type<6, 1>("winograd6"), type<4, 1>("winograd4"),
                                    type<2, 1>("winograd2"), type<4, 2>("winograd4_s2"),
                                    type<2, 2>("winograd2_s2")};
  if constexpr (!kCompact)
    for (const OperatorType& row :
         {type<6, 1, true>("winograd6_chequered"), type<4, 1, true>("winograd4_chequered")})
      rows.push_back(row);
  return rows;
}

}  // namespace activsparse::conv_winograd
