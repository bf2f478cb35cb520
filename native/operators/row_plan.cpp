#include "operators/row_plan.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace activsparse {
namespace {

constexpr int kMaxClasses =
    64;  // more (scattered input masks, huge kernels) are not worth a search

struct Group {
  std::vector<int32_t> taps;
  std::vector<uint32_t> positions;
  // Rows of a typical tile are 6; a tile costs about 0.7 rows (loads of weights) more than its
  // rows.
  double cost() const { return cost(taps.size(), positions.size()); }
  static double cost(std::size_t taps, std::size_t positions) {
    return (taps + 0.2) * (positions + 0.7 * std::ceil(positions / 6.0));
  }
};

std::vector<int32_t> taps_in_use(const ConvParams& p, const uint8_t* input_mask, int oy, int ox) {
  std::vector<int32_t> taps;
  for (int ky = 0; ky < p.kernel_h; ++ky)
    for (int kx = 0; kx < p.kernel_w; ++kx) {
      const int64_t pixel = p.input_pixel(oy, ox, ky, kx);
      if (pixel >= 0 && (input_mask == nullptr || input_mask[pixel]))
        taps.push_back(ky * p.kernel_w + kx);
    }
  return taps;
}

std::vector<int32_t> united(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  std::vector<int32_t> all;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(all));
  return all;
}

// Joins the pair that saves most, until none does.
void merge(std::vector<Group>& groups) {
  for (;;) {
    double best = 0;
    std::size_t first = 0, second = 0;
    for (std::size_t i = 0; i < groups.size(); ++i)
      for (std::size_t j = i + 1; j < groups.size(); ++j) {
        const double joined = Group::cost(united(groups[i].taps, groups[j].taps).size(),
                                          groups[i].positions.size() + groups[j].positions.size());
        const double saved = groups[i].cost() + groups[j].cost() - joined;
        if (saved > best) best = saved, first = i, second = j;
      }
    if (best <= 0) return;
    Group& into = groups[first];
    into.taps = united(into.taps, groups[second].taps);
    into.positions.insert(into.positions.end(), groups[second].positions.begin(),
                          groups[second].positions.end());
    std::sort(into.positions.begin(), into.positions.end());
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(second));
  }
}

std::vector<Group> group_positions(const ConvParams& p, const uint8_t* mask,
                                   const uint8_t* input_mask) {
  std::map<std::vector<int32_t>, std::vector<uint32_t>> by_taps;
  for (int oy = 0; oy < p.output.h; ++oy)
    for (int ox = 0; ox < p.output.w; ++ox)
      if (mask == nullptr || mask[int64_t{oy} * p.output.w + ox])
        by_taps[taps_in_use(p, input_mask, oy, ox)].push_back(static_cast<uint32_t>(oy) << 16 | ox);
  if (static_cast<int>(by_taps.size()) > kMaxClasses) {
    if (input_mask != nullptr) return group_positions(p, mask, nullptr);
    Group all;
    for (auto& [taps, positions] : by_taps) {
      all.taps = united(all.taps, taps);
      all.positions.insert(all.positions.end(), positions.begin(), positions.end());
    }
    std::sort(all.positions.begin(), all.positions.end());
    return {all};
  }
  std::vector<Group> groups;
  for (auto& [taps, positions] : by_taps) groups.push_back({taps, positions});
  merge(groups);
  return groups;
}

}  // namespace

std::string RowPlan::unsupported(const OpSpec& spec) {
  const TensorDesc &in = spec.inputs[0], &out = spec.outputs[0];
  if (in.nchw || out.nchw) return "input or output is NCHW";
  if (out.h > 0xffff || out.w > 0xffff) return "the output is larger than 65535 in one direction";
  return "";
}

RowPlanHeader RowPlan::pack(BlobWriter& writer, const OpSpec& spec, const ConvParams& p,
                            bool fill_skipped) {
  auto bytes_of = [&](const char* name) {
    const ArrayView* array = spec.array(name);
    return array ? static_cast<const uint8_t*>(array->data) : nullptr;
  };
  const uint8_t* mask = bytes_of("mask");
  std::vector<uint32_t> positions;
  std::vector<RowClass> classes;
  std::vector<int32_t> tap_list;
  for (const Group& group : group_positions(p, mask, bytes_of("input_mask"))) {
    RowClass c{};
    c.begin = static_cast<int32_t>(positions.size());
    positions.insert(positions.end(), group.positions.begin(), group.positions.end());
    c.end = static_cast<int32_t>(positions.size());
    c.first_tap = static_cast<int32_t>(tap_list.size());
    c.taps = static_cast<int32_t>(group.taps.size());
    tap_list.insert(tap_list.end(), group.taps.begin(), group.taps.end());
    c.inside = 1;
    for (uint32_t at : group.positions)
      for (int32_t tap : group.taps)
        if (p.input_pixel(at >> 16, at & 0xffff, tap / p.kernel_w, tap % p.kernel_w) < 0)
          c.inside = 0;
    classes.push_back(c);
  }
  if (mask != nullptr && fill_skipped) {
    RowClass c{};
    c.begin = static_cast<int32_t>(positions.size());
    for (int oy = 0; oy < p.output.h; ++oy)
      for (int ox = 0; ox < p.output.w; ++ox)
        if (!mask[int64_t{oy} * p.output.w + ox])
          positions.push_back(static_cast<uint32_t>(oy) << 16 | ox);
    c.end = static_cast<int32_t>(positions.size());
    c.inside = c.skipped = 1;
    if (c.end > c.begin) classes.push_back(c);
  }
  RowPlanHeader h{};
  h.position_count = static_cast<int32_t>(positions.size());
  h.class_count = static_cast<int32_t>(classes.size());
  h.tap_count = static_cast<int32_t>(tap_list.size());
  h.positions = writer.append(positions.data(), positions.size());
  h.classes = writer.append(classes.data(), classes.size());
  h.taps = writer.append(tap_list.data(), tap_list.size());
  return h;
}

RowPlan::RowPlan(const BlobView& blob, const RowPlanHeader& h, const ConvParams& p)
    : output_w_(p.output.w),
      input_h_(p.input.h),
      input_w_(p.input.w),
      position_count_(h.position_count),
      stride_h_(p.stride_h),
      stride_w_(p.stride_w),
      pad_top_(p.pad_top),
      pad_left_(p.pad_left),
      pixel_stride_(p.input.stride) {
  require_packed(h.position_count >= 0 && h.class_count >= 0 && h.tap_count >= 0);
  positions_ = blob.array<uint32_t>(h.positions, h.position_count);
  taps_ = blob.array<int32_t>(h.taps, h.tap_count);
  const RowClass* classes = blob.array<RowClass>(h.classes, h.class_count);
  classes_.assign(classes, classes + h.class_count);
  for (int i = 0; i < h.position_count; ++i)
    require_packed(static_cast<int>(positions_[i] >> 16) < p.output.h &&
                   static_cast<int>(positions_[i] & 0xffff) < p.output.w);
  for (int i = 0; i < h.tap_count; ++i) require_packed(taps_[i] >= 0 && taps_[i] < p.taps());
  for (const RowClass& c : classes_) {
    require_packed(c.begin >= 0 && c.begin <= c.end && c.end <= h.position_count &&
                   c.first_tap >= 0 && c.taps >= 0 && c.first_tap <= h.tap_count - c.taps);
    for (int t = 1; t < c.taps; ++t) require_packed(taps_of(c)[t - 1] < taps_of(c)[t]);
    require_packed(!c.inside || lies_inside(c, p));
    max_taps_ = std::max(max_taps_, c.taps);
  }
  for (int t = 0; t < p.taps(); ++t) {
    const int y = t / p.kernel_w * p.dilation_h, x = t % p.kernel_w * p.dilation_w;
    tap_offsets_.push_back({y, x, (int64_t{y} * p.input.w + x) * p.input.stride});
  }
  bytes_ = h.position_count * sizeof(uint32_t) + h.class_count * sizeof(RowClass) +
           h.tap_count * sizeof(int32_t);
}

// The extremes of positions and taps tell for all: a coordinate is the sum of one of each.
bool RowPlan::lies_inside(const RowClass& c, const ConvParams& p) const {
  if (c.begin == c.end || c.taps == 0) return true;
  int first_y = INT32_MAX, first_x = INT32_MAX, last_y = 0, last_x = 0;
  for (int i = c.begin; i < c.end; ++i) {
    const int y = static_cast<int>(positions_[i] >> 16);
    const int x = static_cast<int>(positions_[i] & 0xffff);
    first_y = std::min(first_y, y), last_y = std::max(last_y, y);
    first_x = std::min(first_x, x), last_x = std::max(last_x, x);
  }
  int first_kx = INT32_MAX, last_kx = 0;
  for (int t = 0; t < c.taps; ++t) {
    const int kx = taps_of(c)[t] % p.kernel_w;
    first_kx = std::min(first_kx, kx), last_kx = std::max(last_kx, kx);
  }
  const int first_ky = taps_of(c)[0] / p.kernel_w, last_ky = taps_of(c)[c.taps - 1] / p.kernel_w;
  return p.input_pixel(first_y, first_x, first_ky, first_kx) >= 0 &&
         p.input_pixel(last_y, last_x, last_ky, last_kx) >= 0;
}

double RowPlan::computed_taps() const {
  double sum = 0;
  for (const RowClass& c : classes_) sum += double{1} * (c.end - c.begin) * c.taps;
  return sum;
}

Tiling::Tiling(const RowPlan& plan, int images, int max_rows, double per_tap, double per_row)
    : plan_(plan), images_(images) {
  first_tile_.push_back(0);
  first_cost_.push_back(0);
  for (const RowClass& c : plan.classes()) {
    const int rows = c.end - c.begin;
    first_tile_.push_back(first_tile_.back() + (rows + max_rows - 1) / max_rows);
    first_cost_.push_back(first_cost_.back() + rows * (c.taps * per_tap + per_row));
  }
}

double Tiling::cost(int64_t begin, int64_t end) const {
  const auto until = [&](int64_t tile) {
    const int64_t per_image = first_tile_.back();
    if (per_image == 0) return 0.0;
    const int64_t inside = tile % per_image;
    std::size_t c = 0;
    while (first_tile_[c + 1] <= inside) ++c;
    const double share = double(inside - first_tile_[c]) / (first_tile_[c + 1] - first_tile_[c]);
    return double(tile / per_image) * first_cost_.back() + first_cost_[c] +
           share * (first_cost_[c + 1] - first_cost_[c]);
  };
  return until(end) - until(begin);
}

int64_t Tiling::first_of_share(int share, int shares) const {
  const double images = static_cast<double>(share) * images_ / shares;
  const int64_t image = static_cast<int64_t>(images);
  const double target = (images - static_cast<double>(image)) * first_cost_.back();
  std::size_t c = 0;
  while (c + 2 < first_cost_.size() && first_cost_[c + 1] <= target) ++c;
  if (target <= 0 || c + 1 >= first_cost_.size()) return image * first_tile_.back();
  const double inside = (target - first_cost_[c]) / (first_cost_[c + 1] - first_cost_[c]);
  const int tiles = first_tile_[c + 1] - first_tile_[c];
  return image * first_tile_.back() + first_tile_[c] + std::lround(inside * tiles);
}

Tile Tiling::Walk::next() {
  const std::vector<int>& first_tile = tiling_.first_tile_;
  if (index_ == (image_ + 1) * first_tile.back()) ++image_, class_ = 0;
  const int64_t index = index_++ - image_ * first_tile.back();
  while (index >= first_tile[class_ + 1]) ++class_;
  const RowClass& c = tiling_.plan_.classes()[class_];
  const int64_t rows = c.end - c.begin, tiles = first_tile[class_ + 1] - first_tile[class_];
  const int64_t i = index - first_tile[class_];
  const int64_t begin = rows * i / tiles, end = rows * (i + 1) / tiles;
  return {&c, tiling_.plan_.positions() + c.begin + begin, static_cast<int>(end - begin)};
}

}  // namespace activsparse
