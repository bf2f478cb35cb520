// Checks of kernels on float16: sums of products as the kernels define them, number by number, and
// far within what double precision allows.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "common/half.h"
#include "kernel_case.h"

namespace activsparse {

// Rounded to float16, once.
inline double to_half(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int exponent = std::max(std::ilogb(value), kHalfLeast);
  const double unit = std::ldexp(1.0, exponent - kHalfMantissaBits);
  return std::nearbyint(value / unit) * unit;
}

// A sum by its definition (kernels/halves.h): products added in float16, so many at most, those
// sums in float32. `exact` and `magnitude` are what it stands for.
class HalfSum {
 public:
  explicit HalfSum(float start = 0) : wide_(start) { note(start); }
  void add(Half a, Half b) {
    if (terms_ == kMostHalfTerms) flush();
    const double product = double{float_of(a)} * float_of(b);
    sum_ = to_half(sum_ + product);
    largest_ = std::max(largest_, std::abs(sum_));
    note(product);
    ++terms_, ++all_;
  }
  // Beside what is added behind the products.
  bool accepts(Half got, const Half* residual, const Epilogue& epilogue) {
    flush();
    if (residual != nullptr) {
      wide_ += float_of(*residual);
      note(float_of(*residual));
    }
    const double value = float_of(got), unit = 1.0 / 2048;
    // Portable kernels round twice where a sum lies half way: a unit of the largest sum.
    const double here = 2.01 * unit * largest_ + unit * std::abs(clipped(wide_, epilogue));
    const double terms = std::min(all_, kMostHalfTerms);
    const double bound = unit * (1.01 * terms * magnitude_ + std::abs(clipped(exact_, epilogue))) +
                         (all_ + 2) * 0x1p-25;
    return std::abs(value - clipped(wide_, epilogue)) <= here + 0x1p-24 &&
           std::abs(value - clipped(exact_, epilogue)) <= bound;
  }

 private:
  void note(double value) {
    exact_ += value;
    magnitude_ += std::abs(value);
  }
  void flush() {
    wide_ += static_cast<float>(sum_);
    sum_ = 0, terms_ = 0;
  }
  static double clipped(double value, const Epilogue& epilogue) {
    if (epilogue.activation != Activation::kClip) return value;
    return std::min(std::max(value, double{epilogue.lo}), double{epilogue.hi});
  }

  float wide_;
  double sum_ = 0, exact_ = 0, magnitude_ = 0, largest_ = 0;
  int terms_ = 0, all_ = 0;
};

inline Half* halves(Case& c, int64_t count, bool aligned = false) {
  Half* data = c.whole<Half>(count, 0, 0, aligned ? 16 : sizeof(Half));
  for (int64_t i = 0; i < count; ++i) data[i] = half_of(c.value());
  return data;
}

inline std::vector<Half*> half_arrays(Case& c, int count, int64_t size) {
  std::vector<Half*> all(count);
  for (Half*& one : all) one = halves(c, size);
  return all;
}

inline std::vector<std::vector<Half>> half_copies(const std::vector<Half*>& rows, int64_t size) {
  std::vector<std::vector<Half>> all;
  for (const Half* row : rows) all.emplace_back(row, row + size);
  return all;
}

// Activations that are curves go another way than clips.
inline Epilogue half_epilogue(Case& c) {
  if (c.number(0, 3) == 0) return {Activation::kLeakyRelu, 1.0f, 0.0f};  // the identity
  return c.epilogue();
}

inline bool product_f16_tile(Case& c, const ProductF16Kernels& kernels, int vectors, int rows) {
  const int width = kernels.sizes.width, packed = vectors * width;
  const int taps = c.number(0, 4), channels = c.number(1, 150);
  const int lanes = c.chance() ? width : c.number(1, width), stored = c.number(lanes, width);
  const int results = packed - width + lanes, room = packed - width + stored;
  const auto x = half_arrays(c, taps * rows, channels);
  const std::vector<const Half*> in(x.begin(), x.end());
  std::vector<const Half*> weights(taps);
  for (const Half*& one : weights) one = halves(c, int64_t{channels} * packed, true);
  const float* start = c.array(packed);
  const auto out = half_arrays(c, rows, room), residual = half_arrays(c, rows, results);
  const std::vector<const Half*> read(residual.begin(), residual.end());
  const bool adds = c.chance();
  const Epilogue epilogue = half_epilogue(c);
  kernels.tile[vectors - 1][rows - 1]({in.data(), weights.data(), taps, channels, start, out.data(),
                                       adds ? read.data() : nullptr, &epilogue, lanes, stored});
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < results; ++o) {
      HalfSum sum(start[o]);
      for (int t = 0; t < taps; ++t)
        for (int k = 0; k < channels; ++k)
          sum.add(in[t * rows + r][k], weights[t][int64_t{k} * packed + o]);
      if (!sum.accepts(out[r][o], adds ? &residual[r][o] : nullptr, epilogue)) return false;
    }
  return true;
}

inline bool depthwise_f16_tile(Case& c, const DepthwiseF16Kernels& kernels, int rows) {
  const int width = kernels.sizes.width;
  const int taps = c.number(0, kMostHalfTerms), channels = c.number(1, 9 * width);
  const int packed = (channels + width - 1) / width * width;
  const int whole = c.number(0, 1), room = whole ? packed : channels;
  const auto x = half_arrays(c, taps * rows, room);
  const std::vector<const Half*> in(x.begin(), x.end());
  std::vector<const Half*> weights(taps);
  for (const Half*& one : weights) one = halves(c, packed, true);
  const float* start = c.array(packed);
  const auto out = half_arrays(c, rows, room), residual = half_arrays(c, rows, room);
  const std::vector<const Half*> read(residual.begin(), residual.end());
  const bool adds = c.chance();
  const Epilogue epilogue = half_epilogue(c);
  kernels.tile[rows - 1]({in.data(), weights.data(), taps, channels, start, out.data(),
                          adds ? read.data() : nullptr, &epilogue, whole});
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < channels; ++o) {
      HalfSum sum(start[o]);
      for (int t = 0; t < taps; ++t) sum.add(in[t * rows + r][o], weights[t][o]);
      if (!sum.accepts(out[r][o], adds ? &residual[r][o] : nullptr, epilogue)) return false;
    }
  return true;
}

// Numbers around those that float16 has, and all it has back.
inline bool converted_f16(Case& c, const ConvertF16Kernels& kernels) {
  const int count = c.number(1, 300), first = c.number(0, 0xffff), step = 2 * c.number(0, 1000) + 1;
  float* in = c.array(count);
  for (int i = 0; i < count; ++i) {
    const float near = float_of(static_cast<Half>(first + i * step));
    in[i] = near + near * std::ldexp(in[i], -11) + 0x1p-26f * in[i];
  }
  Half* out = halves(c, count);
  kernels.narrow(in, out, count);
  for (int i = 0; i < count; ++i)
    if (std::isnan(in[i]) ? !std::isnan(float_of(out[i])) : out[i] != half_of(in[i])) return false;
  for (int i = 0; i < count; ++i) out[i] = static_cast<Half>(first + i * step);
  kernels.widen(out, in, count);
  for (int i = 0; i < count; ++i) {
    const float want = float_of(out[i]);
    if (std::isnan(want) ? !std::isnan(in[i]) : in[i] != want) return false;
  }
  return true;
}

// Sums, products, maxima and means of rows, rounded once.
inline bool maps_f16(Case& c, const ElementwiseKernelsOf<Half>& maps,
                     const PoolKernelsOf<Half>& pools) {
  const int count = c.number(1, 90), rows = c.number(1, 4);
  const Half *a = halves(c, int64_t{rows} * count), *b = halves(c, int64_t{rows} * count);
  Half* out = halves(c, int64_t{rows} * count);
  const Epilogue epilogue = c.epilogue();
  RowsArgsOf<Half> args{};
  args.a = a, args.b = b, args.out = out, args.rows = rows, args.count = count;
  args.a_stride = args.b_stride = args.out_stride = count;
  args.epilogue = &epilogue;
  const auto right = [&](Half got, float want) {
    if (epilogue.activation == Activation::kClip)
      want = std::min(std::max(want, epilogue.lo), epilogue.hi);
    return float_of(got) == float_of(half_of(want));
  };
  for (const bool scalar : {false, true})
    for (const bool adds : {false, true}) {
      (scalar ? (adds ? maps.add_scalar : maps.multiply_scalar)
              : (adds ? maps.add : maps.multiply))(args);
      for (int i = 0; i < rows * count; ++i) {
        const float x = float_of(a[i]), y = float_of(b[scalar ? i / count * count : i]);
        if (!right(out[i], adds ? x + y : x * y)) return false;
      }
    }
  PoolArgsOf<Half> pool{};
  pool.in = a, pool.out = out, pool.outputs = 1, pool.window_h = rows, pool.window_w = 1;
  pool.row_stride = count, pool.col_stride = 1, pool.count = count, pool.scale = 0.25f;
  pool.epilogue = &epilogue;
  for (const bool largest : {false, true}) {
    (largest ? pools.max : pools.average)(pool);
    for (int i = 0; i < count; ++i) {
      float sum = 0, most = -INFINITY;
      for (int r = 0; r < rows; ++r) {
        sum += float_of(a[r * count + i]);
        most = std::max(most, float_of(a[r * count + i]));
      }
      if (!right(out[i], largest ? most : sum * pool.scale)) return false;
    }
  }
  return true;
}

}  // namespace activsparse
