// Kernels on bytes against exact sums, for kernel_check.cpp. Scales are powers of two and what is
// added to sums whole multiples of them: float32 is exact then, and results have to be equal.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernel_case.h"
#include "operators/safe_pairs.h"
#include "operators/safe_steps.h"

namespace activsparse {

// How a sum becomes a byte or a number, by the definition.
struct ExactFinish {
  FinishU8 f{};

  ExactFinish(Case& c, bool to_float, bool may_rescale) {
    f.zero = c.number(0, 255);
    f.to_float = to_float;
    if (to_float) {
      f.lo = c.chance() ? 0.0f : -__builtin_inff(), f.hi = c.chance() ? 6.0f : __builtin_inff();
      return;
    }
    const auto bounds = [&](float* lo, float* hi) {
      *lo = static_cast<float>(-c.number(0, f.zero));
      *hi = static_cast<float>(c.number(0, 255 - f.zero));
    };
    bounds(&f.lo, &f.hi), bounds(&f.residual_lo, &f.residual_hi);
    f.kept = 0.5f, f.residual_scale = 0.25f,
    f.shift = -0.25f * static_cast<float>(c.number(0, 255));
    f.rescaled = may_rescale && c.chance();
  }

  static double clip(double v, float lo, float hi) {
    return std::min(std::max(v, double{lo}), double{hi});
  }
  // Sums that have more bits than a float32 number are rounded to one.
  double scaled(int64_t sum, float scale, float shift) const {
    return clip(double{static_cast<float>(sum)} * scale + shift, f.lo, f.hi);
  }
  int byte(int64_t sum, float scale, float shift, const uint8_t* residual) const {
    double v = std::nearbyint(scaled(sum, scale, shift));
    if (residual != nullptr || f.rescaled) {
      v *= f.kept;
      if (residual != nullptr) v += *residual * f.residual_scale + f.shift;
      v = std::nearbyint(clip(v, f.residual_lo, f.residual_hi));
    }
    return static_cast<int>(v) + f.zero;
  }
};

// Scales that spread sums of `depth` products over more than the range of a byte.
inline float* byte_scales(Case& c, int count, int depth) {
  float* scale = c.array(count);
  const int exponent = std::min(14, static_cast<int>(std::log2(depth * 70.0)) - 1);
  for (int i = 0; i < count; ++i)
    scale[i] = std::ldexp(c.chance() ? 1.0f : -1.0f, c.number(0, 2) - exponent);
  return scale;
}

inline float* byte_shifts(Case& c, int count) {
  float* shift = c.array(count);
  for (int i = 0; i < count; ++i) shift[i] = 0.25f * static_cast<float>(c.number(-2, 2));
  return shift;
}

// Bytes of activations or weights: any of them, or extremes alone, which saturate what can be.
template <class T>
T* bytes_of(Case& c, int64_t count, bool extreme) {
  constexpr int kLeast = std::is_signed_v<T> ? -128 : 0, kMost = kLeast + 255;
  T* data = c.whole<T>(count, kLeast, kMost);
  for (int64_t i = 0; extreme && i < count; ++i)
    data[i] = static_cast<T>(c.number(0, 3) == 0 ? kMost : kLeast);
  return data;
}

// Quads of weights as depthwise operators pack them: without what a processor's sums of two do not
// hold.
inline int8_t* weights_for(Case& c, Isa isa, int64_t quads, bool extreme) {
  int8_t* weights = bytes_of<int8_t>(c, 4 * quads, extreme);
  int8_t apart[4];
  for (int64_t q = 0; needs_safe_pairs(isa) && q < quads; ++q) make_safe(weights + 4 * q, apart);
  return weights;
}

// What tiles make of their sums: any of the ways, into rows that end where they have to.
struct TileOutputs {
  bool to_float, adds;
  ExactFinish finish;
  FinishU8 f;
  int columns;
  const float *scale, *shift;
  std::vector<uint8_t*> out;
  std::vector<const uint8_t*> residual;

  TileOutputs(Case& c, int rows, int packed, int column_count, int depth)
      : to_float(c.number(0, 2) == 0),
        adds(c.chance() && !to_float),
        finish(c, to_float, !adds),
        f(finish.f),
        columns(column_count),
        scale(byte_scales(c, packed, depth)),
        shift(byte_shifts(c, packed)),
        out(rows),
        residual(rows) {
    f.bounded = !to_float && c.chance();
    for (int r = 0; r < rows; ++r) {
      out[r] = to_float ? reinterpret_cast<uint8_t*>(c.array(columns))
                        : c.whole<uint8_t>(columns, 0, 255);
      residual[r] = c.whole<uint8_t>(columns, 0, 255);
    }
  }
  void set(SumsU8Args& args, const int32_t* start, int lanes) const {
    args.start = start, args.scale = scale, args.shift = shift;
    args.out = out.data(), args.residual = adds ? residual.data() : nullptr;
    args.finish = &f, args.lanes = lanes;
  }
  template <class Sum>
  bool are(const Sum& sum_of) const {
    for (std::size_t r = 0; r < out.size(); ++r)
      for (int o = 0; o < columns; ++o) {
        const int64_t sum = sum_of(static_cast<int>(r), o);
        const bool right = to_float ? reinterpret_cast<const float*>(out[r])[o] ==
                                          static_cast<float>(finish.scaled(sum, scale[o], shift[o]))
                                    : out[r][o] == finish.byte(sum, scale[o], shift[o],
                                                               adds ? residual[r] + o : nullptr);
        if (!right) return false;
      }
    return true;
  }
};

inline bool product_u8_tile(Case& c, const ProductU8Kernels& kernels, Isa isa, int vectors,
                            int rows) {
  const int width = kernels.sizes.width, packed = vectors * width;
  const int taps = c.number(1, 3), quads = c.number(1, 20), lanes = c.number(1, width);
  const int columns = packed - width + lanes;
  const bool safe = needs_safe_pairs(isa), extreme = c.chance();
  std::vector<const uint8_t*> in(taps * rows);
  for (const uint8_t*& row : in) row = bytes_of<uint8_t>(c, 4 * quads, extreme);
  std::vector<const int8_t*> whole(taps);  // (quads, packed, 4)
  std::vector<SafeSteps> made(taps);
  std::vector<const StepCounts*> counts(taps);
  std::vector<const int8_t*> weights(taps);
  std::vector<const int32_t*> places(taps);
  // Small weights may be added in 16 bits, large ones are taken apart.
  const int small = c.number(0, 2);
  for (int t = 0; t < taps; ++t) {
    const int64_t count = int64_t{4} * quads * packed;
    int8_t* all = bytes_of<int8_t>(c, count, extreme);
    for (int64_t i = 0; i < count; ++i) all[i] /= static_cast<int8_t>(small == 0 ? 1 : 2 * small);
    whole[t] = weights[t] = all;
    if (!safe) continue;
    std::vector<int8_t> left(all, all + count);
    made[t] = safe_steps(left.data(), quads, vectors, width);
    counts[t] = &made[t].counts, places[t] = made[t].offsets.data();
    int8_t* copied = c.whole<int8_t>(static_cast<int64_t>(made[t].weights.size()), 0, 0);
    std::memcpy(copied, made[t].weights.data(), made[t].weights.size());
    weights[t] = copied;
  }
  int32_t* bias = c.whole<int32_t>(packed, -5000, 5000);
  int32_t* start = c.whole<int32_t>(packed, 0, 0);
  for (int o = 0; o < packed; ++o) {
    start[o] = bias[o];
    for (int t = 0; t < taps; ++t)
      for (int s = 0; s < quads; ++s)
        for (int i = 0; i < 4; ++i)
          start[o] += kernels.lowered[s % 2] * whole[t][(s * packed + o) * 4 + i];
  }
  const TileOutputs results(c, rows, packed, columns, 4 * quads * taps);
  ProductU8Args args{};
  args.rows = in.data(), args.row_step = rows, args.weights = weights.data();
  args.offsets = places.data(), args.steps = counts.data();
  args.taps = taps, args.quads = quads;
  results.set(args, start, lanes);
  kernels.tile[vectors - 1][rows - 1](args);
  return results.are([&](int r, int o) {
    int64_t sum = bias[o];
    for (int t = 0; t < taps; ++t)
      for (int i = 0; i < 4 * quads; ++i)
        sum += in[t * rows + r][i] * whole[t][(i / 4 * packed + o) * 4 + i % 4];
    return sum;
  });
}

// Tiles of 16-bit numbers, with what makes these of bytes.
inline bool words_u8_tile(Case& c, const WordsU8Kernels& kernels, int vectors, int tile_rows) {
  const int width = kernels.sizes.width, packed = vectors * width;
  const int taps = c.number(1, 3), quads = c.number(1, 20);
  const int lanes = c.chance() ? width : c.number(1, width), columns = packed - width + lanes;
  const int more = c.number(0, 3), rows = (1 + more) * tile_rows;
  const bool extreme = c.chance();
  std::vector<const uint8_t*> in(taps * rows);
  for (const uint8_t*& row : in) row = bytes_of<uint8_t>(c, 4 * quads, extreme);
  const int64_t words = int64_t{4} * quads * taps + 2 * c.number(0, 3);
  uint16_t* wide = c.whole<uint16_t>(words * rows, 0, 0);
  kernels.widen_rows(in.data(), rows, rows, taps, quads, wide, words);
  const int64_t tap = int64_t{4} * quads * packed;
  const int8_t* weights = bytes_of<int8_t>(c, tap * taps, extreme);  // (taps, quads, packed, 4)
  int16_t* wide_weights = c.whole<int16_t>(tap * taps, 0, 0);
  for (int t = 0; t < taps; ++t)
    kernels.widen_weights(weights + t * tap, quads, vectors, wide_weights + t * tap);
  const int32_t* start = c.whole<int32_t>(packed, -5000, 5000);
  const TileOutputs results(c, rows, packed, columns, 4 * quads * taps);
  WordsU8Args args{};
  args.rows = wide, args.row_words = words, args.weights = wide_weights;
  args.quads = taps * quads, args.more = more;
  results.set(args, start, lanes);
  kernels.tile[vectors - 1][tile_rows - 1](args);
  return results.are([&](int r, int o) {
    int64_t sum = start[o];
    for (int t = 0; t < taps; ++t)
      for (int i = 0; i < 4 * quads; ++i)
        sum += in[t * rows + r][i] * weights[t * tap + (i / 4 * packed + o) * 4 + i % 4];
    return sum;
  });
}

// What lies where in a block of four vectors: see DepthwiseU8Args.
inline int element_of(int channel, int width) {
  const int block = channel / (4 * width), in_block = channel % (4 * width);
  return block * 4 * width + in_block % 16 / 4 * width + in_block / 16 * 4 + in_block % 4;
}

// Arrays of all lanes of a depthwise convolution, and what its kernels start from.
struct DepthwiseLanes {
  int channels, lanes;  // whole groups of 16, whole blocks
  const int32_t* bias;
  int32_t* start;
  const float *scale, *shift;

  DepthwiseLanes(Case& c, int width, int depth) {
    channels = 16 * c.number(1, 12);
    lanes = (channels + 4 * width - 1) / (4 * width) * 4 * width;
    bias = c.whole<int32_t>(lanes, -5000, 5000);
    start = c.whole<int32_t>(lanes, 0, 0);
    scale = byte_scales(c, lanes, depth), shift = byte_shifts(c, lanes);
  }
  void start_from(int lane, int32_t weights, int32_t lowered) {
    start[lane] = bias[lane] + lowered * weights;
  }
};

inline bool depthwise_u8(Case& c, const BytesKernels& kernels, Isa isa, int width) {
  const int slots = 4 * c.number(1, 7);
  const bool extreme = c.chance();
  DepthwiseLanes d(c, width, slots);
  const ExactFinish finish(c, false, true);
  std::vector<const uint8_t*> rows(slots);
  for (const uint8_t*& row : rows) row = bytes_of<uint8_t>(c, d.channels, extreme);
  const int8_t* weights = weights_for(c, isa, int64_t{d.lanes} * slots / 4, extreme);
  const auto weight = [&](int lane, int slot) {
    const int block = lane / (4 * width), element = lane % (4 * width);
    return weights[((block * slots / 4 + slot / 4) * 4 * width + element) * 4 + slot % 4];
  };
  for (int lane = 0; lane < d.lanes; ++lane) {
    int32_t sum = 0;
    for (int s = 0; s < slots; ++s) sum += weight(lane, s);
    d.start_from(lane, sum, kernels.lowered);
  }
  uint8_t* out = c.whole<uint8_t>(d.channels, 0, 255);
  kernels.depthwise({rows.data(), weights, slots, d.channels - c.number(0, 15), d.start, d.scale,
                     d.shift, out, &finish.f});
  for (int channel = 0; channel < d.channels; ++channel) {
    const int lane = element_of(channel, width);
    int64_t sum = d.bias[lane];
    for (int s = 0; s < slots; ++s) sum += rows[s][channel] * weight(lane, s);
    if (out[channel] != finish.byte(sum, d.scale[lane], d.shift[lane], nullptr)) return false;
  }
  return true;
}

inline bool depthwise_columns_u8(Case& c, const BytesKernels& kernels, int width, int lines,
                                 int quads) {
  const int outputs = c.number(1, 9), kinds = c.number(1, 2), step = c.number(1, 4);
  const bool extreme = c.chance();
  DepthwiseLanes d(c, width, 4 * lines * quads);
  const ExactFinish finish(c, false, true);
  const int blocks = d.lanes / (4 * width), line_quads = outputs + quads - 1;
  const int columns = (line_quads - 1) * step + 4;
  std::vector<const uint8_t*> pixels(lines * columns), line_at(lines);
  for (const uint8_t*& pixel : pixels) pixel = bytes_of<uint8_t>(c, d.channels, extreme);
  const int64_t quad_bytes = int64_t{blocks} * kernels.taps_bytes;
  for (int line = 0; line < lines; ++line) {
    uint8_t* at = c.whole<uint8_t>(line_quads * quad_bytes, 0, 0);
    kernels.interleave({pixels.data() + line * columns, line_quads, step, d.channels, at});
    line_at[line] = at;
  }
  // (blocks, kinds, lines, quads, 4 * width, 4), every kind of the same sums
  const int64_t kind_quads = int64_t{lines} * quads * 4 * width;
  int8_t* weights = bytes_of<int8_t>(c, 4 * kind_quads * kinds * blocks, extreme);
  for (int64_t i = 0; i < blocks; ++i)
    for (int kind = 1; kind < kinds; ++kind) {
      int8_t* first = weights + i * kinds * 4 * kind_quads;
      for (int64_t k = 0; k < kind_quads; ++k)
        for (int t = 0; t < 4; ++t)
          first[(kind * kind_quads + k) * 4 + t] = first[k * 4 + (t + kind) % 4];
    }
  const auto weight = [&](int lane, int kind, int step_number, int tap) {
    const int64_t block = lane / (4 * width), element = lane % (4 * width);
    return weights[(((block * kinds + kind) * lines * quads + step_number) * 4 * width + element) *
                       4 +
                   tap];
  };
  for (int lane = 0; lane < d.lanes; ++lane) {
    int32_t sum = 0;
    for (int s = 0; s < lines * quads; ++s)
      for (int t = 0; t < 4; ++t) sum += weight(lane, 0, s, t);
    d.start_from(lane, sum, kernels.lowered);
  }
  const int64_t count = 4 * kind_quads * kinds * blocks;
  const uint8_t* packed = reinterpret_cast<const uint8_t*>(weights);
  if (kernels.taps_bytes == 32 * width) {
    int16_t* words = c.whole<int16_t>(count, 0, 0);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t vector = i / (4 * width) * 4 * width, at = i % (4 * width);
      words[vector + (at % 2 == 0 ? at / 2 : 2 * width + at / 2)] = weights[i];
    }
    packed = reinterpret_cast<const uint8_t*>(words);
  }
  std::vector<int32_t> quad_at(outputs), weight_at(outputs), column(outputs);
  const int kind_bytes = lines * quads * kernels.taps_bytes;
  for (int i = 0; i < outputs; ++i) {
    quad_at[i] = static_cast<int32_t>(i * quad_bytes), column[i] = outputs - 1 - i;
    weight_at[i] = i % kinds * kind_bytes;
  }
  uint8_t* out = c.whole<uint8_t>(int64_t{outputs} * d.channels, 0, 255);
  kernels.depthwise_columns({line_at.data(), lines, quads, quad_bytes, quad_at.data(),
                             weight_at.data(), column.data(), outputs, packed,
                             int64_t{kinds} * kind_bytes, d.start, d.scale, d.shift, out,
                             d.channels, d.channels, &finish.f});
  for (int i = 0; i < outputs; ++i)
    for (int channel = 0; channel < d.channels; ++channel) {
      const int lane = element_of(channel, width);
      int64_t sum = d.bias[lane];
      for (int s = 0; s < lines * quads; ++s)
        for (int t = 0; t < 4; ++t)
          sum += pixels[s / quads * columns + (i + s % quads) * step + t][channel] *
                 weight(lane, i % kinds, s, t);
      const int want = finish.byte(sum, d.scale[lane], d.shift[lane], nullptr);
      if (out[(outputs - 1 - i) * d.channels + channel] != want) return false;
    }
  return true;
}

inline bool maps_u8(Case& c, const BytesKernels& kernels) {
  const int count = c.number(1, 200);
  MapU8Args args{};
  const uint8_t *a = bytes_of<uint8_t>(c, count, false), *b = bytes_of<uint8_t>(c, count, false);
  float *numbers = c.array(count), *floats = c.array(count);
  for (int i = 0; i < count; ++i) numbers[i] *= c.chance() ? 500.0f : 1e20f;
  uint8_t* out = c.whole<uint8_t>(count, 0, 255);
  args.a = a, args.b = b, args.out = out, args.count = count;
  args.a_scale = 0.5f, args.b_scale = 0.25f, args.shift = 0.125f;
  args.a_zero = c.number(0, 255), args.b_zero = c.number(0, 255), args.zero = c.number(0, 255);
  args.lo = static_cast<float>(-c.number(0, args.zero));
  args.hi = static_cast<float>(c.number(0, 255 - args.zero));
  const auto are = [&](const auto& want) {
    for (int i = 0; i < count; ++i) {
      const double v = std::nearbyint(ExactFinish::clip(want(i), args.lo, args.hi));
      if (out[i] != static_cast<int>(v) + args.zero) return false;
    }
    return true;
  };
  kernels.add(args);
  if (!are([&](int i) { return a[i] * 0.5 + b[i] * 0.25 + 0.125; })) return false;
  kernels.multiply(args);
  if (!are([&](int i) { return (a[i] - args.a_zero) * (b[i] - args.b_zero) * 0.5; })) return false;
  kernels.maximum(args);
  for (int i = 0; i < count; ++i)
    if (out[i] != std::max(a[i], b[i])) return false;
  const uint8_t* table = bytes_of<uint8_t>(c, 256, false);
  const uint8_t* rows[] = {b, a};
  uint8_t* results[] = {c.whole<uint8_t>(count, 0, 255), out};
  kernels.lookup({table, rows, results, 2, count});
  for (int i = 0; i < count; ++i)
    if (results[0][i] != table[b[i]] || out[i] != table[a[i]]) return false;
  args.a = numbers;
  kernels.quantise(args);
  if (!are([&](int i) { return double{numbers[i]} * 0.5; })) return false;
  args.a = a, args.out = floats;
  kernels.dequantise(args);
  for (int i = 0; i < count; ++i)
    if (floats[i] != static_cast<float>(a[i] - args.a_zero) * 0.5f) return false;
  int32_t* sums = c.whole<int32_t>(count, -1000, 1000);
  const std::vector<int32_t> before(sums, sums + count);
  kernels.accumulate(a, sums, count);
  for (int i = 0; i < count; ++i)
    if (sums[i] != before[i] + a[i]) return false;
  return true;
}

}  // namespace activsparse
