// Expansion (1x1, or a network's first convolution) - depthwise convolution - 1x1 projection, strip
// by strip of output rows, so that the wide tensors between them never leave the second-level
// cache.
//
// A thread keeps the expanded rows its current strip sees in a ring; the next strip only adds the
// rows it does not share. All stages address pixels through pointers, so skipped positions cost
// nothing between the stages: they are a pointer to one constant pixel, or to that of the kept
// position they take their value from, and nothing is written for them. Positions no later stage
// reads are not computed.
#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "operators/depthwise_strip.h"
#include "operators/depthwise_weights.h"
#include "operators/locate.h"
#include "operators/pixel_product.h"
#include "operators/residual_stages.h"
#include "operators/source_fill.h"
#include "operators/stem_product.h"

namespace activsparse::inverted_residual {
namespace {

// The ring and the strip before the projection, of the second-level cache.
constexpr int64_t kStripShare = 500;

enum Stage { kExpand, kDepthwise, kProject, kStages };

struct Header {
  ConvParams params[kStages];
  int32_t present[kStages], has_mask[kStages], has_source[kStages];
  int32_t padded_channels;
  int32_t threads;  // that strips are cut for
  uint64_t masks[kStages], sources[kStages];
  SourceFillHeader fill;  // of the last stage
  PixelProductHeader expand, project;
  StemProductHeader stem;  // in place of `expand` where the input is NCHW
  // (padded_channels): what the depthwise stage reads at skipped positions of the expansion, and
  // what the projection reads at those of the depthwise stage.
  uint64_t expand_fill, depthwise_fill;
  uint64_t weights, bias, skipped_value, zeros;
};

// Positions of a plane (y * w + x), listed row by row.
struct PositionRows {
  std::vector<int32_t> first, pixel;
  PositionRows() = default;
  PositionRows(const std::vector<uint8_t>& listed, int h, int w) : first(1, 0) {
    for (int y = 0; y < h; ++y) {
      for (int64_t i = int64_t{y} * w; i < (y + int64_t{1}) * w; ++i)
        if (listed[i]) pixel.push_back(static_cast<int32_t>(i));
      first.push_back(static_cast<int32_t>(pixel.size()));
    }
  }
  const int32_t* row(int y) const { return pixel.data() + first[y]; }
  int count(int begin, int end) const { return first[end] - first[begin]; }  // of these rows
  std::size_t bytes() const { return sizeof(int32_t) * (first.size() + pixel.size()); }
};

std::uintptr_t address(const float* base, int64_t floats) {
  return reinterpret_cast<std::uintptr_t>(base) + floats * int64_t{sizeof(float)};
}

class InvertedResidual : public Operator {
 public:
  InvertedResidual(const BlobView& blob, Isa isa)
      : h_(blob.header<Header>()),
        kernels_(kernels_for(isa)),
        fill_(checked(blob), h_.fill, outputs()[0]) {
    const ConvParams& d = depthwise();
    channels_ = h_.padded_channels;
    if (h_.present[kExpand] && h_.params[kExpand].input.nchw)
      stem_.emplace(blob, h_.stem, h_.params[kExpand], kernels_);
    else if (h_.present[kExpand])
      expand_.emplace(blob, h_.expand, h_.params[kExpand], kernels_);
    if (h_.present[kProject]) project_.emplace(blob, h_.project, h_.params[kProject], kernels_);
    expand_fill_ = blob.array<float>(h_.expand_fill, channels_);
    depthwise_fill_ = blob.array<float>(h_.depthwise_fill, channels_);
    zeros_ = blob.array<float>(h_.zeros, channels_);

    const std::vector<int32_t> expanded = origins(blob, kExpand, d.input);
    const std::vector<int32_t> between = origins(blob, kDepthwise, d.output);
    const std::vector<int32_t> projected = origins(blob, kProject, d.output);
    const std::vector<uint8_t> computed = computed_between(between, projected);
    list_expanded(expanded, DepthwiseStrip::read(d, computed));
    std::vector<uint8_t> live(expanded.size(), 1);
    if (h_.present[kExpand] && is_zero(expand_fill_))
      for (std::size_t i = 0; i < live.size(); ++i) live[i] = expanded[i] >= 0;
    choose_strip();
    using Skipped = DepthwiseStrip::Skipped;
    const Skipped skipped = h_.present[kProject]        ? Skipped::kNotWritten
                            : h_.has_source[kDepthwise] ? Skipped::kAnything
                                                        : Skipped::kValue;
    strip_.emplace(blob, d, kernels_,
                   DepthwiseStrip::Layout{strips_, ring_rows_, channels_, skipped}, live, computed,
                   DepthwiseStrip::Arrays{h_.weights, h_.bias, h_.skipped_value});
    if (h_.present[kProject])
      list_projected(between, projected);
    else if (strip_->writes_skipped())
      list_late();
  }

  std::vector<TensorDesc> inputs() const override {
    const ConvParams& last = h_.params[h_.present[kProject] ? kProject : kDepthwise];
    std::vector<TensorDesc> all = {h_.params[h_.present[kExpand] ? kExpand : kDepthwise].input};
    if (last.has_residual) all.push_back(last.residual);
    return all;
  }
  std::vector<TensorDesc> outputs() const override {
    return {h_.params[h_.present[kProject] ? kProject : kDepthwise].output};
  }
  int phases() const override { return late_.empty() ? 1 : 2; }
  int tasks(int phase) const override {
    return phase == 1 ? SourceFill::kTasks : depthwise().output.n * strips_.count;
  }
  double cost(int phase, int begin, int end) const override {
    if (phase == 1) return Operator::cost(phase, begin, end);
    double sum = 0;
    for (int task = begin; task < end; ++task) {
      const int strip = task % strips_.count;
      const double rows = strips_.first(strip + 1) - strips_.first(strip);
      sum += macs() * rows / (double(depthwise().output.h) * depthwise().output.n);
      // The rows above that were computed by whoever has the strip before.
      const ConvParams& d = depthwise();
      if (task == begin && strip > 0 && expand_)
        sum += double(d.kernel_h - d.stride_h) * d.input.w * expand_->macs_per_pixel();
    }
    return sum;
  }
  bool half_weights() const override {
    return (expand_ && expand_->half()) || (project_ && project_->half());
  }
  std::size_t scratch_bytes() const override {
    return (floats() + weight_room()) * sizeof(float) + pointers() * sizeof(float*) +
           (stem_ ? stem_->scratch_bytes() : 0) + strip_->scratch_bytes();
  }
  std::size_t index_bytes() const override {
    return expand_kept_.bytes() + kept_.bytes() + skipped_.bytes() + strip_->index_bytes() +
           fill_.bytes() + sizeof(Filled) * expand_filled_.size() +
           sizeof(int32_t) * (first_filled_.size() + from_.size() + missing_.size() +
                              first_missing_.size() + 2 * late_.size());
  }
  Constants constants() const override {
    if (expand_) return expand_->weights();
    return project_ && !stem_ ? project_->weights() : Constants{nullptr, 0};
  }
  int64_t fetches() const override { return expand_ || project_ ? Fetch::most_ahead(kernels_) : 0; }
  int64_t fetches_far() const override {
    return fetches() > 0 ? Fetch::most_far(kernels_, macs()) : 0;
  }
  double macs() const override {
    double sum = strip_->macs();
    if (stem_) sum += double(expand_kept_.pixel.size()) * stem_->macs_per_pixel();
    if (expand_) sum += double(expand_kept_.pixel.size()) * expand_->macs_per_pixel();
    if (project_) sum += double(kept_.pixel.size()) * project_->macs_per_pixel();
    return sum * depthwise().output.n;
  }
  std::string kernel() const override {
    return std::string(kernels_.isa) + " " + std::to_string(strip_rows_) + " rows";
  }

  void run(const RunArgs& run, int phase, int begin, int end) const override {
    if (phase == 1) return fill_late(run, begin, end);
    const ConvParams& d = depthwise();
    Work work(*this, run);
    int expanded = 0;
    Fetch fetch = first_fetch();
    for (int task = begin; task < end; ++task) {
      const int image = task / strips_.count, strip = task % strips_.count;
      const int y0 = strips_.first(strip), y1 = strips_.first(strip + 1);
      const int first = std::clamp(y0 * d.stride_h - d.pad_top - reach_up_, 0, d.input.h);
      const int last =
          std::clamp((y1 - 1) * d.stride_h - d.pad_top + d.kernel_h + reach_down_, 0, d.input.h);
      if (task == begin || y0 == 0) expanded = first;
      if (task == end - 1) fetch.add(run);
      expanded = std::max(expanded, first);
      if (stem_)
        stem_rows(work, image, expanded, last);
      else if (expand_)
        expand_rows(work, image, expanded, last, fetch);
      else
        point_rows(work, image, expanded, last);
      expanded = std::max(expanded, last);
      if (project_) {
        strip_->run(strip, work.table, work.zero_row, work.strip, channels_, work.depthwise);
        project_rows(work, image, y0, y1, fetch);
        continue;
      }
      const TensorDesc& out = d.output;
      float* to = run.out(0) + int64_t{image} * out.h * out.w * out.stride;
      strip_->run(strip, work.table, work.zero_row, to + int64_t{y0} * out.w * out.stride,
                  out.stride, work.depthwise);
      fill_strip(to, int64_t{y0} * out.w, int64_t{y1} * out.w);
    }
  }

 private:
  // A thread's scratch. `table` holds for every row of the ring where its pixels lie, padding
  // included, table_width() pointers each.
  struct Work {
    const RunArgs& run;
    float *ring, *strip;
    const float *expand = nullptr, *project = nullptr;  // weights
    const float **table, **zero_row, **rows, **residual;
    float** out;
    uint8_t *stem, *depthwise;
    Work(const InvertedResidual& op, const RunArgs& args) : run(args) {
      stem = args.scratch;
      ring = reinterpret_cast<float*>(stem + (op.stem_ ? op.stem_->scratch_bytes() : 0));
      strip = ring + op.ring_floats();
      float* room = ring + op.floats();
      if (op.expand_) expand = op.expand_->wide(room);
      if (op.project_) project = op.project_->wide(room + (op.expand_ ? op.expand_->room() : 0));
      table = reinterpret_cast<const float**>(room + op.weight_room());
      zero_row = table + op.ring_rows_ * op.strip_->table_width();
      rows = zero_row + op.strip_->table_width();
      residual = rows + op.most_pixels();
      out = const_cast<float**>(residual + op.most_pixels());
      depthwise = reinterpret_cast<uint8_t*>(out + op.most_pixels());
      std::fill(table, rows, op.zeros_);
      if (op.ring_floats() == 0 || !op.expand_all_) return;
      for (int y = 0; y < op.ring_rows_; ++y)
        locate_all(op.table_row(*this, y), op.ring_row(*this, y), op.table_columns(), op.channels_);
    }
  };

  const BlobView& checked(const BlobView& blob) const {
    for (int stage = 0; stage < kStages; ++stage)
      if (h_.present[stage]) require_packed(blob, h_.params[stage], stage == kExpand);
    const ConvParams &expand = h_.params[kExpand], &d = depthwise(), &project = h_.params[kProject];
    const auto follows = [](const TensorDesc& from, const TensorDesc& to) {
      return fits(from, to) && fits(to, from) && to.padded && to.stride == least_stride(to);
    };
    require_packed(h_.present[kDepthwise] && is_depthwise(d) && !d.has_residual);
    require_packed(d.kernel_h <= 5 && d.kernel_w <= 5);
    require_packed(h_.padded_channels == (d.output.c + 15) / 16 * 16);
    require_packed(h_.threads >= 1 && h_.threads <= kMostThreads);
    if (h_.present[kExpand])
      require_packed(follows(expand.output, d.input) && !expand.has_residual &&
                     (expand.input.nchw || is_pixelwise(expand)));
    if (h_.present[kProject])
      require_packed(follows(d.output, project.input) && is_pixelwise(project));
    return blob;
  }

  // Of this operator's weights what a run reads after the first panel's.
  Fetch first_fetch() const {
    Fetch fetch;
    auto add = [&](Constants c) { fetch.add(c.data, c.floats); };
    if (expand_) add(expand_->later_weights());
    if (project_ && !half_weights()) add(expand_ ? project_->weights() : project_->later_weights());
    return fetch;
  }

  const ConvParams& depthwise() const { return h_.params[kDepthwise]; }
  int64_t ring_floats() const {
    return h_.present[kExpand] ? int64_t{ring_rows_} * depthwise().input.w * channels_ : 0;
  }
  int64_t floats() const {
    const int64_t strip =
        int64_t{strip_rows_} * depthwise().output.w + 1;  // see DepthwiseStrip::run
    return ring_floats() + (project_ ? strip * channels_ : 0);
  }
  // For weights that have to be widened.
  int64_t weight_room() const {
    return (expand_ ? expand_->room() : 0) + (project_ ? project_->room() : 0);
  }
  int64_t most_pixels() const {
    return std::max(int64_t{ring_rows_} * depthwise().input.w, int64_t{most_projected_});
  }
  int64_t pointers() const {
    return (ring_rows_ + 1) * int64_t{strip_->table_width()} + 3 * most_pixels();
  }

  bool is_zero(const float* value) const {
    return std::all_of(value, value + channels_, [](float v) { return v == 0.0f; });
  }

  // For every position of a stage's result the computed one whose value it holds; -1: none.
  std::vector<int32_t> origins(const BlobView& blob, Stage stage, const TensorDesc& plane) const {
    const int32_t count = plane.h * plane.w;
    std::vector<int32_t> all(count);
    std::iota(all.begin(), all.end(), 0);
    if (!h_.has_mask[stage]) return all;
    const uint8_t* mask = blob.array<uint8_t>(h_.masks[stage], count);
    const int32_t* source =
        h_.has_source[stage] ? blob.array<int32_t>(h_.sources[stage], count) : nullptr;
    for (int32_t i = 0; i < count; ++i) {
      if (mask[i]) continue;
      const int32_t from = source ? source[i] : -1;
      require_packed(from >= -1 && from < count && (from < 0 || mask[from]));
      all[i] = from;
    }
    return all;
  }

  // Of the depthwise stage: what it keeps, as far as kept positions of the projection read it.
  std::vector<uint8_t> computed_between(const std::vector<int32_t>& between,
                                        const std::vector<int32_t>& projected) const {
    std::vector<uint8_t> computed(between.size(), 0);
    for (std::size_t i = 0; i < between.size(); ++i) {
      const auto self = static_cast<int32_t>(i);
      if (h_.present[kProject] ? projected[i] == self && between[i] >= 0 : between[i] == self)
        computed[between[i]] = 1;
    }
    return computed;
  }

  // The expanded positions to compute, and where the others that are read take their values from.
  void list_expanded(const std::vector<int32_t>& expanded, const std::vector<uint8_t>& read) {
    const TensorDesc& plane = depthwise().input;
    std::vector<uint8_t> needed(read.size(), 0);
    for (int y = 0; y < plane.h; ++y) {
      first_filled_.push_back(static_cast<int32_t>(expand_filled_.size()));
      for (int x = 0; x < plane.w; ++x) {
        const int32_t i = y * plane.w + x, from = expanded[i];
        if (!read[i] || from < 0) continue;
        needed[from] = 1;
        if (from == i) continue;
        expand_filled_.push_back({x, from / plane.w, from % plane.w});
        reach_up_ = std::max(reach_up_, y - from / plane.w);
        reach_down_ = std::max(reach_down_, from / plane.w - y);
      }
    }
    first_filled_.push_back(static_cast<int32_t>(expand_filled_.size()));
    expand_all_ = std::all_of(needed.begin(), needed.end(), [](uint8_t n) { return n != 0; }) &&
                  expand_filled_.empty();
    expand_kept_ = PositionRows(needed, plane.h, plane.w);
  }

  // What the projection computes, in the order of the rows that it reads, so that all are there.
  void list_projected(const std::vector<int32_t>& between, const std::vector<int32_t>& projected) {
    const TensorDesc& plane = depthwise().output;
    const auto read = [&](int32_t i) { return between[i] < 0 ? i : between[i]; };
    std::vector<int32_t> next(plane.h + std::size_t{1}, 0);
    bool moved = false;
    int32_t count = 0;
    for (int32_t i = 0; i < plane.h * plane.w; ++i) {
      if (projected[i] != i) continue;
      ++next[read(i) / plane.w + 1], ++count;
      moved |= read(i) != i;
    }
    for (int y = 0; y < plane.h; ++y) next[y + 1] += next[y];
    kept_.first = next;
    kept_.pixel.resize(count);
    for (int32_t i = 0; i < plane.h * plane.w; ++i)
      if (projected[i] == i) kept_.pixel[next[read(i) / plane.w]++] = i;
    for (int y = 0; y < plane.h; ++y) {
      first_missing_.push_back(static_cast<int32_t>(missing_.size()));
      for (int32_t i = kept_.first[y]; i < kept_.first[y + 1]; ++i)
        if (between[kept_.pixel[i]] < 0) missing_.push_back(i);
    }
    first_missing_.push_back(static_cast<int32_t>(missing_.size()));
    if (moved)
      for (const int32_t i : kept_.pixel) from_.push_back(read(i));
    std::vector<uint8_t> skipped(projected.size(), 0);
    for (std::size_t i = 0; i < skipped.size(); ++i)
      skipped[i] = projected[i] < 0 && !h_.has_source[kProject];
    skipped_ = PositionRows(skipped, plane.h, plane.w);
    for (int i = 0; i < strips_.count; ++i)
      most_projected_ =
          std::max({most_projected_, kept_.count(strips_.first(i), strips_.first(i + 1)),
                    skipped_.count(strips_.first(i), strips_.first(i + 1))});
  }

  // Skipped positions that a later strip writes to when they have been filled.
  void list_late() {
    const int w = depthwise().output.w;
    for (int i = 0; i < strips_.count; ++i) {
      const int64_t begin = int64_t{strips_.first(i)} * w, end = int64_t{strips_.first(i + 1)} * w;
      fill_.each(begin, end, [&](int32_t source, int32_t skipped) {
        if (skipped < begin || skipped >= end) late_.push_back({source, skipped});
      });
    }
  }

  // Fills what positions [begin, end) of an image, a strip, are the sources of.
  void fill_strip(float* image, int64_t begin, int64_t end) const {
    const TensorDesc& out = depthwise().output;
    if (late_.empty()) return fill_.copy_from(image, begin, end, 0, out.c);
    fill_.each(begin, end, [&](int32_t source, int32_t skipped) {
      if (skipped >= begin && skipped < end) fill_.copy(image, source, skipped);
    });
  }

  void fill_late(const RunArgs& run, int begin, int end) const {
    const TensorDesc& out = depthwise().output;
    const auto count = static_cast<int64_t>(late_.size()), all = count * out.n;
    for (int64_t i = all * begin / SourceFill::kTasks; i < all * end / SourceFill::kTasks; ++i) {
      float* image = run.out(0) + i / count * out.h * out.w * out.stride;
      fill_.copy(image, late_[i % count].first, late_[i % count].second);
    }
  }

  void choose_strip() {
    const ConvParams& d = depthwise();
    const int64_t in_row = h_.present[kExpand] ? int64_t{d.input.w} * channels_ * 4 : 0;
    const int64_t out_row = project_ ? int64_t{d.output.w} * channels_ * 4 : 0;
    auto bytes = [&](int rows) {
      return ((rows - 1) * d.stride_h + d.kernel_h + reach_up_ + reach_down_) * in_row +
             rows * out_row;
    };
    const int64_t room = kernels_.caches.of_l2(kStripShare);
    int most = 2;
    while (most < d.output.h && bytes(most + 2) <= room) most += 2;
    strips_ = Strips::of(d.output.h, most, d.output.n, h_.threads);
    strip_rows_ = strips_.tallest();
    ring_rows_ = (strip_rows_ - 1) * d.stride_h + d.kernel_h + reach_up_ + reach_down_;
  }

  const float** table_row(const Work& work, int y) const {
    return work.table + y % ring_rows_ * strip_->table_width() + depthwise().pad_left;
  }
  // How many of a row's pixels the table has.
  int table_columns() const {
    return std::min(depthwise().input.w, strip_->table_width() - depthwise().pad_left);
  }
  const float* ring_row(const Work& work, int y) const {
    return work.ring + int64_t{y % ring_rows_} * depthwise().input.w * channels_;
  }

  void point_rows(Work& work, int image, int first, int last) const {
    const TensorDesc& in = depthwise().input;
    for (int y = first; y < last; ++y) {
      const float* at = work.run.in(0) + (int64_t{image} * in.h + y) * in.w * in.stride;
      locate_all(table_row(work, y), at, table_columns(), in.stride);
    }
  }

  void stem_rows(Work& work, int image, int first, int last) const {
    const ConvParams& p = h_.params[kExpand];
    const TensorDesc& in = p.input;
    const float* at = work.run.in(0) + int64_t{image} * in.c * in.h * in.w;
    for (int y = first; y < last; ++y) {
      point_ring_row(work, y);
      const auto windows = stem_->load(at, y, work.stem);
      const StemProduct::Columns columns{expand_all_ ? nullptr : expand_kept_.row(y),
                                         expand_kept_.count(y, y + 1), y * depthwise().input.w};
      stem_->run(windows, columns, {const_cast<float*>(ring_row(work, y)), channels_, nullptr, 0},
                 false, work.stem);
    }
  }

  // Lets the table's row y point to where the row lies in the ring: Work did for whole rows.
  void point_ring_row(Work& work, int y) const {
    if (expand_all_) return;
    const float** row = table_row(work, y);
    const float* to = ring_row(work, y);
    const int columns = table_columns();
    std::fill(row, row + columns, expand_fill_);
    const int32_t* pixels = expand_kept_.row(y);
    const int32_t begin = y * depthwise().input.w;
    int here = expand_kept_.count(y, y + 1);
    while (here > 0 && pixels[here - 1] - begin >= columns) --here;
    for (int i = 0; i < here; ++i) row[pixels[i] - begin] = to + (pixels[i] - begin) * channels_;
    int from = y;
    for (int32_t i = first_filled_[y]; i < first_filled_[y + 1]; ++i) {
      const Filled& filled = expand_filled_[i];
      if (filled.row != from) to = ring_row(work, from = filled.row);
      if (filled.column < columns) row[filled.column] = to + filled.source_column * channels_;
    }
  }

  void expand_rows(Work& work, int image, int first, int last, Fetch& fetch) const {
    const TensorDesc& in = h_.params[kExpand].input;
    const int count = expand_kept_.count(first, last);
    locate(work.rows, address(work.run.in(0), int64_t{image} * in.h * in.w * in.stride),
           expand_kept_.row(first), count, in.stride);
    float** out = work.out;
    for (int y = first, end; y < last; y = end) {
      end = std::min(last, y + ring_rows_ - y % ring_rows_);
      const int here = expand_kept_.count(y, end);
      locate(out, address(ring_row(work, y), -int64_t{y} * in.w * channels_), expand_kept_.row(y),
             here, channels_);
      out += here;
    }
    for (int y = first; y < last; ++y) point_ring_row(work, y);
    expand_->run(work.expand, work.rows, work.out, nullptr, count, false, fetch);
  }

  void project_rows(Work& work, int image, int y0, int y1, Fetch& fetch) const {
    const ConvParams& p = h_.params[kProject];
    const TensorDesc& out = p.output;
    const int64_t first = int64_t{image} * out.h * out.w;
    for (const bool skipped : {false, true}) {
      const PositionRows& positions = skipped ? skipped_ : kept_;
      const int32_t* pixels = positions.row(y0);
      const int count = positions.count(y0, y1);
      if (count == 0) continue;
      locate(work.out, address(work.run.out(0), first * out.stride), pixels, count, out.stride);
      if (p.has_residual)
        locate(work.residual, address(work.run.in(1), first * p.residual.stride), pixels, count,
               p.residual.stride);
      if (!skipped) {
        locate(work.rows, address(work.strip, -int64_t{y0} * out.w * channels_),
               from_.empty() ? pixels : from_.data() + kept_.first[y0], count, channels_);
        for (int i = first_missing_[y0]; i < first_missing_[y1]; ++i)
          work.rows[missing_[i] - kept_.first[y0]] = depthwise_fill_;
      }
      project_->run(work.project, work.rows, work.out, p.has_residual ? work.residual : nullptr,
                    count, skipped, fetch);
      if (skipped || fill_.empty()) continue;
      float* to = work.run.out(0) + first * out.stride;
      for (int i = 0; i < count; ++i)
        fill_.copy_from(to, pixels[i], int64_t{pixels[i]} + 1, 0, out.c);
    }
  }

  const Header& h_;
  const Kernels& kernels_;
  int channels_;
  std::optional<StemProduct> stem_;
  std::optional<PixelProduct> expand_, project_;
  std::optional<DepthwiseStrip> strip_;
  Strips strips_;
  int strip_rows_, ring_rows_;  // the tallest strip, and what it sees
  const float *expand_fill_, *depthwise_fill_, *zeros_;
  SourceFill fill_;  // of the last stage
  bool expand_all_;  // all positions are computed (and read)
  PositionRows expand_kept_, kept_, skipped_;
  // Where the expanded positions of a row that are filled take their values from, by that's row.
  struct Filled {
    int32_t column, row, source_column;
  };
  std::vector<Filled> expand_filled_;
  std::vector<int32_t> first_filled_;  // of each row, and the end
  int reach_up_ = 0, reach_down_ = 0;  // how many rows away that is at most
  // Of kept_, what it reads of the depthwise stage, where that is not the same position; those that
  // the depthwise stage leaves without a value, row by row.
  std::vector<int32_t> from_, missing_, first_missing_;
  int most_projected_ = 0;                         // of a strip
  std::vector<std::pair<int32_t, int32_t>> late_;  // (source, skipped)
};

uint64_t pack_fill(BlobWriter& writer, const OpSpec& stage, const ConvParams& p, int channels) {
  std::vector<float> fill(channels, 0.0f);
  const float* value = stage.float_array("skipped_value");
  for (int c = 0; c < p.output.c; ++c) fill[c] = activate(value ? value[c] : 0.0f, p.epilogue);
  return writer.append(fill.data(), fill.size());
}

Blob pack(const OpSpec& spec, Isa isa) {
  const ResidualStages stages = residual_stages_of(spec);
  const Kernels& kernels = kernels_for(isa);
  const bool half = wants_half(spec);
  const OpSpec* specs[kStages] = {&stages.expand, &stages.depthwise, &stages.project};
  Header h{};
  h.threads = std::clamp(spec.threads, 1, kMostThreads);
  h.present[kExpand] = stages.has_expand;
  h.present[kDepthwise] = 1;
  h.present[kProject] = stages.has_project;
  BlobWriter writer;
  writer.append<Header>(1);
  for (int i = 0; i < kStages; ++i) {
    if (!h.present[i]) continue;
    h.params[i] = conv_params_of(*specs[i]);
    if (const ArrayView* mask = specs[i]->array("mask")) {
      h.has_mask[i] = 1;
      h.masks[i] = writer.append(static_cast<const uint8_t*>(mask->data), mask->size());
    }
    if (const ArrayView* source = specs[i]->array("source")) {
      h.has_source[i] = 1;
      h.sources[i] = writer.append(static_cast<const int32_t*>(source->data), source->size());
    }
  }
  h.fill = SourceFill::pack(writer, stages.has_project ? stages.project : stages.depthwise);
  const ConvParams& d = h.params[kDepthwise];
  h.padded_channels = (d.output.c + 15) / 16 * 16;
  const int channels = h.padded_channels;
  if (stages.has_expand && h.params[kExpand].input.nchw)
    h.stem = StemProduct::pack(writer, stages.expand, h.params[kExpand], kernels);
  else if (stages.has_expand)
    h.expand = PixelProduct::pack(writer, stages.expand, h.params[kExpand], kernels, half);
  if (stages.has_project)
    h.project = PixelProduct::pack(writer, stages.project, h.params[kProject], kernels, half);
  h.expand_fill = stages.has_expand ? pack_fill(writer, stages.expand, h.params[kExpand], channels)
                                    : writer.append<float>(channels);
  h.depthwise_fill = pack_fill(writer, stages.depthwise, d, channels);
  h.weights = pack_depthwise_weights(writer, stages.depthwise, d, channels);
  h.bias = pack_channels(writer, stages.depthwise.float_array("bias"), d, channels);
  h.skipped_value =
      pack_channels(writer, stages.depthwise.float_array("skipped_value"), d, channels);
  h.zeros = writer.append<float>(channels);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa) {
  const ResidualStages stages = residual_stages_of(spec);
  if (spec.outputs[0].nchw) return "the output is NCHW";
  for (const OpSpec* stage : {&stages.expand, &stages.project}) {
    if (stage->array("weight") == nullptr) continue;
    const std::string reason = stage->inputs[0].nchw ? StemProduct::unsupported(*stage)
                                                     : PixelProduct::unsupported(*stage);
    if (!reason.empty()) return reason;
  }
  if (stages.depthwise.inputs[0].nchw) return "the depthwise stage reads NCHW";
  if (stages.depthwise.inputs.size() != 1) return "a residual is added to the depthwise stage";
  return DepthwiseStrip::unsupported(stages.depthwise);
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"inverted_residual", "strips", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<InvertedResidual>(blob, isa);
           }}};
}

}  // namespace activsparse::inverted_residual
