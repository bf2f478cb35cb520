// Expansion (1x1, or a network's first convolution) - depthwise convolution - 1x1 projection, strip
// by strip of output rows, so that the wide tensors between them never leave the second-level
// cache.
//
// A thread keeps the expanded rows its current strip sees in a ring; the next strip only adds the
// rows it does not share. All stages address pixels through pointers, so skipped positions cost
// nothing between the stages: they are a pointer to one constant pixel, and nothing is written for
// them. Positions no later stage reads are not computed.
#include <algorithm>
#include <optional>

#include "operators/depthwise_strip.h"
#include "operators/depthwise_weights.h"
#include "operators/locate.h"
#include "operators/pixel_product.h"
#include "operators/residual_stages.h"
#include "operators/stem_product.h"

namespace activsparse {
namespace {

// The ring and the strip before the projection, of the second-level cache.
constexpr int64_t kStripShare = 500;

enum Stage { kExpand, kDepthwise, kProject, kStages };

struct Header {
  ConvParams params[kStages];
  int32_t present[kStages], has_mask[kStages];
  int32_t padded_channels;
  uint64_t masks[kStages];
  PixelProductHeader expand, project;
  StemProductHeader stem;  // in place of `expand` where the input is NCHW
  // (padded_channels): what the depthwise stage reads at skipped positions of the expansion, and
  // what the projection reads at those of the depthwise stage.
  uint64_t expand_fill, depthwise_fill;
  uint64_t weights, bias, skipped_value, zeros;
};

// The kept (or skipped) positions of a plane, row by row.
struct PositionRows {
  std::vector<int32_t> first, pixel;  // pixel: y * w + x
  PositionRows() = default;
  PositionRows(const std::vector<uint8_t>& mask, int h, int w, bool kept) : first(1, 0) {
    for (int y = 0; y < h; ++y) {
      for (int64_t i = int64_t{y} * w; i < (y + int64_t{1}) * w; ++i)
        if ((mask[i] != 0) == kept) pixel.push_back(static_cast<int32_t>(i));
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
      : h_(blob.header<Header>()), kernels_(kernels_for(isa)) {
    check(blob);
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

    std::vector<uint8_t> expanded = mask(blob, kExpand, d.input);
    std::vector<uint8_t> depthwise = mask(blob, kDepthwise, d.output);
    const std::vector<uint8_t> projected = mask(blob, kProject, d.output);
    const std::vector<uint8_t> computed = depthwise;
    std::vector<uint8_t> live = expanded;
    const bool zero =
        std::all_of(expand_fill_, expand_fill_ + channels_, [](float v) { return v == 0.0f; });
    if (!h_.present[kExpand] || !zero) live.assign(live.size(), 1);
    if (h_.present[kProject])
      for (std::size_t i = 0; i < depthwise.size(); ++i) depthwise[i] &= projected[i];
    choose_strip();
    DepthwiseStrip::Layout layout{strips_, ring_rows_, channels_, !h_.present[kProject]};
    strip_.emplace(blob, d, kernels_, layout, live, depthwise,
                   DepthwiseStrip::Arrays{h_.weights, h_.bias, h_.skipped_value});
    strip_->mark_read(expanded);
    expand_all_ =
        std::all_of(expanded.begin(), expanded.end(), [](uint8_t kept) { return kept != 0; });
    expand_kept_ = PositionRows(expanded, d.input.h, d.input.w, true);
    kept_ = PositionRows(projected, d.output.h, d.output.w, true);
    skipped_ = PositionRows(projected, d.output.h, d.output.w, false);
    for (int y = 0; y < d.output.h; ++y) {
      first_missing_.push_back(static_cast<int32_t>(missing_.size()));
      for (int32_t i = kept_.first[y]; i < kept_.first[y + 1]; ++i)
        if (!computed[kept_.pixel[i]]) missing_.push_back(i);
    }
    first_missing_.push_back(static_cast<int32_t>(missing_.size()));
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
  int tasks(int) const override { return depthwise().output.n * strips_.count; }
  std::size_t scratch_bytes() const override {
    return floats() * sizeof(float) + pointers() * sizeof(float*) +
           (stem_ ? stem_->scratch_bytes() : 0) + strip_->scratch_bytes();
  }
  std::size_t index_bytes() const override {
    return expand_kept_.bytes() + kept_.bytes() + skipped_.bytes() + strip_->index_bytes() +
           sizeof(int32_t) * (missing_.size() + first_missing_.size());
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

  void run(const RunArgs& run, int, int begin, int end) const override {
    const ConvParams& d = depthwise();
    Work work(*this, run);
    int expanded = 0;
    Fetch fetch = first_fetch();
    for (int task = begin; task < end; ++task) {
      const int image = task / strips_.count, strip = task % strips_.count;
      const int y0 = strips_.first(strip), y1 = strips_.first(strip + 1);
      const int first = std::clamp(y0 * d.stride_h - d.pad_top, 0, d.input.h);
      const int last = std::clamp((y1 - 1) * d.stride_h - d.pad_top + d.kernel_h, 0, d.input.h);
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
      float* out = work.strip;
      int64_t stride = channels_;
      if (!project_) {
        out = run.outputs[0] + (int64_t{image} * d.output.h + y0) * d.output.w * d.output.stride;
        stride = d.output.stride;
      }
      strip_->run(strip, work.table, work.zero_row, out, stride, work.depthwise);
      if (project_) project_rows(work, image, y0, y1, fetch);
    }
  }

 private:
  // A thread's scratch. `table` holds for every row of the ring where its pixels lie, padding
  // included, table_width() pointers each.
  struct Work {
    const RunArgs& run;
    float *ring, *strip;
    const float **table, **zero_row, **rows, **residual;
    float** out;
    uint8_t *stem, *depthwise;
    Work(const InvertedResidual& op, const RunArgs& args) : run(args) {
      stem = args.scratch;
      ring = reinterpret_cast<float*>(stem + (op.stem_ ? op.stem_->scratch_bytes() : 0));
      strip = ring + op.ring_floats();
      table = reinterpret_cast<const float**>(ring + op.floats());
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

  void check(const BlobView& blob) const {
    for (int stage = 0; stage < kStages; ++stage)
      if (h_.present[stage]) require_packed(blob, h_.params[stage], stage == kExpand);
    const ConvParams &expand = h_.params[kExpand], &d = depthwise(), &project = h_.params[kProject];
    const auto follows = [](const TensorDesc& from, const TensorDesc& to) {
      return fits(from, to) && fits(to, from) && to.padded && to.stride == least_stride(to);
    };
    require_packed(h_.present[kDepthwise] && is_depthwise(d) && !d.has_residual);
    require_packed(h_.padded_channels == (d.output.c + 15) / 16 * 16);
    if (h_.present[kExpand])
      require_packed(follows(expand.output, d.input) && !expand.has_residual &&
                     (expand.input.nchw || is_pixelwise(expand)));
    if (h_.present[kProject])
      require_packed(follows(d.output, project.input) && is_pixelwise(project));
  }

  // Of this operator's weights what a run reads after the first panel's.
  Fetch first_fetch() const {
    Fetch fetch;
    auto add = [&](Constants c) { fetch.add(c.data, c.floats); };
    if (expand_) add(expand_->later_weights());
    if (project_) add(expand_ ? project_->weights() : project_->later_weights());
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
  int64_t most_pixels() const {
    return std::max(int64_t{ring_rows_} * depthwise().input.w,
                    int64_t{strip_rows_} * depthwise().output.w);
  }
  int64_t pointers() const {
    return (ring_rows_ + 1) * int64_t{strip_->table_width()} + 3 * most_pixels();
  }

  std::vector<uint8_t> mask(const BlobView& blob, Stage stage, const TensorDesc& plane) const {
    const int64_t count = int64_t{plane.h} * plane.w;
    if (!h_.has_mask[stage]) return std::vector<uint8_t>(count, 1);
    const uint8_t* data = blob.array<uint8_t>(h_.masks[stage], count);
    return {data, data + count};
  }

  void choose_strip() {
    const ConvParams& d = depthwise();
    const int64_t in_row = h_.present[kExpand] ? int64_t{d.input.w} * channels_ * 4 : 0;
    const int64_t out_row = project_ ? int64_t{d.output.w} * channels_ * 4 : 0;
    auto bytes = [&](int rows) {
      return ((rows - 1) * d.stride_h + d.kernel_h) * in_row + rows * out_row;
    };
    const int64_t room = kernels_.caches.of_l2(kStripShare);
    int most = 2;
    while (most < d.output.h && bytes(most + 2) <= room) most += 2;
    strips_ = Strips::of(d.output.h, most);
    strip_rows_ = strips_.tallest();
    ring_rows_ = (strip_rows_ - 1) * d.stride_h + d.kernel_h;
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
      const float* at = work.run.inputs[0] + (int64_t{image} * in.h + y) * in.w * in.stride;
      locate_all(table_row(work, y), at, table_columns(), in.stride);
    }
  }

  void stem_rows(Work& work, int image, int first, int last) const {
    const ConvParams& p = h_.params[kExpand];
    const TensorDesc& in = p.input;
    const float* at = work.run.inputs[0] + int64_t{image} * in.c * in.h * in.w;
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
  }

  void expand_rows(Work& work, int image, int first, int last, Fetch& fetch) const {
    const TensorDesc& in = h_.params[kExpand].input;
    const int count = expand_kept_.count(first, last);
    locate(work.rows, address(work.run.inputs[0], int64_t{image} * in.h * in.w * in.stride),
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
    expand_->run(work.rows, work.out, nullptr, count, false, fetch);
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
      locate(work.out, address(work.run.outputs[0], first * out.stride), pixels, count, out.stride);
      if (p.has_residual)
        locate(work.residual, address(work.run.inputs[1], first * p.residual.stride), pixels, count,
               p.residual.stride);
      if (!skipped) {
        locate(work.rows, address(work.strip, -int64_t{y0} * out.w * channels_), pixels, count,
               channels_);
        for (int i = first_missing_[y0]; i < first_missing_[y1]; ++i)
          work.rows[missing_[i] - kept_.first[y0]] = depthwise_fill_;
      }
      project_->run(work.rows, work.out, p.has_residual ? work.residual : nullptr, count, skipped,
                    fetch);
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
  bool expand_all_;  // all positions are computed (and read)
  PositionRows expand_kept_, kept_, skipped_;
  // Of kept_, those that the depthwise stage skips, row by row.
  std::vector<int32_t> missing_, first_missing_;
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
  const OpSpec* specs[kStages] = {&stages.expand, &stages.depthwise, &stages.project};
  Header h{};
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
  }
  const ConvParams& d = h.params[kDepthwise];
  h.padded_channels = (d.output.c + 15) / 16 * 16;
  const int channels = h.padded_channels;
  if (stages.has_expand && h.params[kExpand].input.nchw)
    h.stem = StemProduct::pack(writer, stages.expand, h.params[kExpand], kernels);
  else if (stages.has_expand)
    h.expand = PixelProduct::pack(writer, stages.expand, h.params[kExpand], kernels);
  if (stages.has_project)
    h.project = PixelProduct::pack(writer, stages.project, h.params[kProject], kernels);
  h.expand_fill = stages.has_expand ? pack_fill(writer, stages.expand, h.params[kExpand], channels)
                                    : writer.append<float>(channels);
  h.depthwise_fill = pack_fill(writer, stages.depthwise, d, channels);
  h.weights = pack_depthwise_weights(writer, stages.depthwise, d, channels);
  h.bias = pack_depthwise_channels(writer, stages.depthwise.float_array("bias"), d, channels);
  h.skipped_value =
      pack_depthwise_channels(writer, stages.depthwise.float_array("skipped_value"), d, channels);
  h.zeros = writer.append<float>(channels);
  *writer.at<Header>(0) = h;
  return writer.take();
}

std::string unsupported(const OpSpec& spec, Isa) {
  const ResidualStages stages = residual_stages_of(spec);
  if (spec.outputs[0].nchw) return "the output is NCHW";
  for (const OpSpec* stage : {&stages.expand, &stages.depthwise, &stages.project})
    if (stage->array("source") != nullptr) return "skipped positions are filled from others";
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

std::vector<OperatorType> inverted_residual_types() {
  return {{"inverted_residual", "strips", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<InvertedResidual>(blob, isa);
           }}};
}

}  // namespace activsparse
