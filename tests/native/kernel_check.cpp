// Every kernel of table.inc's tiles and blocks against sums in double precision, those on bytes
// and on float16 against exact ones, whether an operator picks it or not, on random sizes; all
// memory ends at pages without access.
//
//   kernel_check [SEED]
//
// Goes through all instruction sets this machine has, and for kernels on bytes through what it has
// beyond them, used and unused. Prints a line per kernel, what differs with
// the seed that repeats it, and exits 1 if anything did.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "byte_checks.h"
#include "common/isa.h"
#include "half_checks.h"
#include "kernel_case.h"
#include "kernels/table.h"

using namespace activsparse;

namespace {

constexpr int kCases = 6;
constexpr double kUlp = 1.0 / (1 << 24);

// A sum, and how far float32 may be from it.
struct Sum {
  double value = 0, magnitude = 0;
  int terms = 0;
  void add(double a, double b = 1) {
    value += a * b;
    magnitude += std::abs(a * b);
    ++terms;
  }
  bool accepts(double got, const Epilogue& epilogue) const {
    double want = value;
    if (epilogue.activation == Activation::kClip)
      want = std::min(std::max(want, double{epilogue.lo}), double{epilogue.hi});
    return std::abs(got - want) <= (terms + 2) * kUlp * magnitude;  // not for NaN
  }
};

std::vector<const float*> constant(const std::vector<float*>& rows) {
  return {rows.begin(), rows.end()};
}

// Whether `rows` outputs of `lanes` channels are right, and what follows them up to `room` is as it
// was, but where whole lanes may be stored.
template <class Want>
bool right(int rows, int lanes, int stored, int room, const std::vector<float*>& out,
           const std::vector<std::vector<float>>& before, const Epilogue& epilogue,
           const Want& want) {
  for (int r = 0; r < rows; ++r) {
    for (int o = 0; o < lanes; ++o)
      if (!want(r, o).accepts(out[r][o], epilogue)) return false;
    for (int o = stored; o < room; ++o)
      if (out[r][o] != before[r][o]) return false;
  }
  return true;
}

std::vector<std::vector<float>> copies(const std::vector<float*>& rows, int64_t floats) {
  std::vector<std::vector<float>> all;
  for (const float* row : rows) all.emplace_back(row, row + floats);
  return all;
}

bool gemm_tile(Case& c, const GemmKernels& kernels, int width, int vectors, int rows, bool half,
               bool gather) {
  const int last = half ? width / 2 : width, whole = (vectors - 1) * width;
  const int taps = c.number(1, 3), channels = c.number(1, 70), more = c.number(0, 2);
  const int lanes = c.number(1, last), stored = c.number(lanes, last);
  const int all = rows * (more + 1), column = c.number(0, 3);
  std::vector<int32_t> distances(channels);
  for (int i = 0; i < channels; ++i) distances[i] = gather ? 3 * ((i * 7) % channels) : i;
  const int reach = gather ? 3 * channels - 2 : channels;
  const auto x = constant(c.arrays(taps * all, reach));
  std::vector<const float*> in(taps * all), weights(taps);
  for (int m = 0; m <= more; ++m)
    for (int t = 0; t < taps; ++t)
      for (int r = 0; r < rows; ++r) in[(m * taps + t) * rows + r] = x[(m * taps + t) * rows + r];
  const int packed = vectors * width;
  // Tiles fetch what lies ahead: addresses that need not be there.
  for (const float*& one : weights) {
    float* w = c.array(int64_t{channels} * packed, true);
    for (int k = 0; k < channels; ++k) {
      float* row = w + int64_t{k} * packed;
      if (half) std::copy_n(row + whole, width / 2, row + whole + width / 2);
      if (!half) std::fill(row + whole + lanes, row + packed, 0.0f);
    }
    one = w;
  }
  float* start = c.chance() ? c.array(packed, true) : nullptr;
  if (half && start != nullptr) std::copy_n(start + whole, width / 2, start + whole + width / 2);
  const auto out = c.arrays(all, column + whole + stored);
  const auto before = copies(out, column + whole + stored);
  const auto residual = c.arrays(all, column + whole + lanes);
  const auto read = constant(residual);
  const bool raw = c.chance(), adds = c.chance() && !raw;
  const Epilogue epilogue = raw ? Epilogue{} : c.epilogue();
  GemmArgs args{};
  args.rows = in.data();
  args.weights = weights.data();
  args.taps = taps;
  args.channels = channels;
  args.distances = gather ? distances.data() : nullptr;
  args.start = start;
  args.out = out.data();
  args.residual = adds ? read.data() : nullptr;
  args.epilogue = raw ? nullptr : &epilogue;
  args.lanes = lanes;
  args.store_lanes = stored;
  if (c.chance()) args.fetch[0] = 64, args.fetch[1] = 128;
  args.column = column;
  args.more = more;
  kernels.tile[vectors - 1][rows - 1](args);
  for (int row = 0; row < all; ++row) {
    for (int o = 0; o < whole + lanes; ++o) {
      Sum sum;
      sum.add(start != nullptr ? start[o] : before[row][column + o]);
      for (int t = 0; t < taps; ++t)
        for (int k = 0; k < channels; ++k)
          sum.add(in[(row / rows * taps + t) * rows + row % rows][distances[k]],
                  weights[t][int64_t{k} * packed + o]);
      if (adds) sum.add(residual[row][column + o]);
      if (!sum.accepts(out[row][column + o], epilogue)) return false;
    }
    for (int o = 0; o < column; ++o)
      if (out[row][o] != before[row][o]) return false;
  }
  return true;
}

bool tap_tile(Case& c, const TapProductKernels& kernels, int width, int vectors, int rows) {
  const int channels = c.number(1, 70), stored = c.number(1, width), first = c.number(0, 5);
  const int packed = vectors * width, lanes = packed - width + stored;
  const auto x = constant(c.arrays(rows, first + channels));
  const float* weights = c.array(int64_t{channels} * packed, true);
  const auto out = c.arrays(rows, lanes);
  const auto before = copies(out, lanes);
  kernels.tile[vectors - 1][rows - 1](
      {x.data(), first, weights, channels, out.data(), stored, weights, c.number(0, 2 * channels)});
  return right(rows, lanes, lanes, lanes, out, before, {}, [&](int r, int o) {
    Sum sum;
    sum.add(before[r][o]);
    for (int k = 0; k < channels; ++k) sum.add(x[r][first + k], weights[int64_t{k} * packed + o]);
    return sum;
  });
}

bool winograd_tile(Case& c, const WinogradProducts& kernels, int width, int vectors, int rows) {
  const int channels = c.number(1, 70), lanes = vectors * width;
  const int64_t v_stride = channels + c.number(0, 5), m_stride = lanes * c.number(1, 3);
  const bool more = c.chance();
  const float* v = c.array((rows - 1) * v_stride + channels);
  const float* u = c.array(int64_t{channels} * lanes, true);
  float* m = c.array((rows - 1) * m_stride + lanes, true);
  std::vector<float*> out(rows);
  for (int r = 0; r < rows; ++r) out[r] = m + r * m_stride;
  const auto before = copies(out, lanes);
  kernels.tile[vectors - 1][rows - 1](v, v_stride, channels, u, m, m_stride, more,
                                      {u, c.number(0, 2 * channels * lanes)});
  return right(rows, lanes, lanes, lanes, out, before, {}, [&](int r, int o) {
    Sum sum;
    if (more) sum.add(before[r][o]);
    for (int k = 0; k < channels; ++k) sum.add(v[r * v_stride + k], u[int64_t{k} * lanes + o]);
    return sum;
  });
}

bool depthwise_tile(Case& c, const DepthwiseKernels& kernels, int width, int rows) {
  const int taps = c.number(1, 25), channels = c.number(1, 9 * width);
  const int packed = (channels + width - 1) / width * width;
  const int whole = c.number(0, 1), room = whole ? packed : channels;
  const auto x = constant(c.arrays(taps * rows, room));
  std::vector<const float*> weights(taps);
  for (const float*& one : weights) one = c.array(packed, true);
  const float* start = c.array(packed, true);
  const auto out = c.arrays(rows, room);
  const auto before = copies(out, room);
  const auto residual = constant(c.arrays(rows, room));
  const bool adds = c.chance();
  const Epilogue epilogue = c.epilogue();
  kernels.tile[rows - 1]({x.data(), weights.data(), taps, channels, start, out.data(),
                          adds ? residual.data() : nullptr, &epilogue, whole});
  return right(rows, channels, room, room, out, before, epilogue, [&](int r, int o) {
    Sum sum;
    sum.add(start[o]);
    for (int t = 0; t < taps; ++t) sum.add(x[t * rows + r][o], weights[t][o]);
    if (adds) sum.add(residual[r][o]);
    return sum;
  });
}

// Tiles of whole vectors and of a part; weights as conv_grouped.cpp packs them.
bool grouped_tile(Case& c, const GroupedKernels& kernels, int width, int log, int rows) {
  const int group = 1 << log, kernel = c.number(1, 25), tiles = c.number(1, 3);
  const int lanes = c.chance() ? width : group * c.number(1, width / group);
  std::vector<int32_t> tap_list;
  for (int t = 0; t < kernel; ++t)
    if (c.number(0, 3) != 0) tap_list.push_back(t);
  const int taps = static_cast<int>(tap_list.size());
  const auto x = constant(c.arrays(tiles * taps * rows, lanes));
  const float* weights = c.array(kernel * group * width, true);
  const float* start = c.array(width, true);
  const auto out = c.arrays(tiles * rows, lanes);
  const auto before = copies(out, lanes);
  const auto residual = constant(c.arrays(tiles * rows, lanes));
  const bool adds = c.chance();
  const Epilogue epilogue = c.epilogue();
  GroupedArgs args{};
  args.rows = x.data();
  args.weights = weights;
  args.tap_list = tap_list.data();
  args.taps = taps;
  args.tiles = tiles;
  args.start = start;
  args.out = out.data();
  args.residual = adds ? residual.data() : nullptr;
  args.epilogue = &epilogue;
  args.lanes = lanes;
  kernels.tile[log - 1][rows - 1](args);
  return right(tiles * rows, lanes, lanes, lanes, out, before, epilogue, [&](int r, int o) {
    Sum sum;
    sum.add(start[o]);
    for (int t = 0; t < taps; ++t)
      for (int distance = 0; distance < group; ++distance) {
        const int lane = o ^ distance;  // of the input
        sum.add(x[(r / rows * taps + t) * rows + r % rows][lane],
                weights[(tap_list[t] * group + distance) * width + lane]);
      }
    if (adds) sum.add(residual[r][o]);
    return sum;
  });
}

// Of a kernel, rows by columns, and strides.
struct Window {
  int kernel_h, kernel_w, stride_h, stride_w;
};

bool depthwise_block(Case& c, const DepthwiseBlocks& blocks, int width, const Window& window,
                     int rows) {
  const auto [kernel_h, kernel_w, stride_h, stride_w] = window;
  const int taps = kernel_h * kernel_w;
  const bool any = blocks.form == DepthwiseForm::kAny;
  const int columns = c.number(1, kMaxBlockColumns), channels = c.number(1, 3 * width);
  const int packed = (channels + width - 1) / width * width;
  const int whole = c.number(0, 1), room = whole ? packed : channels;
  const int seen_h = (rows - 1) * stride_h + kernel_h;
  const int seen_w = (columns - 1) * stride_w + kernel_w;
  const auto pixels = constant(c.arrays(seen_h * seen_w, room));
  std::vector<const float* const*> lines(seen_h);
  for (int y = 0; y < seen_h; ++y) lines[y] = pixels.data() + y * seen_w;
  const int64_t weight_stride = packed + 16 * c.number(0, 1), mask_row = columns + c.number(0, 3);
  const float* weights =
      c.array(any ? int64_t{taps} * packed : (taps - 1) * weight_stride + packed, true);
  const float* start = c.array(packed, true);
  const int64_t column = packed, row = columns * column + 16 * c.number(0, 1);
  const int64_t floats = (rows - 1) * row + (columns - 1) * column + room;
  float *out = c.array(floats), *residual = c.array(floats);
  const std::vector<float> before(out, out + floats);
  std::vector<uint8_t> keep(rows * mask_row);
  for (uint8_t& one : keep) one = c.number(0, 2) != 0;
  const float* skipped = c.array(packed, true);
  const bool masked = c.chance(), filled = c.chance(), adds = c.chance();
  const Epilogue epilogue = c.epilogue();
  DepthwiseBlockArgs args{};
  args.lines = lines.data();
  args.weights = weights;
  args.weight_stride = weight_stride;
  args.columns = columns;
  args.channels = channels;
  args.start = start;
  args.out = out;
  args.out_row = row;
  args.out_column = column;
  args.residual = adds ? residual : nullptr;
  args.residual_row = row;
  args.residual_column = column;
  args.keep = masked ? keep.data() : nullptr;
  args.mask_row = mask_row;
  args.skipped = masked && filled ? skipped : nullptr;
  args.epilogue = &epilogue;
  args.whole_vectors = whole;
  args.kernel_h = kernel_h, args.kernel_w = kernel_w;
  args.stride_h = stride_h, args.stride_w = stride_w;
  blocks.block[rows - 1](args);
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < columns; ++x) {
      const bool kept = !masked || keep[y * mask_row + x];
      for (int o = 0; o < channels; ++o) {
        const int64_t at = y * row + x * column + o;
        if (!kept && !filled) {
          if (blocks.skips() && out[at] != before[at]) return false;
          continue;
        }
        Sum sum;
        sum.add(kept ? start[o] : skipped[o]);
        for (int t = 0; kept && t < taps; ++t)
          sum.add(
              lines[y * stride_h + t / kernel_w][x * stride_w + t % kernel_w][o],
              weights[any ? (o / width * taps + t) * width + o % width : t * weight_stride + o]);
        if (adds) sum.add(residual[at]);
        if (!sum.accepts(out[at], epilogue)) return false;
      }
    }
  return true;
}

// All float16 numbers, some at a time from anywhere, times a power of two.
bool widened(Case& c, const WidenKernels& kernels, int width) {
  const int exponent = c.number(-100, 100), count = width * c.number(1, 300);
  const int first = c.number(0, 0xffff), step = 2 * c.number(0, 1000) + 1;
  Guarded memory(static_cast<std::size_t>(count) * sizeof(uint16_t), sizeof(uint16_t));
  auto* in = reinterpret_cast<uint16_t*>(memory.floats());
  for (int i = 0; i < count; ++i) in[i] = static_cast<uint16_t>(first + i * step);
  float* out = c.array(count, true);
  kernels.run(in, out, count, std::ldexp(1.0f, exponent));
  for (int i = 0; i < count; ++i) {
    const int place = in[i] >> 10 & 31, digits = in[i] & 0x3ff;
    double want = place == 0 ? std::ldexp(digits, -24) : std::ldexp(1024 + digits, place - 25);
    if (place == 31) want = digits == 0 ? HUGE_VAL : std::nan("");
    want = std::ldexp(in[i] >> 15 ? -want : want, exponent);
    if (std::isnan(want) ? !std::isnan(out[i]) : double{out[i]} != want) return false;
  }
  return true;
}

class Checks {
 public:
  explicit Checks(uint64_t seed) : seed_(seed) {}

  template <class Check>
  void operator()(const std::string& name, const Check& check) {
    int wrong = 0;
    for (int i = 0; i < kCases; ++i) {
      Case c(seed_ + i);
      if (check(c)) continue;
      ++wrong;
      std::printf("WRONG: %s, kernel_check %llu\n", name.c_str(),
                  static_cast<unsigned long long>(seed_ + i));
    }
    if (!wrong) std::printf("%s\n", name.c_str());
    ++kernels_;
    wrong_ += wrong;
  }

  int finish() const {
    std::printf("seed %llu: %d kernels, %d wrong\n", static_cast<unsigned long long>(seed_),
                kernels_, wrong_);
    return wrong_ > 0;
  }

 private:
  uint64_t seed_;
  int kernels_ = 0, wrong_ = 0;
};

template <class Tile>
void for_tiles(const TileSizes& sizes, const Tile& tile) {
  for (int vectors = 1; vectors <= sizes.max_vectors; ++vectors)
    for (int rows = 1; rows <= sizes.max_rows[vectors - 1]; ++rows) tile(vectors, rows);
}

void check(Checks& checks, Isa isa) {
  const Kernels& k = kernels_for(isa);
  const auto named = [&](const char* family, int vectors, int rows) {
    return std::string(k.isa) + " " + family + " " + std::to_string(rows) + "x" +
           std::to_string(vectors);
  };
  const auto products = [&](const char* family, const GemmKernels& kernels, bool half,
                            bool gather) {
    for_tiles(kernels.sizes, [&](int vectors, int rows) {
      checks(named(family, vectors, rows),
             [&](Case& c) { return gemm_tile(c, kernels, k.width, vectors, rows, half, gather); });
    });
  };
  products("gemm", k.gemm_f32, false, false);
  products("half_gemm", k.half_gemm_f32, true, false);
  products("gather_gemm", k.gather_gemm_f32, false, true);
  for_tiles(k.tap_product_f32.sizes, [&](int vectors, int rows) {
    checks(named("tap_product", vectors, rows),
           [&](Case& c) { return tap_tile(c, k.tap_product_f32, k.width, vectors, rows); });
  });
  for_tiles(k.winograd_product_f32.sizes, [&](int vectors, int rows) {
    checks(named("winograd_product", vectors, rows), [&](Case& c) {
      return winograd_tile(c, k.winograd_product_f32, k.width, vectors, rows);
    });
  });
  checks(std::string(k.isa) + " widen", [&](Case& c) { return widened(c, k.widen_f32, k.width); });
  for (int rows = 1; rows <= kDepthwiseRows; ++rows)
    checks(named("depthwise", 1, rows),
           [&](Case& c) { return depthwise_tile(c, k.depthwise_f32, k.width, rows); });
  for_tiles(k.grouped_f32.sizes, [&](int log, int rows) {
    checks(named("grouped", 1 << log, rows),
           [&](Case& c) { return grouped_tile(c, k.grouped_f32, k.width, log, rows); });
  });
  const auto depthwise = [&](const DepthwiseBlocks& blocks, const Window& w) {
    for (int rows = 1; rows <= blocks.rows; ++rows)
      checks(named("depthwise_block", 1, rows) + " of " + std::to_string(w.kernel_h) + "x" +
                 std::to_string(w.kernel_w) + " stride " + std::to_string(w.stride_h) + "x" +
                 std::to_string(w.stride_w),
             [&](Case& c) { return depthwise_block(c, blocks, k.width, w, rows); });
  };
  for (int kernel : {3, 5})
    for (int stride : {1, 2})
      depthwise(k.depthwise_block_f32.at(kernel, stride), {kernel, kernel, stride, stride});
  for (const Window& w : {Window{7, 7, 1, 1},
                          {7, 7, 2, 2},
                          {1, 11, 1, 1},
                          {4, 1, 2, 1},
                          {2, 3, 1, 2},
                          {1, 1, 2, 2},
                          {13, 9, 1, 1}})
    depthwise(k.depthwise_block_f32.any, w);
}

void check_bytes(Checks& checks, Isa isa) {
  const Kernels& k = kernels_for(isa);
  const std::string name = std::string(k.isa) + (*feature_of(isa) ? "-" : "") + feature_of(isa);
  for_tiles(k.product_u8.sizes, [&](int vectors, int rows) {
    const std::string tile = std::to_string(rows) + "x" + std::to_string(vectors);
    checks(name + " product_u8 " + tile,
           [&](Case& c) { return product_u8_tile(c, k.product_u8, isa, vectors, rows); });
  });
  if (k.words_u8.widen_rows != nullptr)
    for_tiles(k.words_u8.sizes, [&](int vectors, int rows) {
      const std::string tile = std::to_string(rows) + "x" + std::to_string(vectors);
      checks(name + " words_u8 " + tile,
             [&](Case& c) { return words_u8_tile(c, k.words_u8, vectors, rows); });
    });
  const int width = k.product_u8.sizes.width;
  checks(name + " depthwise_u8", [&](Case& c) { return depthwise_u8(c, k.maps_u8, isa, width); });
  for (const auto& [lines, quads] : {std::pair{3, 1}, {5, 2}, {2, 1}, {7, 2}, {1, 3}})
    checks(name + " depthwise_columns_u8 " + std::to_string(lines) + "x" + std::to_string(quads),
           [&, lines = lines, quads = quads](Case& c) {
             return depthwise_columns_u8(c, k.maps_u8, width, lines, quads);
           });
  checks(name + " maps_u8", [&](Case& c) { return maps_u8(c, k.maps_u8); });
}

// Where this processor computes in float16.
void check_halves(Checks& checks, Isa isa) {
  const Kernels& k = kernels_for(isa);
  const std::string name = k.isa;
  if (k.halves_f16.tile[0][0] == nullptr) return;
  for_tiles(k.halves_f16.sizes, [&](int vectors, int rows) {
    checks(name + " product_f16 " + std::to_string(rows) + "x" + std::to_string(vectors),
           [&](Case& c) { return product_f16_tile(c, k.halves_f16, vectors, rows); });
  });
  for (int rows = 1; rows <= kDepthwiseF16Rows; ++rows)
    checks(name + " depthwise_f16 " + std::to_string(rows),
           [&](Case& c) { return depthwise_f16_tile(c, k.channels_f16, rows); });
  checks(name + " convert_f16", [&](Case& c) { return converted_f16(c, k.convert_f16); });
  checks(name + " maps_f16", [&](Case& c) { return maps_f16(c, k.elementwise_f16, k.pool_f16); });
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device()();
  Checks checks(seed);
  for (Isa isa : available_isas()) {
    check(checks, isa);
    check_bytes(checks, isa);
    check_halves(checks, isa);
    if (*feature_of(isa) == 0) continue;
    setenv("ACTIVSPARSE_FEATURES", "none", 1);
    check_bytes(checks, isa);
    unsetenv("ACTIVSPARSE_FEATURES");
  }
  return checks.finish();
}
