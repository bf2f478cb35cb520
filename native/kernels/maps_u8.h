// Bytes one by one, and depthwise products; see bytes.h for the maths.
#pragma once
#include "kernels/bytes.h"
#include "kernels/depthwise_u8.h"
#include "kernels/kernels.h"
#include "kernels/product_u8.h"

namespace activsparse {

// Calls body(first element, lanes) for whole vectors and the rest.
template <int W, class Body>
__attribute__((always_inline)) inline void by_vectors(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + W <= count; i += W) body(i, W);
  if (i < count) body(i, static_cast<int>(count - i));
}

template <class V>
__attribute__((always_inline)) inline V clipped(V v, const MapU8Args& a) {
  return min(max(v, V::set1(a.lo)), V::set1(a.hi));
}

template <class D>
void quantise_run(const MapU8Args& a) {
  using V = typename D::Float;
  const auto* in = static_cast<const float*>(a.a);
  auto* out = static_cast<uint8_t*>(a.out);
  by_vectors<D::kWidth>(a.count, [&](int64_t i, int lanes) {
    const V x = V::load_partial(in + i, lanes) * V::set1(a.a_scale);
    D::store_u8(out + i, clipped(x, a), a.zero, lanes);
  });
}

template <class D>
void dequantise_run(const MapU8Args& a) {
  using V = typename D::Float;
  const auto* in = static_cast<const uint8_t*>(a.a);
  auto* out = static_cast<float*>(a.out);
  const V zero = V::set1(static_cast<float>(a.a_zero)), scale = V::set1(a.a_scale);
  by_vectors<D::kWidth>(a.count, [&](int64_t i, int lanes) {
    ((D::load_u8(in + i, lanes) - zero) * scale).store_partial(out + i, lanes);
  });
}

template <class D>
void add_run(const MapU8Args& args) {
  using V = typename D::Float;
  const auto* a = static_cast<const uint8_t*>(args.a);
  const auto* b = static_cast<const uint8_t*>(args.b);
  auto* out = static_cast<uint8_t*>(args.out);
  const V sa = V::set1(args.a_scale), sb = V::set1(args.b_scale), shift = V::set1(args.shift);
  by_vectors<D::kWidth>(args.count, [&](int64_t i, int lanes) {
    const V sum = D::load_u8(a + i, lanes) * sa + (D::load_u8(b + i, lanes) * sb + shift);
    D::store_u8(out + i, clipped(sum, args), args.zero, lanes);
  });
}

template <class D>
void multiply_run(const MapU8Args& args) {
  using V = typename D::Float;
  const auto* a = static_cast<const uint8_t*>(args.a);
  const auto* b = static_cast<const uint8_t*>(args.b);
  auto* out = static_cast<uint8_t*>(args.out);
  const V za = V::set1(static_cast<float>(args.a_zero));
  const V zb = V::set1(static_cast<float>(args.b_zero)), scale = V::set1(args.a_scale);
  by_vectors<D::kWidth>(args.count, [&](int64_t i, int lanes) {
    const V product = (D::load_u8(a + i, lanes) - za) * (D::load_u8(b + i, lanes) - zb);
    D::store_u8(out + i, clipped(product * scale, args), args.zero, lanes);
  });
}

template <class D>
void maximum_run(const MapU8Args& args) {
  const auto* a = static_cast<const uint8_t*>(args.a);
  const auto* b = static_cast<const uint8_t*>(args.b);
  auto* out = static_cast<uint8_t*>(args.out);
  by_vectors<4 * D::kWidth>(args.count, [&](int64_t i, int bytes) {
    D::store_bytes(out + i, D::max_bytes(D::load_bytes(a + i, bytes), D::load_bytes(b + i, bytes)),
                   bytes);
  });
}

template <class D>
void lookup_run(const LookupU8Args& args) {
  if constexpr (D::kLooksUp) {
    constexpr int kBytes = 4 * D::kWidth;
    const typename D::Table table = D::load_table(args.table);
    for (int row = 0; row < args.rows; ++row) {
      const uint8_t* in = args.in[row];
      uint8_t* out = args.out[row];
      by_vectors<kBytes>(args.count, [&](int64_t i, int bytes) {
        D::store_bytes(out + i, D::look_up(table, D::load_bytes(in + i, bytes)), bytes);
      });
    }
  } else {
    const uint8_t* table = args.table;
    for (int row = 0; row < args.rows; ++row) {
      const uint8_t* in = args.in[row];
      uint8_t* out = args.out[row];
      for (int64_t i = 0; i < args.count; ++i) out[i] = table[in[i]];
    }
  }
}

template <class D>
void accumulate_run(const uint8_t* a, int32_t* sums, int64_t count) {
  constexpr int W = D::kWidth;
  int64_t i = 0;
  for (; i + W <= count; i += W) D::accumulate(sums + i, a + i);
  for (; i < count; ++i) sums[i] += a[i];
}

template <class D>
void depthwise_u8_run(const DepthwiseU8Args& args) {
  constexpr int W = D::kWidth, kBlock = 4 * W;
  const FinishU8& f = *args.finish;
  const int channels = (args.channels + 15) / 16 * 16;
  const int8_t* w = args.weights;
  const int32_t* start = args.start;
  const float *scale = args.scale, *shift = args.shift;
  for (int c = 0; c < channels; c += kBlock, start += kBlock, scale += kBlock, shift += kBlock) {
    typename D::Sum sums[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sums[j] = D::load(start + j * W);
    for (int s = 0; s < args.slots; s += 4, w += 4 * kBlock) {
      typename D::Quads taps[4], quads[4];
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t) taps[t] = D::load_bytes(args.rows[s + t] + c, channels - c);
      D::interleave(D::pairs(taps[0], taps[1]), D::pairs(taps[2], taps[3]), quads);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
        sums[j] = D::dot(sums[j], quads[j], D::load_weights(w + 4 * j * W));
    }
    typename D::Float v[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      v[j] = min(
          fma(D::to_float(sums[j]), D::Float::load(scale + j * W), D::Float::load(shift + j * W)),
          D::Float::set1(f.hi));
    if (f.rescaled)
      for (int j = 0; j < 4; ++j) v[j] = rescaled<D>(v[j], f);
    D::store_interleaved(args.out + c, v, byte_of<D>(f.rescaled ? f.residual_lo : f.lo, f), f.zero,
                         channels - c);
  }
}

template <class D>
constexpr BytesKernels maps_kernels() {
  return {quantise_run<D>, dequantise_run<D>, add_run<D>,        multiply_run<D>,
          maximum_run<D>,  lookup_run<D>,     accumulate_run<D>, depthwise_u8_run<D>,
          taps_bytes<D>(), D::kLowered,       interleave_run<D>, depthwise_columns_run<D>};
}

}  // namespace activsparse
