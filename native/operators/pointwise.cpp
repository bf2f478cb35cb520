// Matrix products over whole pixels: 1x1 convolutions of stride 1 and fully connected layers. Row i
// is pixel i, so a layer without a mask needs no index data; with one, the list of kept positions.
//
// Loops, from outside: group of panels whose weights stay in the second-level cache - chunk of rows
// that stays in the first - panel - tile. Inputs and outputs pass once per group, and most layers
// are a single group. Tasks are chunks, with all groups: threads have rows of their own. Where all
// rows are one chunk, the loops are panel - tile, and tasks are shares of the tiles, or of the
// panels' rows: each thread reads its own part of the weights, and no more.
#include <algorithm>
#include <numeric>

#include "operators/conv_params.h"
#include "operators/fetch.h"
#include "operators/locate.h"
#include "operators/panel_tiles.h"
#include "operators/pixel_product.h"
#include "operators/source_fill.h"

namespace activsparse::pointwise {
namespace {

// Of the second-level cache. Smaller groups would read inputs of many channels oftener, which costs
// more than weights that leave the cache.
constexpr int64_t kGroupShare = 400;
constexpr int64_t kChunkShare = 640;  // of the first-level cache
// Of the first-level cache, weights that are widened at a time where each is used once.
constexpr int64_t kWideShare = 512;
// Chunks are whole tiles of every height in use: 48 is a multiple of 6, 8, 12 and 16.
constexpr int kChunkRows = 48;
constexpr int kMostFitting = 4 * kChunkRows;
constexpr int kMaxChunkRows = kMostFitting * 3 / 2;  // with what would be less than half a chunk
constexpr int kMinTasks = 240;
constexpr int kFewTiles = 10;
constexpr std::size_t kListBytes = 3 * kMaxChunkRows * sizeof(float*);

struct Header {
  ConvParams params;
  SourceFillHeader fill;
  int32_t has_mask, kept_count, skipped_count;
  int32_t threads;  // that chunks are cut for
  WeightsHeader weights;
  uint64_t bias, skipped_value, kept, skipped;
};

class Pointwise : public ConvOperator {
 public:
  Pointwise(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob)),
        kernels_(kernels_for(isa)),
        panels_(kernels_, 1, h_.params.output.c, h_.params.input.c,
                kernels_.gemm_f32.sizes.max_vectors, true),
        fill_(blob, h_.fill, h_.params.output) {
    require_packed(is_pixelwise(h_.params) && (h_.has_mask || fill_.empty()));
    weights_ = panels_.weights(blob, h_.weights);
    bias_ = blob.array<float>(h_.bias, panels_.channel_floats());
    skipped_value_ = blob.array<float>(h_.skipped_value, panels_.channel_floats());
    kept_ = positions(blob, h_.kept, h_.kept_count);
    skipped_ = positions(blob, h_.skipped, h_.skipped_count);

    const TensorDesc& out = h_.params.output;
    rows_ = h_.has_mask ? int64_t{out.n} * h_.kept_count : out.pixels();
    const auto& panels = panels_.all();
    const int64_t chunk_floats = kernels_.caches.of_l1(kChunkShare) / int64_t{sizeof(float)};
    const int64_t fit = chunk_floats / h_.params.input.c / kChunkRows * kChunkRows;
    chunk_rows_ = static_cast<int>(std::clamp<int64_t>(fit, kChunkRows, kMostFitting));
    require_packed(h_.threads >= 1 && h_.threads <= kMostThreads);
    const auto group_bytes = static_cast<uint64_t>(kernels_.caches.of_l2_alone(kGroupShare));
    if (rows_ < chunk_rows_ * 3 / 2) {
      const auto rows = static_cast<int>(rows_);
      std::vector<int> tiles;
      for (const Panel& panel : panels) tiles.push_back(cut_rows(panels_, panel, rows).tiles());
      const int all = std::accumulate(tiles.begin(), tiles.end(), 0);
      const bool few = h_.threads > 1 && all < kFewTiles * h_.threads;
      first_tile_.push_back(0);
      for (const int count : tiles)
        first_tile_.push_back(first_tile_.back() + (few ? rows : count));
      for (const Panel& panel : panels)
        room_ = std::max(room_, std::min(panels_.floats_of(panel),
                                         (streams(panel) ? kernels_.caches.of_l1(kWideShare)
                                                         : static_cast<int64_t>(group_bytes)) /
                                             int64_t{sizeof(float)}));
      return;
    }
    for (std::size_t i = 0; i < panels.size(); ++i) {
      const uint64_t end = panels_.weights_end(i);
      const uint64_t begin = panels[groups_.empty() ? 0 : groups_.back()].weights;
      if (groups_.empty() || (end - begin) * sizeof(float) > group_bytes)
        groups_.push_back(static_cast<int>(i));
    }
    groups_.push_back(static_cast<int>(panels.size()));
    room_ = static_cast<int64_t>(
        std::min<uint64_t>(group_bytes / sizeof(float), panels_.weight_floats()));
    const int64_t tiles = std::max<int64_t>(1, (rows_ + 5) / 6);
    chunks_ = static_cast<int>(std::clamp<int64_t>(kMinTasks, 1, tiles));
    align_ = rows_ >= int64_t{chunks_} * kChunkRows * 2 ? kChunkRows : 6;
    // So few rows that whole tiles would be uneven shares: as many chunks as there are threads.
    if (h_.threads > 1 && tiles < int64_t{kFewTiles} * h_.threads) {
      chunks_ = static_cast<int>(std::min<int64_t>(h_.threads, rows_));
      align_ = 1;
    }
  }

  const ConvParams& params() const override { return h_.params; }
  int phases() const override { return h_.skipped_count > 0 ? 2 : 1; }
  int tasks(int phase) const override {
    if (phase == 1) return SourceFill::kTasks;
    return one_chunk() ? std::min(first_tile_.back(), kMinTasks) : chunks_;
  }
  double cost(int phase, int begin, int end) const override {
    if (phase > 0) return ConvOperator::cost(phase, begin, end);
    const int64_t count = tasks(0);
    double sum = 0;  // rows times lanes
    if (one_chunk()) {
      const int64_t tiles = first_tile_.back();
      for (int64_t tile = tiles * begin / count; tile < tiles * end / count; ++tile) {
        const int panel = panel_of(static_cast<int>(tile));
        sum += double(rows_) / (first_tile_[panel + 1] - first_tile_[panel]) *
               panels_.all()[panel].vectors * kernels_.width;
      }
      return sum * h_.params.input.c;
    }
    const double rows = double(row_of_chunk(end) - row_of_chunk(begin));
    return rows * static_cast<double>(panels_.channel_floats()) * h_.params.input.c;
  }
  std::size_t scratch_bytes() const override {
    return kListBytes + (weights_.half() ? room_ * sizeof(float) : 0);
  }
  bool half_weights() const override { return weights_.half(); }
  std::size_t index_bytes() const override {
    return sizeof(int32_t) * (int64_t{h_.kept_count} + h_.skipped_count) + fill_.bytes();
  }
  Constants constants() const override { return weights_.stored(0, panels_.weight_floats()); }
  int64_t fetches() const override { return Fetch::most_ahead(kernels_); }
  int64_t fetches_far() const override { return Fetch::most_far(kernels_, macs()); }
  double macs() const override { return double(rows_) * h_.params.input.c * h_.params.output.c; }
  std::string kernel() const override {
    const Panel& panel = panels_.all()[0];
    return std::string(kernels_.isa) + " " +
           std::to_string(panels_.gemm(panel).sizes.max_rows[panel.vectors - 1]) + "x" +
           std::to_string(panel.vectors * panel.width);
  }

  void run(const RunArgs& args, int phase, int begin, int end) const override {
    if (phase == 1) {
      const int64_t rows = int64_t{h_.params.output.n} * h_.skipped_count;
      const Stretch skipped{rows * begin / SourceFill::kTasks, rows * end / SourceFill::kTasks,
                            skipped_, h_.skipped_count};
      return run_rows(args, 0, static_cast<int>(panels_.all().size()), skipped, true, true);
    }
    if (one_chunk()) {
      const int64_t tiles = first_tile_.back(), count = tasks(0);
      return run_tiles(args, static_cast<int>(tiles * begin / count),
                       static_cast<int>(tiles * end / count));
    }
    const Stretch kept{row_of_chunk(begin), row_of_chunk(end), h_.has_mask ? kept_ : nullptr,
                       h_.kept_count};
    const int groups = static_cast<int>(groups_.size()) - 1;
    for (int group = 0; group < groups; ++group)
      run_rows(args, groups_[group], groups_[group + 1], kept, false, group + 1 == groups);
  }

 private:
  // Rows begin..end, counted over all images, of a list of positions (nullptr: all positions).
  struct Stretch {
    int64_t begin, end;
    const int32_t* positions;
    int count;
  };

  bool one_chunk() const { return !first_tile_.empty(); }

  // The panel of a tile of the single chunk.
  int panel_of(int tile) const {
    return static_cast<int>(std::upper_bound(first_tile_.begin(), first_tile_.end(), tile) -
                            first_tile_.begin()) -
           1;
  }

  // Tiles begin..end, counted over the panels, of the single chunk.
  void run_tiles(const RunArgs& args, int begin, int end) const {
    while (begin < end) {
      const int panel = panel_of(begin);
      const int first = first_tile_[panel], tiles = first_tile_[panel + 1] - first;
      // All panels whose tiles are all among these, or else some tiles of one.
      int last = begin == first ? panel_of(end) : panel;
      if (last == panel) ++last;
      const int stop = std::min(end, first_tile_[last]);
      const bool whole = stop == first_tile_[last];
      const Stretch kept{rows_ * (begin - first) / tiles,
                         whole ? rows_ : rows_ * (stop - first) / tiles,
                         h_.has_mask ? kept_ : nullptr, h_.kept_count};
      run_rows(args, panel, last, kept, false, stop == end);
      begin = stop;
    }
  }

  const int32_t* positions(const BlobView& blob, uint64_t offset, int32_t count) const {
    const int32_t* list = blob.array<int32_t>(offset, count < 0 ? ~uint64_t{0} : count);
    for (int i = 0; i < count; ++i)
      require_packed(list[i] >= 0 && list[i] < h_.params.output.h * h_.params.output.w);
    return list;
  }

  int64_t row_of_chunk(int chunk) const {
    const int64_t row = (rows_ * chunk / chunks_ + align_ / 2) / align_ * align_;
    return chunk == chunks_ ? rows_ : std::min(row, rows_);
  }

  // `last`: no other rows or panels follow in this run.
  void run_rows(const RunArgs& run, int first_panel, int last_panel, const Stretch& stretch,
                bool skipped, bool last) const {
    const ConvParams& p = h_.params;
    const auto& panels = panels_.all();
    Fetch fetch;
    if (first_panel < last_panel && !skipped) {
      // The rest of the group, and the first panel of the next one.
      const uint64_t end = panels_.weights_end(last ? last_panel - 1 : last_panel);
      uint64_t begin = panels_.weights_end(first_panel);
      if (first_panel == 0)
        begin = std::max(begin, static_cast<uint64_t>(run.fetched) * (weights_.half() ? 2 : 1));
      const Constants rest = weights_.stored(std::min(begin, end), end);
      fetch.add(rest.data, rest.floats);
      if (last) fetch.add(run);
    }
    const bool none = skipped || first_panel == last_panel;
    const float* weights = none ? nullptr : wide(run, first_panel, last_panel);
    int count;
    for (int64_t begin = stretch.begin; begin < stretch.end; begin += count) {
      const int64_t left = stretch.end - begin;
      count = static_cast<int>(left < chunk_rows_ * 3 / 2 ? left : chunk_rows_);
      point(run, stretch, begin, count);
      int64_t tiles = 0;
      for (int i = first_panel; i < last_panel; ++i)
        tiles += cut_rows(panels_, panels[i], count).tiles();
      fetch.spread(tiles, p.input.c);
      for (int i = first_panel; i < last_panel; ++i) {
        const uint64_t before = panels[i].weights - panels[first_panel].weights;
        if (skipped)
          multiply(run, panels[i], nullptr, count, true, fetch);
        else if (weights != nullptr)
          multiply(run, panels[i], weights + before, count, false, fetch);
        else
          multiply_parts(run, panels[i], count, fetch);
      }
      if (!fill_.empty() && first_panel < last_panel)
        fill(run, stretch, begin, count, panels[first_panel], panels[last_panel - 1]);
    }
  }

  // Copies the channels of panels first..last, of these rows of a stretch, to where they are the
  // sources.
  void fill(const RunArgs& run, const Stretch& stretch, int64_t begin, int count,
            const Panel& first, const Panel& last) const {
    const TensorDesc& out = h_.params.output;
    const int channels = last.first + last.columns - first.first;
    int64_t image = begin / stretch.count, at = begin % stretch.count;
    for (int64_t left = count; left > 0; ++image, at = 0) {
      const int64_t here = std::min(left, stretch.count - at);
      fill_.copy_from(run.out(0) + image * out.h * out.w * out.stride, stretch.positions[at],
                      int64_t{stretch.positions[at + here - 1]} + 1, first.first, channels);
      left -= here;
    }
  }

  // The lists in a thread's scratch: where the rows of a chunk lie.
  struct Lists {
    const float **rows, **residual;
    float** out;
    explicit Lists(const RunArgs& run) {
      rows = reinterpret_cast<const float**>(run.scratch);
      residual = rows + kMaxChunkRows;
      out = const_cast<float**>(residual + kMaxChunkRows);
    }
  };

  // A single tile runs at the pace of memory, and fetches nothing else.
  bool streams(const Panel& panel) const { return rows_ <= panels_.most_rows(panel); }

  // Weights of panels first..last as float32; nullptr where there is no room for all of them.
  const float* wide(const RunArgs& run, int first, int last) const {
    const auto& panels = panels_.all();
    if (!weights_.half()) return weights_.floats() + panels[first].weights;
    const uint64_t begin = panels[first].weights;
    if (panels_.weights_end(last - 1) - begin > static_cast<uint64_t>(room_)) return nullptr;
    float* room = room_of(run);
    for (int i = first; i < last; ++i)
      weights_.wide(kernels_, i, panels[i].weights, panels_.floats_of(panels[i]),
                    room + (panels[i].weights - begin));
    return room;
  }

  GemmArgs args_of(const Lists& lists, const Panel& panel, bool skipped) const {
    const ConvParams& p = h_.params;
    GemmArgs args{};
    args.rows = lists.rows;
    args.out = lists.out;
    args.residual = p.has_residual ? lists.residual : nullptr;
    args.taps = skipped ? 0 : 1;
    args.channels = p.input.c;
    args.start = (skipped ? skipped_value_ : bias_) + panel.channels;
    args.epilogue = &p.epilogue;
    set_lanes(args, panel, p.output);
    return args;
  }

  void multiply(const RunArgs& run, const Panel& panel, const float* weights, int count,
                bool skipped, Fetch& fetch) const {
    run_panel(panels_, panel, weights, count, args_of(Lists(run), panel, skipped),
              streams(panel) ? nullptr : &fetch);
  }

  // The same of weights that are widened here, as many input channels at a time as there is room
  // for; sums wait in the output. The residual, whose place that may be, is added first.
  void multiply_parts(const RunArgs& run, const Panel& panel, int count, Fetch& fetch) const {
    const Lists lists(run);
    const Epilogue none;
    GemmArgs args = args_of(lists, panel, false);
    const int channels = args.channels, lanes = panel.vectors * panel.width;
    const auto most = static_cast<int>(room_ / lanes);
    const int parts = (channels + most - 1) / most;
    for (int part = 0, begin = 0; part < parts; ++part) {
      const int end = static_cast<int>(int64_t{channels} * (part + 1) / parts);
      args.channels = end - begin;
      args.epilogue = part + 1 == parts ? &h_.params.epilogue : part == 0 ? &none : nullptr;
      run_panel(
          panels_, panel,
          weights_.wide(kernels_, panels_.index_of(panel), panel.weights + int64_t{begin} * lanes,
                        int64_t{end - begin} * lanes, room_of(run)),
          count, args, parts > 1 || streams(panel) ? nullptr : &fetch);
      for (int i = 0; i < count; ++i) lists.rows[i] += end - begin;
      args.start = nullptr;
      args.residual = nullptr;
      begin = end;
    }
    for (int i = 0; i < count; ++i) lists.rows[i] -= channels;
  }

  float* room_of(const RunArgs& run) const {
    return reinterpret_cast<float*>(run.scratch + kListBytes);
  }

  void point(const RunArgs& run, const Stretch& stretch, int64_t begin, int count) const {
    const ConvParams& p = h_.params;
    const Lists lists(run);
    const auto set = [&](auto** to, auto* from, int64_t stride) {
      if (stretch.positions == nullptr) return locate_all(to, from + begin * stride, count, stride);
      const int64_t image_floats = int64_t{p.output.h} * p.output.w * stride;
      int64_t image = begin / stretch.count, at = begin % stretch.count;
      for (int left = count; left > 0; ++image, at = 0) {
        const int here = static_cast<int>(std::min<int64_t>(left, stretch.count - at));
        locate(to, reinterpret_cast<std::uintptr_t>(from + image * image_floats),
               stretch.positions + at, here, stride);
        to += here;
        left -= here;
      }
    };
    set(lists.rows, run.in(0), p.input.stride);
    set(lists.out, run.out(0), p.output.stride);
    if (p.has_residual) set(lists.residual, run.in(1), p.residual.stride);
  }

  const Header& h_;
  const Kernels& kernels_;
  Panels panels_;
  SourceFill fill_;
  int64_t rows_;
  int chunk_rows_;
  // Of each panel, and the end: tiles, or rows where threads would get few tiles. Empty where there
  // are several chunks.
  std::vector<int> first_tile_;
  std::vector<int> groups_;  // else: first panel of each group, and the end
  int chunks_ = 1, align_ = 1;
  Weights weights_;
  int64_t room_ = 0;  // floats of weights that are widened at a time
  const float *bias_, *skipped_value_;
  const int32_t *kept_, *skipped_;
};

Blob pack_product(const OpSpec& spec, const ConvParams& params, Isa isa) {
  const Kernels& kernels = kernels_for(isa);
  Header h{};
  h.params = params;
  h.threads = std::clamp(spec.threads, 1, kMostThreads);
  const int64_t depth = params.input.c;
  const Panels panels(kernels, 1, params.output.c, depth, kernels.gemm_f32.sizes.max_vectors, true);
  BlobWriter writer;
  writer.append<Header>(1);
  const float* weight = spec.float_array("weight");
  h.weights = panels.pack_weights(writer, wants_half(spec),
                                  [&](int o, int64_t k) { return weight[o * depth + k]; });
  h.bias = panels.pack_channels(writer, spec.float_array("bias"));
  h.skipped_value = panels.pack_channels(writer, spec.float_array("skipped_value"));
  h.fill = SourceFill::pack(writer, spec);
  MaskedPositions at;
  if (const ArrayView* mask = spec.array("mask")) {
    h.has_mask = 1;
    at = masked_positions(spec, mask->size());
  }
  h.kept_count = static_cast<int32_t>(at.kept.size());
  h.skipped_count = static_cast<int32_t>(at.skipped.size());
  h.kept = writer.append(at.kept.data(), at.kept.size());
  h.skipped = writer.append(at.skipped.data(), at.skipped.size());
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string conv_unsupported(const OpSpec& spec, Isa) {
  if (spec.inputs[0].nchw || spec.outputs[0].nchw) return "input or output is NCHW";
  return PixelProduct::unsupported(spec);
}

std::unique_ptr<Operator> create(const BlobView& blob, Isa isa) {
  return std::make_unique<Pointwise>(blob, isa);
}

}  // namespace

std::vector<OperatorType> types() {
  return {
      {"conv", "pointwise", conv_unsupported,
       [](const OpSpec& spec, Isa isa) { return pack_product(spec, conv_params_of(spec), isa); },
       create},
      {"gemm", "direct",
       [](const OpSpec& spec, Isa) {
         return std::string(spec.inputs[0].nchw || spec.outputs[0].nchw ? "a tensor is NCHW" : "");
       },
       [](const OpSpec& spec, Isa isa) { return pack_product(spec, gemm_params_of(spec), isa); },
       create}};
}

}  // namespace activsparse::pointwise
