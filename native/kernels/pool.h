// Maximum, NaN where one is among them, or scaled sum over a window of pixels, for a run of output
// pixels that all see a full window. Channels are the vector: a block of kPoolVectors stays in
// registers while the window passes by.
#pragma once
#include "kernels/finish.h"
#include "kernels/kernels.h"

namespace activsparse {

inline constexpr int kPoolVectors = 4;

template <class V>
struct PoolMax {
  static constexpr bool kSumsRows = false;
  // A maximum forgets NaN on x86. Sums do not, and additions have units of their own on a Zen.
  static constexpr bool kLosesNan = !V::kMaxKeepsNan;
  static V start() { return V::set1(-__builtin_inff()); }
  static V step(V sum, V x) { return max(sum, x); }
  static V end(V sum, float) { return sum; }
};

template <class V>
struct PoolAverage {
  // Each row is summed alone, then the rows: a sum over a whole large map would lose a rounding
  // error for every position.
  static constexpr bool kSumsRows = true;
  static constexpr bool kLosesNan = false;
  static V start() { return V::zero(); }
  static V step(V sum, V x) { return sum + x; }
  static V end(V sum, float scale) { return sum * V::set1(scale); }
};

// `maximum` with the lanes made NaN whose window holds one. (Infinities of both signs have the same
// sum.)
template <class V>
__attribute__((noinline)) V nan_where_seen(const PoolArgsOf<typename V::Element>& args,
                                           const typename V::Element* in, V maximum, int lanes) {
  float values[V::kWidth];
  maximum.store(values);
  for (int y = 0; y < args.window_h; ++y)
    for (int x = 0; x < args.window_w; ++x)
      for (int i = 0; i < lanes; ++i) {
        const float value = in[y * args.row_stride + x * args.col_stride + i];
        if (value != value) values[i] = value;
      }
  return V::load(values);
}

// Channels c..c + vectors * width of one output pixel; `lanes` < width only with one vector.
template <class V, class Pool, int vectors, bool partial, class Finish>
inline void pool_block(const PoolArgsOf<typename V::Element>& args, const typename V::Element* in,
                       typename V::Element* out, int lanes, const Finish& finish) {
  V sums[vectors], rows[vectors];  // rows: those above, if they are summed alone
  V seen = V::zero();
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) sums[v] = rows[v] = Pool::start();
  for (int y = 0; y < args.window_h; ++y) {
    const auto* pixel = in + y * args.row_stride;
    for (int x = 0; x < args.window_w; ++x, pixel += args.col_stride) {
      V pixel_sum;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        V value = partial ? V::load_partial(pixel, lanes) : V::load(pixel + v * V::kWidth);
        if constexpr (Pool::kLosesNan) value = in_register(value);
        sums[v] = Pool::step(sums[v], value);
        pixel_sum = v == 0 ? value : pixel_sum + value;
      }
      if constexpr (Pool::kLosesNan) seen = seen + pixel_sum;
    }
    if constexpr (Pool::kSumsRows) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        rows[v] = Pool::step(rows[v], sums[v]);
        sums[v] = Pool::start();
      }
    }
  }
  if constexpr (Pool::kLosesNan)
    if (__builtin_expect(any_nan(seen), 0))
      for (int v = 0; v < vectors; ++v)
        sums[v] = nan_where_seen(args, in + v * V::kWidth, sums[v], partial ? lanes : V::kWidth);
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const V result = finish(Pool::end(Pool::kSumsRows ? rows[v] : sums[v], args.scale));
    if (partial)
      result.store_partial(out, lanes);
    else
      result.store(out + v * V::kWidth);
  }
}

template <class V, class Pool>
void pool_run(const PoolArgsOf<typename V::Element>& args) {
  constexpr int kBlock = kPoolVectors * V::kWidth;
  with_finish<V>(*args.epilogue, [&](auto finish) {
    for (int64_t p = 0; p < args.outputs; ++p) {
      const auto* in = args.in + p * args.in_step;
      auto* out = args.out + p * args.out_step;
      int64_t c = 0;
      for (; c + kBlock <= args.count; c += kBlock)
        pool_block<V, Pool, kPoolVectors, false>(args, in + c, out + c, V::kWidth, finish);
      for (; c + V::kWidth <= args.count; c += V::kWidth)
        pool_block<V, Pool, 1, false>(args, in + c, out + c, V::kWidth, finish);
      const int rest = static_cast<int>(args.count - c);
      if (rest > 0) pool_block<V, Pool, 1, true>(args, in + c, out + c, rest, finish);
    }
  });
}

template <class V>
constexpr PoolKernelsOf<typename V::Element> pool_kernels() {
  return {pool_run<V, PoolMax<V>>, pool_run<V, PoolAverage<V>>};
}

}  // namespace activsparse
