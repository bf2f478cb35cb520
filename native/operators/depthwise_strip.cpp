#include "operators/depthwise_strip.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "kernels/vector_sizes.h"

namespace activsparse {
namespace {

constexpr int kMaxTaps = 25;
constexpr std::size_t kMaxGroups = 24;  // more classes per strip are not worth a search

// Cost of a vector of channels at a position, in cycles of a Zen 5 core, fitted to MobileNetV2's
// layers, 112x112x32 to 7x7x960, at lattice sparsities 0 to 0.5. Blocks do what the caches let
// pass, or less where they skip positions; tiles run at the pace of their loads, reload weights
// (which tells in tiles that are not full), and gather pointers, whose cost all vectors share.
// Blocks that skip nothing win up to a sparsity of about 0.3. On NEON llvm-mca (docs/neon.md) gives
// blocks that skip 0.2 to 0.4 of a position's cost for a skipped one, and a kept one less than a
// tile's row: the same choices.
constexpr double kTileTap = 1.4, kTilePosition = 2.5, kTileWeights = 3, kTilePointer = 5;
constexpr double kSkippedShare = 0.3;  // of a position's cost in blocks that skip
double block_cost(const ConvParams& p) { return p.kernel_h == 5 ? 27 : p.stride_h == 2 ? 11 : 7; }

int count_taps(uint32_t taps) { return __builtin_popcount(taps); }

double group_cost(uint32_t taps, std::size_t rows, int vectors) {
  const double tiles = static_cast<double>((rows + kDepthwiseRows - 1) / kDepthwiseRows);
  const double tap = kTileTap + kTilePointer / vectors;
  return count_taps(taps) * (tap * static_cast<double>(rows) + kTileWeights * tiles);
}

template <class Position>
using Groups = std::vector<std::pair<uint32_t, std::vector<Position>>>;

// Joins classes where fuller tiles are worth a few taps on zeros.
template <class Position>
void merge(Groups<Position>& groups, int vectors) {
  auto join = [&](std::size_t i, std::size_t j) {
    groups[i].first |= groups[j].first;
    auto& into = groups[i].second;
    into.insert(into.end(), groups[j].second.begin(), groups[j].second.end());
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(j));
  };
  std::sort(groups.begin(), groups.end(),
            [](const auto& a, const auto& b) { return a.second.size() > b.second.size(); });
  while (groups.size() > kMaxGroups) join(groups.size() - 2, groups.size() - 1);
  for (;;) {
    double best = 0;
    std::size_t first = 0, second = 0;
    for (std::size_t i = 0; i < groups.size(); ++i)
      for (std::size_t j = i + 1; j < groups.size(); ++j) {
        const double saved = group_cost(groups[i].first, groups[i].second.size(), vectors) +
                             group_cost(groups[j].first, groups[j].second.size(), vectors) -
                             group_cost(groups[i].first | groups[j].first,
                                        groups[i].second.size() + groups[j].second.size(), vectors);
        if (saved > best) best = saved, first = i, second = j;
      }
    if (best <= 0) return;
    join(first, second);
  }
}

}  // namespace

std::string DepthwiseStrip::unsupported(const OpSpec& spec) {
  const ArrayView* weight = spec.array("weight");
  const int64_t group = spec.int_or("group", 1);
  if (spec.inputs[0].c != group || spec.outputs[0].c != group) return "it is not depthwise";
  if (weight == nullptr || weight->shape.size() != 4 || weight->shape[2] != weight->shape[3] ||
      (weight->shape[2] != 3 && weight->shape[2] != 5))
    return "the depthwise kernel is neither 3x3 nor 5x5";
  if (kCompact && weight->shape[2] == 5) return "this small library has no 5x5 blocks";
  const int64_t stride = spec.int_or("stride_h", 1);
  if (stride > 2 || spec.int_or("stride_w", 1) != stride) return "the stride is neither 1 nor 2";
  if (spec.int_or("dilation_h", 1) != 1 || spec.int_or("dilation_w", 1) != 1)
    return "it is dilated";
  if (spec.outputs[0].w > 0xffff) return "the output is wider than 65535";
  return "";
}

DepthwiseStrip::DepthwiseStrip(const BlobView& blob, const ConvParams& params,
                               const Kernels& kernels, const Layout& layout,
                               const std::vector<uint8_t>& live, const std::vector<uint8_t>& kept,
                               const Arrays& arrays)
    : params_(params), kernels_(kernels), layout_(layout), kept_(kept) {
  require_packed(params.kernel_h == params.kernel_w &&
                 (params.kernel_h == 3 || params.kernel_h == 5) && params.stride_h <= 2 &&
                 params.stride_h == params.stride_w && params.dilation_h == 1 &&
                 params.dilation_w == 1 && params.output.w <= 0xffff);
  weights_ = blob.array<float>(arrays.weights, int64_t{params.taps()} * layout.channels);
  bias_ = blob.array<float>(arrays.bias, layout.channels);
  skipped_value_ = blob.array<float>(arrays.skipped_value, layout.channels);
  all_kept_ = std::all_of(kept_.begin(), kept_.end(), [](uint8_t k) { return k != 0; });
  make_tiles(live);
  blocks_ = all_kept_ || blocks_cost() <= tile_cost();
  if (blocks_) tiles_ = {}, positions_ = {}, first_tile_ = {};
  if (layout.skipped == Skipped::kNotWritten && writes_skipped()) make_places();
}

// The blocks store what nobody reads to one pixel, which stays in the first-level cache: what
// limits them is what passes between the caches.
void DepthwiseStrip::make_places() {
  const int width = params_.output.w, channels = layout_.channels;
  // A strip stays in the second-level cache, however wide: 32 bits are enough.
  require_packed(int64_t{layout_.strips.tallest()} * width * channels <= INT32_MAX);
  const int nowhere = layout_.strips.tallest() * width * channels;
  places_.assign(kept_.size(), nowhere);
  for (int strip = 0; strip < layout_.strips.count; ++strip) {
    const int begin = layout_.strips.first(strip) * width;
    for (int i = begin; i < layout_.strips.first(strip + 1) * width; ++i)
      if (kept_[i]) places_[i] = (i - begin) * channels;
  }
}

void DepthwiseStrip::make_tiles(const std::vector<uint8_t>& live) {
  const ConvParams& p = params_;
  auto taps_of = [&](int y, int x) {
    uint32_t taps = 0;
    for (int t = 0; t < p.taps(); ++t) {
      const int64_t pixel = p.input_pixel(y, x, t / p.kernel_w, t % p.kernel_w);
      if (pixel >= 0 && live[pixel]) taps |= uint32_t{1} << t;
    }
    return taps;
  };
  for (int strip = 0; strip < layout_.strips.count; ++strip) {
    const int y0 = layout_.strips.first(strip);
    first_tile_.push_back(static_cast<int32_t>(tiles_.size()));
    std::map<uint32_t, std::vector<Position>> by_taps;
    std::vector<Position> skipped;
    for (int y = y0; y < layout_.strips.first(strip + 1); ++y)
      for (int x = 0; x < p.output.w; ++x) {
        const Position at{static_cast<uint16_t>(y - y0), static_cast<uint16_t>(x)};
        if (kept_[int64_t{y} * p.output.w + x])
          by_taps[taps_of(y, x)].push_back(at);
        else if (layout_.skipped == Skipped::kValue)
          skipped.push_back(at);
      }
    Groups<Position> groups(by_taps.begin(), by_taps.end());
    merge(groups, vectors());
    auto add = [&](uint32_t taps, const std::vector<Position>& list, bool is_skipped) {
      const std::size_t count = (list.size() + kDepthwiseRows - 1) / kDepthwiseRows;
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t begin = list.size() * i / count, end = list.size() * (i + 1) / count;
        tiles_.push_back({taps, static_cast<int32_t>(positions_.size() + begin),
                          static_cast<int32_t>(end - begin), is_skipped});
      }
      positions_.insert(positions_.end(), list.begin(), list.end());
    };
    for (const auto& [taps, list] : groups) add(taps, list, false);
    add(0, skipped, true);
  }
  first_tile_.push_back(static_cast<int32_t>(tiles_.size()));
}

bool DepthwiseStrip::blocks_skip() const {
  return kernels_.depthwise_block_f32.at(params_.kernel_h, params_.stride_h).skips();
}

double DepthwiseStrip::blocks_cost() const {
  const auto kept = static_cast<double>(kept_count()), all = static_cast<double>(kept_.size());
  const double skipped = (all - kept) * (blocks_skip() ? kSkippedShare : 1.0);
  return (kept + skipped) * block_cost(params_);
}

int64_t DepthwiseStrip::kept_count() const {
  return static_cast<int64_t>(kept_.size()) - std::count(kept_.begin(), kept_.end(), 0);
}

double DepthwiseStrip::tile_cost() const {
  double cost = 0;
  for (const Tile& tile : tiles_)
    cost += group_cost(tile.taps, tile.rows, vectors()) + kTilePosition * tile.rows;
  return cost;
}

std::size_t DepthwiseStrip::scratch_bytes() const {
  return (most_lines() + kMaxTaps * (kDepthwiseRows + 1)) * sizeof(float*);
}

std::size_t DepthwiseStrip::index_bytes() const {
  return kept_.size() + places_.size() * sizeof(int32_t) + tiles_.size() * sizeof(Tile) +
         positions_.size() * sizeof(Position) + first_tile_.size() * sizeof(int32_t);
}

double DepthwiseStrip::macs() const {
  if (blocks_) {
    const auto positions = static_cast<double>(blocks_skip() ? kept_count() : kept_.size());
    return positions * params_.taps() * params_.output.c;
  }
  double sum = 0;
  for (const Tile& tile : tiles_) sum += double(tile.rows) * count_taps(tile.taps);
  return sum * params_.output.c;
}

std::vector<uint8_t> DepthwiseStrip::read(const ConvParams& p, const std::vector<uint8_t>& kept) {
  std::vector<uint8_t> read(int64_t{p.input.h} * p.input.w, 0);
  for (int y = 0; y < p.output.h; ++y)
    for (int x = 0; x < p.output.w; ++x) {
      if (!kept[int64_t{y} * p.output.w + x]) continue;
      for (int t = 0; t < p.taps(); ++t) {
        const int64_t pixel = p.input_pixel(y, x, t / p.kernel_w, t % p.kernel_w);
        if (pixel >= 0) read[pixel] = 1;
      }
    }
  return read;
}

bool DepthwiseStrip::whole_vectors() const { return params_.input.padded && params_.output.padded; }

void DepthwiseStrip::run(int strip, const float* const* table, const float* const* zero_row,
                         float* out, int64_t stride, uint8_t* scratch) const {
  const ConvParams& p = params_;
  const auto lines = reinterpret_cast<const float* const**>(scratch);
  const int count = most_lines();
  const int y0 = layout_.strips.first(strip), y1 = layout_.strips.first(strip + 1);
  for (int i = 0; i < count; ++i) {
    const int y = y0 * p.stride_h - p.pad_top + i;
    lines[i] =
        y < 0 || y >= p.input.h ? zero_row : table + int64_t{y % layout_.ring_rows} * table_width();
  }
  scratch += count * sizeof(float*);
  if (blocks_)
    run_blocks(y0, y1 - y0, lines, out, stride);
  else
    run_tiles(strip, lines, out, stride, scratch);
}

void DepthwiseStrip::run_blocks(int y0, int height, const float* const** lines, float* out,
                                int64_t stride) const {
  const ConvParams& p = params_;
  const float* const* seen[kMaxBlockLines];
  DepthwiseBlockArgs args{};
  args.lines = seen;
  args.weights = weights_;
  args.weight_stride = layout_.channels;
  args.channels = p.output.c;
  args.start = bias_;
  args.out_row = int64_t{p.output.w} * stride;
  args.out_column = stride;
  args.mask_row = p.output.w;
  args.skipped = layout_.skipped == Skipped::kValue ? skipped_value_ : nullptr;
  args.placed = out;
  args.epilogue = &p.epilogue;
  args.whole_vectors = whole_vectors();
  const DepthwiseBlocks& blocks = kernels_.depthwise_block_f32.at(p.kernel_h, p.stride_h);
  const int blocks_y = (height + blocks.rows - 1) / blocks.rows;
  const int blocks_x = (p.output.w + blocks.columns - 1) / blocks.columns;
  for (int by = 0; by < blocks_y; ++by) {
    const int y = height * by / blocks_y, rows = height * (by + 1) / blocks_y - y;
    for (int bx = 0; bx < blocks_x; ++bx) {
      const int x = p.output.w * bx / blocks_x;
      args.columns = p.output.w * (bx + 1) / blocks_x - x;
      for (int i = 0; i < (rows - 1) * p.stride_h + p.kernel_h; ++i)
        seen[i] = lines[y * p.stride_h + i] + x * p.stride_w;
      args.out = out + y * args.out_row + x * stride;
      const int64_t at = int64_t{y0 + y} * p.output.w + x;
      if (!all_kept_) args.keep = kept_.data() + at;
      if (!places_.empty()) args.places = places_.data() + at;
      blocks.block[rows - 1](args);
    }
  }
}

void DepthwiseStrip::run_tiles(int strip, const float* const** lines, float* out, int64_t stride,
                               uint8_t* scratch) const {
  const ConvParams& p = params_;
  const float** rows = reinterpret_cast<const float**>(scratch);
  const float** weights = rows + kMaxTaps * kDepthwiseRows;
  float* tile_out[kDepthwiseRows];
  int taps[kMaxTaps];
  DepthwiseArgs args{};
  args.rows = rows;
  args.weights = weights;
  args.channels = p.output.c;
  args.out = tile_out;
  args.epilogue = &p.epilogue;
  args.whole_vectors = whole_vectors();
  uint32_t current = ~uint32_t{0};
  for (int i = first_tile_[strip]; i < first_tile_[strip + 1]; ++i) {
    const Tile& tile = tiles_[i];
    args.start = tile.skipped ? skipped_value_ : bias_;
    if (tile.taps != current) {
      current = tile.taps;
      args.taps = 0;
      for (int t = 0; t < p.taps(); ++t)
        if (current >> t & 1) {
          weights[args.taps] = weights_ + int64_t{t} * layout_.channels;
          taps[args.taps++] = t;
        }
    }
    for (int r = 0; r < tile.rows; ++r) {
      const Position at = positions_[tile.first + r];
      tile_out[r] = out + (int64_t{at.row} * p.output.w + at.x) * stride;
    }
    const float** to = rows;
    for (int t = 0; t < args.taps; ++t) {
      const int ky = taps[t] / p.kernel_w, kx = taps[t] % p.kernel_w;
      for (int r = 0; r < tile.rows; ++r) {
        const Position at = positions_[tile.first + r];
        *to++ = lines[at.row * p.stride_h + ky][at.x * p.stride_w + kx];
      }
    }
    kernels_.depthwise_f32.tile[tile.rows - 1](args);
  }
}

}  // namespace activsparse
