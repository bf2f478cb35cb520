// conv/winograd_stem: the first convolution of a network, a graph input in NCHW with few channels
// and a kernel of three or four strides, by Winograd's algorithm.
//
// Unfolded (unfolded_rows.h) it is a convolution of stride 1 with s s C input channels and 3 or 4
// taps along each axis: F(6x6, 3x3) or F(5x5, 4x4), both at the points of winograd6. The kernels
// are those of kernels/winograd.h.
#include <algorithm>

#include "operators/even_parts.h"
#include "operators/winograd_stem.h"
#include "operators/winograd_target.h"
#include "operators/winograd_weights.h"

namespace activsparse {
namespace {

constexpr int kPoints = 8, kElements = kPoints * kPoints;
constexpr int kMaxChannels = 4, kMaxStride = 4, kMostParts = 4;
// Products of one block of tiles and output channels, of the second-level cache. (On a Zen 4 server
// core 96 to 384 KiB are within 2 %; 48 KiB, near the first-level cache, take 4 % longer.)
constexpr int64_t kBlockShare = 128;
constexpr int64_t kMostBlockTiles = 1 << 16;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

int taps_of(int kernel_h, int kernel_w, int stride) {
  return ceil_div(std::max(kernel_h, kernel_w), stride);
}

const WinogradKernels& winograd_of(const Kernels& table, int taps) {
  return taps == 4 ? table.winograd5_f32 : table.winograd6_f32;
}

}  // namespace

WinogradStem::WinogradStem(const BlobView& blob, Isa isa)
    : h_(conv_header<WinogradStemHeader>(blob, true)),
      table_(kernels_for(isa)),
      kernels_(winograd_of(table_, h_.taps)),
      out_(kPoints + 1 - h_.taps),
      rows_(h_.params, h_.params.output.w + kPoints - 1),
      skipped_(blob, h_.skipped, h_.params, table_),
      source_(blob, h_.source, h_.params.output) {
  const ConvParams& p = h_.params;
  require_packed(h_.blocks >= 1 && h_.block_tiles >= 1 && h_.block_tiles <= kMostBlockTiles &&
                 h_.bands >= 0 && h_.tiles >= 0);
  require_packed(p.input.nchw && p.input.c <= kMaxChannels && p.group == 1 && p.dilation_h == 1 &&
                 p.dilation_w == 1 && p.stride_h <= kMaxStride);
  require_packed((h_.taps == 3 || h_.taps == 4) && p.stride_h == p.stride_w && p.stride_h >= 2 &&
                 taps_of(p.kernel_h, p.kernel_w, p.stride_h) <= h_.taps);
  vectors_ = ceil_div(p.output.c, table_.width);
  require_packed(h_.blocks <= vectors_);
  max_vecs_ = ceil_div(vectors_, h_.blocks);
  require_packed(max_vecs_ <= kernels_.max_vecs);
  weights_ = blob.array<float>(h_.weights,
                               int64_t{kElements} * rows_.channels() * vectors_ * table_.width);
  bias_ = blob.array<float>(h_.bias, p.output.c);
  tiles_ = blob.array<CoverTile>(h_.tile_list, h_.tiles);
  band_starts_ = blob.array<int32_t>(h_.band_starts, int64_t{h_.bands} + 1);
  check_tiles();
}

int WinogradStem::tasks(int phase) const {
  return phase == 1 ? SourceFill::kTasks : std::max(1, h_.params.output.n * h_.bands * h_.parts);
}

double WinogradStem::cost(int phase, int begin, int end) const {
  if (phase > 0 || h_.bands == 0) return ConvOperator::cost(phase, begin, end);
  int64_t tiles = 0;
  for (int task = begin; task < end; ++task) tiles += last_tile(task) - first_tile(task);
  return macs() * double(tiles) / (double(h_.params.output.n) * h_.tiles);
}

std::size_t WinogradStem::scratch_bytes() const {
  return (kPoints * rows_.row_floats() + v_floats() + m_floats()) * sizeof(float);
}

std::size_t WinogradStem::index_bytes() const {
  return h_.tiles * sizeof(CoverTile) + (h_.bands + 1) * sizeof(int32_t) + skipped_.bytes() +
         source_.bytes();
}

double WinogradStem::macs() const {
  return double(h_.params.output.n) * h_.tiles * kElements * rows_.channels() * h_.params.output.c;
}

std::string WinogradStem::kernel() const {
  const ConvParams& p = h_.params;
  const auto square = [](int n) { return std::to_string(n) + "x" + std::to_string(n); };
  return std::string(table_.isa) + " F(" + square(out_) + "," + square(h_.taps) + "/" +
         std::to_string(p.stride_h) + ") x" + std::to_string(max_vecs_ * table_.width);
}

void WinogradStem::run(const RunArgs& args, int phase, int begin, int end) const {
  if (phase == 1) return source_.run(args.out(0), begin, end);
  run_bands(args, begin, end, [](int) {});
  skipped_.run(args, begin, end, tasks(0));
}

void WinogradStem::run_bands(const RunArgs& args, int begin, int end,
                             const std::function<void(int)>& after) const {
  float* window = reinterpret_cast<float*>(args.scratch);
  for (int task = begin; task < end && h_.bands > 0; ++task) {
    const int image = task / h_.parts / h_.bands, band = task / h_.parts % h_.bands;
    const bool more = task > begin && task % h_.parts > 0;  // of a band whose rows are there
    // Rows that the band before has seen as well are moved, not written again.
    const int y = tiles_[band_starts_[band]].y;
    const bool follows = task > begin && band > 0;
    const int seen = more ? kPoints : follows ? tiles_[band_starts_[band - 1]].y + kPoints - y : 0;
    if (seen > 0 && !more)
      std::memmove(window, window + (kPoints - seen) * rows_.row_floats(),
                   seen * rows_.row_floats() * sizeof(float));
    const TensorDesc& in = h_.params.input;
    for (int i = std::max(seen, 0); i < kPoints; ++i)
      rows_.write(args.in(0) + int64_t{image} * in.c * in.h * in.w, y + i,
                  window + i * rows_.row_floats());
    run_band(args, image, first_tile(task), last_tile(task), window);
    after(band);
  }
}

// The tiles of a task: a part of a band's.
int WinogradStem::first_tile(int task) const {
  const int band = task / h_.parts % h_.bands;
  const int tiles = band_starts_[band + 1] - band_starts_[band];
  return band_starts_[band] + block_start(tiles, h_.parts, task % h_.parts);
}
int WinogradStem::last_tile(int task) const {
  const int band = task / h_.parts % h_.bands;
  const int tiles = band_starts_[band + 1] - band_starts_[band];
  return band_starts_[band] + block_start(tiles, h_.parts, task % h_.parts + 1);
}

void WinogradStem::check_tiles() const {
  const TensorDesc& out = h_.params.output;
  require_packed(h_.parts >= 1 && h_.parts <= kMostParts);
  require_packed(band_starts_[0] == 0 && band_starts_[h_.bands] == h_.tiles);
  for (int band = 0; band < h_.bands; ++band) {
    const int first = band_starts_[band], end = band_starts_[band + 1];
    require_packed(first < end && end <= h_.tiles);
    require_packed(band == 0 || tiles_[first].y >= tiles_[band_starts_[band - 1]].y + out_);
    for (int i = first; i < end; ++i) {
      const CoverTile& t = tiles_[i];
      require_packed(t.y == tiles_[first].y && t.y >= 0 && t.x >= 0 && t.x < out.w);
      for (int bit = 0; bit < 64; ++bit)
        if ((t.keep | t.fill) >> bit & 1)
          require_packed(bit < out_ * out_ && t.y + bit / out_ < out.h && t.x + bit % out_ < out.w);
    }
  }
}

// As in conv_winograd.cpp, an odd number of cache lines between elements.
int64_t WinogradStem::v_stride() const {
  return (h_.block_tiles * rows_.stride() / 32) * 32 + 16 + 32;
}
int64_t WinogradStem::v_floats() const { return kElements * v_stride(); }
int64_t WinogradStem::m_floats() const {
  return int64_t{h_.block_tiles} * kElements * max_vecs_ * table_.width;
}

void WinogradStem::run_band(const RunArgs& args, int image, int first, int last,
                            float* window) const {
  float* v = window + kPoints * rows_.row_floats();
  const int width = h_.params.output.w + kPoints - 1;
  const WinogradSource source{window,        kPoints, width, rows_.stride(), rows_.row_floats(),
                              rows_.stride()};
  const int groups = ceil_div(last - first, h_.block_tiles);
  for (int g = 0; g < groups; ++g) {
    const int begin = first + block_start(last - first, groups, g);
    const int end = first + block_start(last - first, groups, g + 1);
    for (int i = begin; i < end; ++i)
      kernels_.transform_input[kFull](source, 0, tiles_[i].x, v + (i - begin) * rows_.stride(),
                                      v_stride());
    for (int block = 0; block < h_.blocks; ++block)
      multiply(args, image, begin, end, block, v, v + v_floats());
  }
}

// Products and results of some tiles of a band, for one block of output channels.
void WinogradStem::multiply(const RunArgs& args, int image, int begin, int end, int block,
                            const float* v, float* m) const {
  const ConvParams& p = h_.params;
  const int width = table_.width, first_vector = block_start(vectors_, h_.blocks, block);
  const int vecs = block_start(vectors_, h_.blocks, block + 1) - first_vector;
  const int first = first_vector * width, count = end - begin;
  const int shapes[kWinogradShapes + 1] = {0, 0, count, count, count};
  WinogradWeights weights{};
  weights.u = weights_ + int64_t{first} * kElements * rows_.channels();
  kernels_.multiply(v, v_stride(), rows_.stride(), shapes, rows_.channels(), weights, vecs, m);
  WinogradTargets targets(args, p, first, vecs * width, bias_, skipped_.value());
  for (int i = begin; i < end; ++i, m += int64_t{kElements} * vecs * width)
    kernels_.transform_output[kFull](m, vecs, targets.at(image, tiles_[i].y, tiles_[i]),
                                     p.epilogue);
}

namespace {

std::string unsupported(const OpSpec& spec, Isa) {
  const TensorDesc &in = spec.inputs[0], &out = spec.outputs[0];
  if (!in.nchw) return "the input is not NCHW";
  if (out.nchw) return "the output is NCHW";
  if (in.c > kMaxChannels) return "the input has more than 4 channels";
  for (const char* name : {"dilation_h", "dilation_w", "group"})
    if (spec.int_or(name, 1) != 1) return "dilation or groups";
  const int64_t stride = spec.int_or("stride_h", 1);
  if (stride != spec.int_or("stride_w", 1)) return "the strides differ";
  if (stride < 2 || stride > kMaxStride) return "the stride is not 2 to 4";
  const ArrayView* weight = spec.array("weight");
  if (!weight || weight->shape.size() != 4) return "there is no weight";
  const int64_t kernel = std::max(weight->shape[2], weight->shape[3]);
  if (kernel <= 2 * stride || kernel > 4 * stride) return "the kernel is not 3 or 4 strides long";
  if (std::max(out.h, out.w) > 32767) return "the map is too large";
  return "";
}

// Bands from each row on that has a kept position, of tiles from each column on that has one.
std::vector<CoverTile> cover(const OpSpec& spec, const ConvParams& p, int size,
                             std::vector<int32_t>* band_starts) {
  const ArrayView* view = spec.array("mask");
  const auto* mask = view ? static_cast<const uint8_t*>(view->data) : nullptr;
  const int h = p.output.h, w = p.output.w;
  std::vector<CoverTile> tiles;
  const auto tile_at = [&](int y, int x) {
    CoverTile tile{};
    tile.y = static_cast<int16_t>(y), tile.x = static_cast<int16_t>(x);
    for (int i = 0; i < size && y + i < h; ++i)
      for (int j = 0; j < size && x + j < w; ++j) {
        const bool kept = !mask || mask[int64_t{y + i} * w + x + j];
        (kept ? tile.keep : tile.fill) |= uint64_t{1} << (i * size + j);
      }
    if (spec.array("source") != nullptr) tile.fill = 0;
    return tile;
  };
  const auto keeps = [&](int y, int x, int height, int width) {
    for (int i = y; i < std::min(y + height, h); ++i)
      for (int j = x; j < std::min(x + width, w); ++j)
        if (!mask || mask[int64_t{i} * w + j]) return true;
    return false;
  };
  for (int y = 0; y < h;) {
    if (!keeps(y, 0, 1, w)) {
      ++y;
      continue;
    }
    band_starts->push_back(static_cast<int32_t>(tiles.size()));
    for (int x = 0; x < w;)
      if (keeps(y, x, size, 1)) {
        tiles.push_back(tile_at(y, x));
        x += size;
      } else {
        ++x;
      }
    y += size;
  }
  band_starts->push_back(static_cast<int32_t>(tiles.size()));
  return tiles;
}

// U = G g G^T of the unfolded kernel g, in double precision; laid out as in winograd_weights.h.
void transform_weights(const float* weight, const ConvParams& p, int taps, int width, int blocks,
                       float* u) {
  double g[kPoints][4];
  winograd8_matrix(taps, g);
  const int s = p.stride_h, channels = UnfoldedRows::channels(p);
  const int vectors = ceil_div(p.output.c, width);
  for (int block = 0; block < blocks; ++block) {
    const int first = block_start(vectors, blocks, block) * width;
    const int lanes = block_start(vectors, blocks, block + 1) * width - first;
    float* packed = u + int64_t{first} * kElements * channels;
    for (int o = first; o < std::min(first + lanes, p.output.c); ++o)
      for (int channel = 0; channel < channels; ++channel) {
        const int c = channel / (s * s), a = channel / s % s, b = channel % s;
        const float* kernel = weight + (int64_t{o} * p.input.c + c) * p.kernel_h * p.kernel_w;
        double columns[kPoints][4] = {};
        for (int ky = a; ky < p.kernel_h; ky += s)
          for (int kx = b; kx < p.kernel_w; kx += s)
            for (int i = 0; i < kPoints; ++i)
              columns[i][kx / s] += g[i][ky / s] * kernel[ky * p.kernel_w + kx];
        for (int i = 0; i < kPoints; ++i)
          for (int j = 0; j < kPoints; ++j) {
            double sum = 0;
            for (int t = 0; t < taps; ++t) sum += columns[i][t] * g[j][t];
            packed[(int64_t{i * kPoints + j} * channels + channel) * lanes + o - first] =
                static_cast<float>(sum);
          }
      }
  }
}

Blob pack(const OpSpec& spec, Isa isa) {
  const Kernels& table = kernels_for(isa);
  WinogradStemHeader h{};
  h.params = conv_params_of(spec);
  const ConvParams& p = h.params;
  h.taps = taps_of(p.kernel_h, p.kernel_w, p.stride_h);
  const int size = kPoints + 1 - h.taps, width = table.width;
  std::vector<int32_t> band_starts;
  const std::vector<CoverTile> tiles = cover(spec, p, size, &band_starts);
  h.tiles = static_cast<int32_t>(tiles.size());
  h.bands = static_cast<int32_t>(band_starts.size()) - 1;
  h.parts = even_parts(int64_t{p.output.n} * std::max(1, h.bands), kMostParts, spec.threads);
  std::vector<uint8_t> filled(int64_t{p.output.h} * p.output.w);
  for (const CoverTile& tile : tiles)
    for (int bit = 0; bit < size * size; ++bit)
      if (tile.fill >> bit & 1)
        filled[int64_t{tile.y + bit / size} * p.output.w + tile.x + bit % size] = 1;

  const int vectors = ceil_div(p.output.c, width);
  h.blocks = ceil_div(vectors, winograd_of(table, h.taps).max_vecs);
  const int block_bytes = ceil_div(vectors, h.blocks) * width * kElements * int{sizeof(float)};
  h.block_tiles = static_cast<int32_t>(
      std::clamp<int64_t>(table.caches.of_l2(kBlockShare) / block_bytes, 1, kMostBlockTiles));

  BlobWriter writer;
  writer.append<WinogradStemHeader>(1);
  h.weights =
      writer.append<float>(int64_t{kElements} * UnfoldedRows::channels(p) * vectors * width);
  transform_weights(spec.float_array("weight"), p, h.taps, width, h.blocks,
                    writer.at<float>(h.weights));
  const float* bias = spec.float_array("bias");
  h.bias = bias ? writer.append(bias, p.output.c) : writer.append<float>(p.output.c);
  h.tile_list = writer.append(tiles.data(), tiles.size());
  h.band_starts = writer.append(band_starts.data(), band_starts.size());
  h.skipped = SkippedFill::pack(writer, spec, p, filled.data());
  h.source = SourceFill::pack(writer, spec);
  *writer.at<WinogradStemHeader>(0) = h;
  return writer.take();
}

}  // namespace

namespace conv_winograd_stem {

std::vector<OperatorType> types() {
  return {{"conv", "winograd_stem", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<WinogradStem>(blob, isa);
           }}};
}

}  // namespace conv_winograd_stem

}  // namespace activsparse
