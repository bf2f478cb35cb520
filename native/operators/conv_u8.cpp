// Convolution of uint8 by int8, direct: rows of the product are read where they lie in the input,
// as in conv_direct.cpp, and positions, classes of taps and tiles are the same code.
//
// The zero point of the input is part of what sums start from: start = bias - zero * (sum of the
// weights of the taps that a class of positions computes). Taps in the padding, or on inputs that
// a mask has left at the zero point, contribute nothing then and are left out. The same sums of
// weights make up for what kernels lower activations by.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "operators/byte_fetch.h"
#include "operators/byte_panels.h"
#include "operators/conv_params.h"
#include "operators/even_parts.h"
#include "operators/finish_u8.h"
#include "operators/live_input.h"
#include "operators/locate.h"
#include "operators/panel_tiles.h"
#include "operators/row_plan.h"
#include "operators/source_fill.h"

namespace activsparse::conv_u8 {
namespace {

constexpr int kMinTasks = 240;                    // even shares for up to 24 threads
constexpr int64_t kMostDepth = int64_t{1} << 16;  // sums of so many products stay in 32 bits
constexpr int64_t kWeightShare = 128;             // of the second-level cache
constexpr int64_t kWordsShare = 512;              // where activations are widened for all panels
constexpr int64_t kWordRows = 24 * 1024;          // bytes of widened rows of a chunk
constexpr double kRowCost = 32;                   // of what is not a product, in multiply-adds

struct Header {
  ConvParams params;
  RowPlanHeader rows;
  SourceFillHeader fill;
  LiveInputHeader live;
  BytePanelsHeader panels;
  FinishU8 finish;
  int32_t input_zero;
  uint64_t bias, scale, shift, tap_sums, odd_sums, zeros, table;
  int32_t joined;  // 1: the taps of a row are one, see joined_taps()
  int32_t has_table;
  int32_t threads;  // that the work is cut for
};

// Images of at most four channels, four bytes to a pixel, that bring their padding along: the taps
// of a row of the kernel lie side by side, and are quads of one tap.
bool can_join(const ConvParams& p) {
  return p.group == 1 && p.input.stride == 4 && p.dilation_w == 1 && p.pad_left == 0 &&
         p.pad_right == 0 && p.kernel_w > 1;
}

// The convolution as products and rows see it.
ConvParams joined_taps(const ConvParams& p) {
  ConvParams joined = p;
  joined.in_per_group = 4 * p.kernel_w;
  joined.kernel_w = 1;
  return joined;
}

// What a position without a sum and without a residual holds.
int skipped_value(const FinishU8& f) {
  const float value = f.rescaled ? std::min(std::max(0.0f, f.residual_lo), f.residual_hi) : 0.0f;
  return f.zero + static_cast<int>(std::nearbyint(value));
}

void check(const Header& h) {
  const ConvParams& p = h.params;
  require_packed(h.joined == (can_join(p) && !h.live.present));
  require_packed(fault_of(p, DType::kU8) == nullptr && !p.input.nchw);
  require_packed(p.has_residual == 0 || p.has_residual == 1);
  require_packed(p.input.dtype == DType::kU8 && p.input.stride % 4 == 0);
  require_packed(!p.has_residual || p.residual.dtype == DType::kU8);
  require_packed(int64_t{p.in_per_group} * p.taps() <= kMostDepth);
  require_packed(h.finish, p.output, p.has_residual != 0);
  require_packed(h.input_zero >= 0 && h.input_zero <= 255);
  require_packed(!h.has_table || p.output.dtype == DType::kU8);
  require_packed(h.threads >= 1 && h.threads <= kMostThreads);
}

const Header& checked(const BlobView& blob) {
  const Header& h = blob.header<Header>();
  check(h);
  return h;
}

// Positions of one class that are computed together, while their inputs and outputs are in the
// first-level cache.
struct Chunk {
  const RowClass* rows_of;
  int32_t begin, count;  // of the plan's positions
};

class ConvU8 : public ConvOperator {
 public:
  ConvU8(const BlobView& blob, Isa isa)
      : h_(checked(blob)),
        kernels_(kernels_for(isa)),
        feature_(feature_of(isa)),
        seen_(h_.joined ? joined_taps(h_.params) : h_.params),
        panels_(blob, h_.panels, seen_, isa),
        rows_(blob, h_.rows, seen_),
        fill_(blob, h_.fill, h_.params.output),
        words_(panels_.words() && kernels_.words_u8.widen_rows != nullptr),
        item_(size_of(h_.params.output.dtype)) {
    const ConvParams& p = h_.params;
    scale_ = blob.array<float>(h_.scale, panels_.lanes());
    shift_ = blob.array<float>(h_.shift, panels_.lanes());
    zeros_ = blob.array<uint8_t>(h_.zeros, zero_bytes(p));
    if (h_.has_table) table_ = blob.array<uint8_t>(h_.table, 256);
    skipped_ = skipped_value(h_.finish);
    if (table_ != nullptr) skipped_ = table_[skipped_];
    live_ = live_input(blob, h_.live, h_.params);
    locate_positions();
    find_unwritten();
    cut_chunks();
    set_starts(blob.array<int32_t>(h_.bias, panels_.lanes()),
               blob.array<int32_t>(h_.tap_sums, panels_.lanes() * seen_.taps()),
               blob.array<int32_t>(h_.odd_sums, odd_sum_count(seen_, panels_.lanes(), isa)));
  }

  static int64_t odd_sum_count(const ConvParams& seen, int64_t lanes, Isa isa) {
    return needs_odd_sums(isa) ? lanes * seen.taps() : 0;
  }
  static int64_t zero_bytes(const ConvParams& p) { return int64_t{p.input.c} + 4; }

  const ConvParams& params() const override { return h_.params; }
  int tasks(int) const override { return first_task_.back(); }
  double cost(int, int begin, int end) const override {
    double sum = 0;
    each_run(begin, end, [&](int panel, Place first, Place last) {
      const double lanes = by_chunk_ ? static_cast<double>(panels_.lanes())
                                     : panels_.all()[panel].vectors * 1.0 * width();
      sum += lanes * (cost_until(last) - cost_until(first));
    });
    return sum;
  }
  std::size_t scratch_bytes() const override {
    const std::size_t taps = rows_.max_taps();
    const std::size_t lists = ((taps + 2) * most_rows_ + 3 * taps) * sizeof(void*);
    if (!words_) return lists;
    return round_up(lists) + sizeof(uint16_t) * (row_words() * most_rows_ + panel_words());
  }
  std::size_t index_bytes() const override { return rows_.bytes() + fill_.bytes(); }
  double macs() const override {
    const ConvParams& p = h_.params;
    return rows_.computed_taps() * (h_.joined ? p.kernel_w : 1) * p.in_per_group * p.output.c *
           p.output.n;
  }
  std::string kernel() const override {
    const int vectors = panels_.all()[0].vectors;
    return std::string(kernels_.isa) + (*feature_ ? "-" : "") + feature_ + " int8 " +
           std::to_string(kernels_.product_u8.sizes.max_rows[vectors - 1]) + "x" +
           std::to_string(vectors * width()) + (words_ ? ", 16 bits" : "") +
           (h_.has_table ? ", table" : "");
  }

  Constants constants() const override {
    const int64_t bytes = panels_.all_weights_bytes();
    return {reinterpret_cast<const float*>(panels_.weights(0, 0)),
            bytes / static_cast<int64_t>(sizeof(float))};
  }
  int64_t fetches() const override { return Fetch::most_ahead(kernels_); }
  int64_t fetches_far() const override { return Fetch::most_far(kernels_, macs() / 4); }

  void run(const RunArgs& args, int, int begin, int end) const override {
    if (begin >= end) return;
    ByteFetch fetch = first_fetch(args, begin, end);
    int64_t tiles = 0;
    each_run(begin, end,
             [&](int, Place from, Place to) { tiles += to.chunk + (to.row > 0) - from.chunk; });
    fetch.spread(by_chunk_ ? tiles * panel_count() : tiles);
    Work work(*this, args);
    each_run(begin, end, [&](int panel, Place from, Place to) {
      each_chunk(from, to, [&](int64_t image, const Chunk& chunk) {
        if (chunk.rows_of->skipped && !h_.params.has_residual) {
          if (by_chunk_ || panel == 0) skip(args, image, chunk);
          for (int i = by_chunk_ ? panel_count() : 1; i > 0; --i) fetch.tile(0, 1);
          return;
        }
        point(work, image, chunk, panels_.all()[panel].group);
        if (words_) widen_rows(work, chunk);
        if (!by_chunk_) return run_panel(work, image, chunk, panel, fetch);
        for (int i = 0; i < panel_count(); ++i) run_panel(work, image, chunk, i, fetch);
      });
    });
  }

 private:
  static std::size_t round_up(std::size_t bytes) { return (bytes + 63) / 64 * 64; }
  int quads() const { return (seen_.in_per_group + 3) / 4; }
  // Of products of 16-bit numbers: of a row, and of the weights of a panel.
  std::size_t row_words() const { return std::size_t{4} * quads() * rows_.max_taps(); }
  std::size_t panel_words() const { return row_words() * panels_.all()[0].vectors * width(); }

  int width() const { return kernels_.product_u8.sizes.width; }
  int panel_count() const { return static_cast<int>(panels_.all().size()); }
  int64_t chunk_count() const { return static_cast<int64_t>(chunks_.size()); }

  // A thread's scratch: where the rows of a chunk lie, tap by tap, and its outputs.
  struct Work {
    const RunArgs& run;
    const uint8_t **rows, **residual;
    uint8_t** out;
    const int8_t** weights;
    const int32_t** offsets;
    const StepCounts** steps;
    uint16_t* words;  // (most_rows_, row_words()) of a chunk
    int16_t* wide;    // weights of a panel and a class
    const RowClass* wide_of = nullptr;
    int wide_panel = -1;
    Work(const ConvU8& op, const RunArgs& args) : run(args) {
      const int taps = op.rows_.max_taps();
      rows = reinterpret_cast<const uint8_t**>(args.scratch);
      residual = rows + std::size_t{1} * taps * op.most_rows_;
      out = const_cast<uint8_t**>(residual + op.most_rows_);
      weights = reinterpret_cast<const int8_t**>(residual + std::size_t{2} * op.most_rows_);
      offsets = reinterpret_cast<const int32_t**>(weights + taps);
      steps = reinterpret_cast<const StepCounts**>(offsets + taps);
      auto* end = reinterpret_cast<uint8_t*>(steps + taps);
      words = reinterpret_cast<uint16_t*>(args.scratch + round_up(end - args.scratch));
      wide = reinterpret_cast<int16_t*>(words + op.row_words() * op.most_rows_);
    }
  };

  // What follows in the order of reading: weights that are not here yet, then others'.
  ByteFetch first_fetch(const RunArgs& args, int begin, int end) const {
    ByteFetch fetch;
    const int first = by_chunk_ ? 0 : panel_of(begin);
    const int last = by_chunk_ ? panel_count() - 1 : panel_of(end - 1);
    const int8_t* const start = panels_.weights(0, 0);
    const int64_t read = panels_.weights_end(first) - start;
    const int64_t fetched = args.fetched * static_cast<int64_t>(sizeof(float));
    const int64_t near = first > 0 ? read : std::max(read, fetched);
    fetch.add(start + near, panels_.weights_end(last) - start - near);
    fetch.add(args);
    return fetch;
  }

  // A row of the product: of a chunk, which are counted over all images.
  struct Place {
    int64_t chunk;
    int32_t row;
  };

  int panel_of(int task) const {
    const auto after = std::upper_bound(first_task_.begin(), first_task_.end(), task);
    return static_cast<int>(after - first_task_.begin()) - 1;
  }

  // Calls body(panel, first, end) for the rows of tasks [begin, end); of all panels where they go
  // by chunks.
  template <class Body>
  void each_run(int begin, int end, const Body& body) const {
    for (int stop; begin < end; begin = stop) {
      const int panel = panel_of(begin), first = first_task_[panel];
      const int shares = first_task_[panel + 1] - first;
      stop = std::min(end, first + shares);
      body(panel, first_of_share(begin - first, shares), first_of_share(stop - first, shares));
    }
  }
  // Calls body(image, chunk) for the chunks of these rows, or what of them is among these.
  template <class Body>
  void each_chunk(Place from, Place to, const Body& body) const {
    for (; from.chunk < to.chunk + (to.row > 0); ++from.chunk, from.row = 0) {
      const int64_t image = from.chunk / chunk_count();
      Chunk chunk = chunks_[from.chunk - image * chunk_count()];
      const int32_t end = from.chunk == to.chunk ? to.row : chunk.count;
      chunk.begin += from.row, chunk.count = end - from.row;
      if (chunk.count > 0) body(image, chunk);
    }
  }

  double row_cost(const Chunk& chunk) const {
    return chunk.rows_of->taps * double{1} * seen_.in_per_group + kRowCost;
  }
  double cost_until(Place at) const {
    if (at.chunk == 0 && at.row == 0) return 0;
    const int64_t image = at.chunk / chunk_count(), chunk = at.chunk - image * chunk_count();
    const double rest = at.row == 0 ? 0 : at.row * row_cost(chunks_[chunk]);
    return static_cast<double>(image) * costs_.back() + costs_[chunk] + rest;
  }
  // Where an equal share of the cost begins: nearly, with a chunk, where chunks are not cut.
  Place first_of_share(int share, int shares) const {
    const int64_t images = h_.params.output.n, all = images * chunk_count();
    if (share == shares || all == 0) return {all, 0};
    const double target = costs_.back() * static_cast<double>(images) * share / shares;
    const auto image = std::min(images - 1, static_cast<int64_t>(target / costs_.back()));
    const double rest = target - static_cast<double>(image) * costs_.back();
    const auto after = std::upper_bound(costs_.begin() + 1, costs_.end() - 1, rest);
    const int64_t chunk = after - costs_.begin() - 1;
    const Chunk& one = chunks_[chunk];
    const double row = (rest - costs_[chunk]) / row_cost(one);
    const int64_t at = image * chunk_count() + chunk;
    if (!cuts_chunks_) return {at + (2 * row > one.count), 0};
    const auto rows = std::clamp(static_cast<int32_t>(std::lround(row)), 0, one.count);
    return rows == one.count ? Place{at + 1, 0} : Place{at, rows};
  }

  // Where each position's output lies, and where its first tap would.
  void locate_positions() {
    const ConvParams& p = seen_;
    const int64_t most = int64_t{p.input.h} * p.input.w * p.input.stride;
    const bool near = most < INT32_MAX / 2;
    for (int i = 0; i < rows_.position_count(); ++i) {
      const uint32_t at = rows_.positions()[i];
      pixels_.push_back(static_cast<int32_t>(rows_.output_pixel(at)));
      if (!near) continue;
      const int64_t y = int64_t{at >> 16} * p.stride_h - p.pad_top;
      const int64_t x = int64_t{at & 0xffff} * p.stride_w - p.pad_left;
      origins_.push_back(static_cast<int32_t>((y * p.input.w + x) * p.input.stride));
    }
    for (int t = 0; t < p.taps(); ++t)
      tap_offsets_.push_back((int64_t{t / p.kernel_w} * p.dilation_h * p.input.w +
                              int64_t{t % p.kernel_w} * p.dilation_w) *
                             p.input.stride);
  }

  // The classes that see what nobody wrote: merged ones, or all where there were too many.
  void find_unwritten() {
    sees_unwritten_.assign(rows_.classes().size(), 0);
    for (std::size_t i = 0; live_ != nullptr && i < sees_unwritten_.size(); ++i) {
      const RowClass& c = rows_.classes()[i];
      for (int t = 0; t < c.taps && !sees_unwritten_[i]; ++t)
        for (int at = c.begin; at < c.end && !sees_unwritten_[i]; ++at)
          sees_unwritten_[i] = is_unwritten(c, t, at);
    }
  }
  bool is_unwritten(const RowClass& c, int t, int at) const {
    const uint32_t position = rows_.positions()[at];
    const int tap = rows_.taps_of(c)[t];
    const int64_t pixel =
        seen_.input_pixel(static_cast<int>(position >> 16), static_cast<int>(position & 0xffff),
                          tap / seen_.kernel_w, tap % seen_.kernel_w);
    return pixel >= 0 && !live_[pixel];
  }

  // By chunks where all weights stay in the caches meanwhile, so that an output's pixel is whole
  // when it leaves them; else by panels. Chunks of all classes are in the order of their positions.
  void cut_chunks() {
    constexpr int kRows = 48;  // whole tiles of every height in use
    constexpr int kMostTaps = 9;
    constexpr int kSharesPerThread = 10;
    const int64_t positions = int64_t{h_.params.output.n} * rows_.position_count();
    int rows = rows_.max_taps() <= kMostTaps ? kRows : kMaxTileRows;
    if (words_) rows = rows_in_words();
    by_chunk_ =
        h_.params.group == 1 &&
        panels_.all_weights_bytes() <= kernels_.caches.of_l2(words_ ? kWordsShare : kWeightShare);
    if (h_.threads > 1) {
      const int64_t share = positions / (kSharesPerThread * h_.threads);
      cuts_chunks_ = share < kMaxTileRows;
      by_chunk_ &= !cuts_chunks_;
      rows = static_cast<int>(std::clamp<int64_t>(share, kMaxTileRows, rows));
    }
    int64_t left = rows_.position_count();  // a position is of one class
    for (const RowClass& c : rows_.classes()) {
      require_packed((left -= c.end - c.begin) >= 0);
      const int64_t all = c.end - c.begin, count = (all + rows - 1) / rows;
      for (int64_t i = 0; i < count; ++i) {
        const auto begin = static_cast<int32_t>(c.begin + all * i / count);
        chunks_.push_back(
            {&c, begin, static_cast<int32_t>(c.begin + all * (i + 1) / count) - begin});
      }
    }
    std::stable_sort(chunks_.begin(), chunks_.end(), [&](const Chunk& a, const Chunk& b) {
      return rows_.positions()[a.begin] < rows_.positions()[b.begin];
    });
    costs_.push_back(0);
    for (const Chunk& chunk : chunks_) {
      most_rows_ = std::max(most_rows_, chunk.count);
      costs_.push_back(costs_.back() + chunk.count * row_cost(chunk));
    }
    cut_tasks();
  }

  // Where whole chunks would be uneven shares, a panel of more vectors has more tasks, of rows
  // within chunks, and no more of them than threads need: they make tiles smaller.
  void cut_tasks() {
    const int64_t positions = int64_t{h_.params.output.n} * rows_.position_count();
    const int64_t chunks = h_.params.output.n * chunk_count();
    const int panels = by_chunk_ ? 1 : panel_count();
    const int64_t vectors = panels_.lanes() / width();
    int shares =
        static_cast<int>(std::clamp<int64_t>(chunks, 1, (kMinTasks + panels - 1) / panels));
    if (cuts_chunks_)
      shares = even_parts(vectors, static_cast<int>(std::min<int64_t>(kMinTasks, positions)),
                          h_.threads);
    first_task_.assign(1, 0);
    for (int i = 0; i < panels; ++i) {
      const int tasks = cuts_chunks_ ? shares * panels_.all()[i].vectors : shares;
      first_task_.push_back(first_task_.back() + tasks);
    }
  }

  // Whole tiles of every height, which fit the first-level cache beside a panel's weights.
  int rows_in_words() const {
    constexpr int64_t kWhole = 12, kMostTiles = 4;
    const auto bytes = static_cast<int64_t>(sizeof(uint16_t) * row_words() * kWhole);
    return static_cast<int>(kWhole * std::clamp<int64_t>(kWordRows / bytes, 1, kMostTiles));
  }

  // (classes, lanes): of skipped positions the input's zero point, which is nothing.
  void set_starts(const int32_t* bias, const int32_t* tap_sums, const int32_t* odd_sums) {
    const int64_t lanes = panels_.lanes();
    const int32_t *lowered = kernels_.product_u8.lowered, odd_less = lowered[0] - lowered[1];
    starts_.assign(rows_.classes().size() * lanes, 0);
    for (std::size_t i = 0; i < rows_.classes().size(); ++i) {
      const RowClass& c = rows_.classes()[i];
      if (c.skipped) continue;
      int32_t* start = starts_.data() + i * lanes;
      for (int64_t o = 0; o < lanes; ++o) {
        int64_t sum = 0, odd = 0;
        for (int t = 0; t < c.taps; ++t) {
          const int64_t at = rows_.taps_of(c)[t] * lanes + o;
          sum += tap_sums[at];
          if (odd_less != 0) odd += odd_sums[at];
        }
        const int64_t first = bias[o] + (lowered[0] - h_.input_zero) * sum - odd_less * odd;
        start[o] = static_cast<int32_t>(static_cast<uint32_t>(first));
      }
    }
  }

  // Where a chunk's rows, outputs and residuals lie, as panels of one group see them.
  void point(const Work& work, int64_t image, const Chunk& chunk, int group) const {
    const ConvParams& p = h_.params;
    const RowClass& c = *chunk.rows_of;
    const int first_channel = group * p.in_per_group - channels_before(p, group);
    const uint8_t* in =
        work.run.in<uint8_t>(0) + image * p.input.h * p.input.w * p.input.stride + first_channel;
    const bool unwritten = sees_unwritten_[&c - rows_.classes().data()];
    if (c.inside && !origins_.empty() && !unwritten) {
      const int32_t* origins = origins_.data() + chunk.begin;
      for (int t = 0; t < c.taps; ++t) {
        const uint8_t* from = in + tap_offsets_[rows_.taps_of(c)[t]];
        const uint8_t** rows = work.rows + std::size_t{1} * t * chunk.count;
        for (int r = 0; r < chunk.count; ++r) rows[r] = from + origins[r];
      }
    } else {
      const Tile tile{&c, rows_.positions() + chunk.begin, chunk.count};
      rows_.point(tile, 0, c.taps, in, zeros_ + first_channel, work.rows);
      for (int t = 0; unwritten && t < c.taps; ++t)
        for (int r = 0; r < chunk.count; ++r)
          if (is_unwritten(c, t, chunk.begin + r))
            work.rows[std::size_t{1} * t * chunk.count + r] = zeros_ + first_channel;
    }
    const int32_t* pixels = pixels_.data() + chunk.begin;
    const int64_t first = image * p.output.h * p.output.w;
    locate(work.out,
           reinterpret_cast<std::uintptr_t>(work.run.outputs[0]) + item_ * first * p.output.stride,
           pixels, chunk.count, item_ * p.output.stride);
    if (p.has_residual)
      locate(work.residual,
             reinterpret_cast<std::uintptr_t>(work.run.inputs[1]) + first * p.residual.stride,
             pixels, chunk.count, p.residual.stride);
  }

  void run_panel(Work& work, int64_t image, const Chunk& chunk, int number,
                 ByteFetch& fetch) const {
    const ConvParams& p = h_.params;
    const RowClass& c = *chunk.rows_of;
    const BytePanel& panel = panels_.all()[number];
    SumsU8Args sums{};
    sums.start = starts_.data() + (&c - rows_.classes().data()) * panels_.lanes() + panel.lanes;
    sums.scale = scale_ + panel.lanes;
    sums.shift = shift_ + panel.lanes;
    sums.column = panel.first;
    sums.finish = &h_.finish;
    const int before = (panel.vectors - 1) * width();
    sums.lanes = panel.columns - before;
    // The lanes that follow the last channel may be written: no partial vector is left then.
    const bool last = panel.first + panel.columns == p.output.c;
    if (last && p.output.padded && (!p.has_residual || p.residual.padded))
      sums.lanes = std::min(width(), (p.output.c + 15) / 16 * 16 - panel.first - before);
    if (words_)
      run_words(work, chunk, number, sums, fetch);
    else
      run_bytes(work, chunk, number, sums, fetch);
    if (table_ != nullptr) look_up(work, chunk, panel);
    if (!fill_.empty()) fill(work.run, panel, chunk, image);
  }

  TileCut cut_tiles(const Chunk& chunk, const TileSizes& sizes, int vectors) const {
    const int most = sizes.max_rows[vectors - 1];
    return TileCut::of(chunk.count, most, most);
  }

  void run_bytes(const Work& work, const Chunk& chunk, int number, const SumsU8Args& sums,
                 ByteFetch& fetch) const {
    const RowClass& c = *chunk.rows_of;
    const int vectors = panels_.all()[number].vectors;
    ProductU8Args args{};
    static_cast<SumsU8Args&>(args) = sums;
    args.row_step = chunk.count;
    args.weights = work.weights;
    args.offsets = work.offsets;
    args.steps = work.steps;
    args.taps = c.taps;
    args.quads = quads();
    for (int t = 0; t < c.taps; ++t) {
      const int tap = rows_.taps_of(c)[t];
      work.weights[t] = panels_.weights(number, tap);
      work.offsets[t] = panels_.offsets(number, tap);
      work.steps[t] = panels_.steps(number, tap);
    }
    const auto* tile = kernels_.product_u8.tile[vectors - 1];
    const TileCut cut = cut_tiles(chunk, kernels_.product_u8.sizes, vectors);
    for (int i = 0, begin = 0; i < cut.tiles(); ++i) {
      const int height = i < cut.count ? cut.height : cut.last_height;
      args.rows = work.rows + begin;
      args.out = work.out + begin;
      args.residual = h_.params.has_residual ? work.residual + begin : nullptr;
      fetch.tile(i, cut.tiles());
      tile[height - 1](args);
      begin += height;
    }
  }

  void widen_rows(const Work& work, const Chunk& chunk) const {
    const int taps = chunk.rows_of->taps;
    kernels_.words_u8.widen_rows(work.rows, chunk.count, chunk.count, taps, quads(), work.words,
                                 int64_t{4} * quads() * taps);
  }

  void run_words(Work& work, const Chunk& chunk, int number, const SumsU8Args& sums,
                 ByteFetch& fetch) const {
    const RowClass& c = *chunk.rows_of;
    const int vectors = panels_.all()[number].vectors;
    if (work.wide_panel != number || work.wide_of != &c) {
      work.wide_panel = number, work.wide_of = &c;
      const int64_t tap_words = int64_t{4} * quads() * vectors * width();
      for (int t = 0; t < c.taps; ++t)
        kernels_.words_u8.widen_weights(panels_.weights(number, rows_.taps_of(c)[t]), quads(),
                                        vectors, work.wide + tap_words * t);
    }
    WordsU8Args args{};
    static_cast<SumsU8Args&>(args) = sums;
    args.weights = work.wide;
    args.quads = quads() * c.taps;
    args.row_words = int64_t{4} * args.quads;
    const TileCut cut = cut_tiles(chunk, kernels_.words_u8.sizes, vectors);
    for (int i = 0; i < cut.tiles(); ++i) fetch.tile(i, cut.tiles());
    const auto run = [&](int height, int count, int begin) {
      if (count == 0) return;
      args.rows = work.words + args.row_words * begin;
      args.out = work.out + begin;
      args.residual = h_.params.has_residual ? work.residual + begin : nullptr;
      args.more = count - 1;
      kernels_.words_u8.tile[vectors - 1][height - 1](args);
    };
    run(cut.height, cut.count, 0);
    run(cut.last_height, cut.last_count, cut.height * cut.count);
  }

  // While the outputs are in the first-level cache.
  void look_up(const Work& work, const Chunk& chunk, const BytePanel& panel) const {
    for (int r = 0, next; r < chunk.count; r = next) {
      uint8_t* const first = work.out[r] + panel.first;
      // Pixels without gaps are one row.
      for (next = r + 1;
           next < chunk.count && work.out[next] == work.out[next - 1] + panel.columns;)
        ++next;
      kernels_.maps_u8.lookup({table_, &first, &first, 1, int64_t{next - r} * panel.columns});
    }
  }

  // Without a residual, a skipped position holds what no sum becomes.
  void skip(const RunArgs& run, int64_t image, const Chunk& chunk) const {
    const TensorDesc& out = h_.params.output;
    const int64_t first = image * out.h * out.w;
    const int lanes = out.padded ? (out.c + 15) / 16 * 16 : out.c;
    for (int r = 0; r < chunk.count; ++r) {
      const int64_t at = (first + pixels_[chunk.begin + r]) * out.stride;
      if (h_.finish.to_float)
        std::fill_n(run.out(0) + at, out.c, 0.0f);
      else
        fill_bytes(run.out<uint8_t>(0) + at, skipped_, lanes);
    }
  }

  void fill(const RunArgs& run, const BytePanel& panel, const Chunk& chunk, int64_t image) const {
    const TensorDesc& out = h_.params.output;
    const int64_t first = image * out.h * out.w * out.stride;
    for (int r = 0; r < chunk.count; ++r) {
      const int64_t position = pixels_[chunk.begin + r];
      if (out.dtype == DType::kU8)
        fill_.copy_from(run.out<uint8_t>(0) + first, position, position + 1, panel.first,
                        panel.columns);
      else
        fill_.copy_from(run.out(0) + first, position, position + 1, panel.first, panel.columns);
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  const char* feature_;
  const ConvParams seen_;
  BytePanels panels_;
  RowPlan rows_;
  SourceFill fill_;
  const bool words_;  // products are those of 16-bit numbers
  const int64_t item_;
  const uint8_t* table_ = nullptr;
  int skipped_;                            // what skipped positions hold
  std::vector<int32_t> pixels_, origins_;  // of every position of the plan; origins in elements
  std::vector<int64_t> tap_offsets_;
  const uint8_t* live_;
  std::vector<uint8_t> sees_unwritten_;  // (classes)
  std::vector<Chunk> chunks_;
  std::vector<double> costs_;  // of the chunks before each, and of all
  bool by_chunk_;
  bool cuts_chunks_ = false;     // tasks may begin within a chunk
  std::vector<int> first_task_;  // of every panel, or of all
  int most_rows_ = 0;
  std::vector<int32_t> starts_;
  const float *scale_, *shift_;
  const uint8_t* zeros_;
};

Blob pack(const OpSpec& spec, Isa isa) {
  require_uint8(spec);
  Header h{};
  h.params = conv_params_of(spec, DType::kU8);
  h.finish = finish_u8_of(spec);
  h.input_zero = zero_point_of(spec, "input_zero");
  const ConvParams& p = h.params;
  const float* scale = scale_of(spec, p.output.c);
  const int32_t* bias = bias_of(spec, p.output.c);
  const float* shift = shift_of(spec, p.output.c);
  h.joined = can_join(p) && spec.int_or("input_unwritten", 0) == 0;
  h.threads = std::clamp(spec.threads, 1, kMostThreads);
  h.finish.bounded = !h.finish.to_float && is_bounded(spec, p);
  const ArrayView* table = spec.array("table");
  h.has_table = table != nullptr;
  require(spec,
          table == nullptr || (table->dtype == 'b' && table->size() == 256 && !h.finish.to_float),
          "the table must be uint8 (256), of bytes");
  check(h);

  BlobWriter writer;
  writer.append<Header>(1);
  const auto* weight = static_cast<const int8_t*>(spec.array("weight")->data);
  const ConvParams seen = h.joined ? joined_taps(p) : p;
  std::vector<int8_t> side_by_side;
  if (h.joined) {  // (O, I, KH, KW) to (O, KW * 4, KH)
    side_by_side.resize(int64_t{p.output.c} * seen.in_per_group * seen.taps());
    for (int o = 0; o < p.output.c; ++o)
      for (int i = 0; i < p.in_per_group; ++i)
        for (int t = 0; t < p.taps(); ++t)
          side_by_side[(int64_t{o} * seen.in_per_group + 4 * (t % p.kernel_w) + i) * seen.taps() +
                       t / p.kernel_w] = weight[(int64_t{o} * p.in_per_group + i) * p.taps() + t];
    weight = side_by_side.data();
  }
  h.panels = BytePanels::pack(writer, seen, weight, isa);
  const std::vector<BytePanel> panels = BytePanels::cut(seen, isa);
  const int64_t lanes = lanes_of(panels, kernels_for(isa).product_u8.sizes.width);
  h.bias = writer.append<int32_t>(lanes);
  h.scale = writer.append<float>(lanes);
  h.shift = writer.append<float>(lanes);
  h.tap_sums = writer.append<int32_t>(lanes * seen.taps());
  h.odd_sums = writer.append<int32_t>(ConvU8::odd_sum_count(seen, lanes, isa));
  h.zeros = writer.append<uint8_t>(ConvU8::zero_bytes(p));
  std::fill_n(writer.at<uint8_t>(h.zeros), ConvU8::zero_bytes(p),
              static_cast<uint8_t>(h.input_zero));
  for (const BytePanel& panel : panels) {
    const int before = channels_before(seen, panel.group);
    for (int o = 0; o < panel.columns; ++o) {
      const int64_t lane = panel.lanes + o, channel = panel.first + o;
      if (bias != nullptr) writer.at<int32_t>(h.bias)[lane] = bias[channel];
      writer.at<float>(h.scale)[lane] = scale[channel];
      if (shift != nullptr) writer.at<float>(h.shift)[lane] = shift[channel];
      for (int t = 0; t < seen.taps(); ++t) {
        int32_t sums[2] = {0, 0};  // of even and odd quads
        for (int i = 0; i < seen.in_per_group; ++i)
          sums[(before + i) / 4 % 2] += weight[(channel * seen.in_per_group + i) * seen.taps() + t];
        writer.at<int32_t>(h.tap_sums)[t * lanes + lane] = sums[0] + sums[1];
        if (needs_odd_sums(isa)) writer.at<int32_t>(h.odd_sums)[t * lanes + lane] = sums[1];
      }
    }
  }
  if (table != nullptr) h.table = writer.append(static_cast<const uint8_t*>(table->data), 256);
  h.rows = RowPlan::pack(writer, spec, seen, spec.array("source") == nullptr);
  h.fill = SourceFill::pack(writer, spec);
  h.live = pack_live_input(writer, spec, p);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa) {
  require_uint8(spec);
  const ArrayView* weight = spec.array("weight");
  if (spec.inputs[0].stride % 4 != 0) return "the input's pixels are no whole quads of channels";
  if (weight != nullptr && weight->size() / std::max<int64_t>(1, weight->shape[0]) > kMostDepth)
    return "sums of so many products may leave 32 bits";
  return RowPlan::unsupported(spec);
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv_u8", "direct", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvU8>(blob, isa);
           },
           kFloatsAndBytes}};
}

}  // namespace activsparse::conv_u8
