// The batched matrix products of a Winograd convolution; layouts in winograd.h.
#pragma once
#include <cstdint>

#include "kernels/table.h"
#include "kernels/widen.h"
#include "kernels/winograd.h"

namespace activsparse {

// Where no more groups of tiles than these share a panel, memory has to keep up with the products.
// Larger panels then go by parts of kPartBytes, each used by all groups before the next, while sums
// wait in m: what is fetched is used soon, and memory delivers 40 GB/s where whole panels got 30
// (Zen 5, 8 tiles of 7x7x512). For more groups, sums that come and go would cost more than that.
//
// What is fetched goes to all levels of the cache. To the first alone (prefetchnta) would spare the
// transformed tiles in the second, which a Zen 5 does not thank; on a Sapphire Rapids the third
// level does not keep such lines, every run reads them from memory, and products of 7x7x512 take
// five times as long.
constexpr int64_t kPartBytes = 16 << 10;
constexpr int kMostWaitingGroups = 3;

// m[r] = sum over c of v[r][c] * u[c], for R tiles; `more` adds to m instead.
template <class V, int R, int N>
void winograd_rows(const float* v, int64_t row_stride, int channels, const float* u, float* m,
                   int64_t m_stride, bool more, const WinogradFetch& fetch) {
  constexpr int W = V::kWidth;
  constexpr int64_t kLine = 64 / sizeof(float);
  V sums[R][N];
  if (more) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sums[r][j] = V::load(m + r * m_stride + j * W);
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sums[r][j] = V::zero();
  }
  // Every third row has a pointer, its neighbours are reached from there: more do not fit the
  // registers.
  const float* rows[(R + 2) / 3];
#pragma GCC unroll 16
  for (int r = 0; r < R; r += 3) rows[r / 3] = v + r * row_stride;
  const float* next = fetch.next;
  const int64_t share = fetch.floats, line = channels * kLine;
  for (int64_t c = 0, due = 0; c < channels; ++c, u += N * W) {
    V row[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) row[j] = V::load(u + j * W);
    // Whole lines, evenly over the channels.
    for (due += share; due > 0; due -= line, next += kLine) __builtin_prefetch(next, 0, 3);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V value = V::broadcast(rows[r / 3] + r % 3 * row_stride);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sums[r][j] = fma(value, row[j], sums[r][j]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r += 3) ++rows[r / 3];
  }
  // Or all addresses in m would be kept from above to here.
  asm("" : "+r"(m), "+r"(m_stride));
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) sums[r][j].store(m + r * m_stride + j * W);
}

template <class V, int N, int R>
constexpr void fill_winograd_products(WinogradProducts& products) {
  if constexpr (R > 0) {
    products.tile[N - 1][R - 1] = winograd_rows<V, R, N>;
    fill_winograd_products<V, N, R - 1>(products);
  }
}

template <class V>
constexpr WinogradProducts winograd_product_kernels() {
  constexpr TileSizes sizes = tile_sizes(Family::winograd_product_f32, V::kIsa);
  WinogradProducts products{sizes, {}};
  fill_winograd_products<V, 1, sizes.max_rows[0]>(products);
  fill_winograd_products<V, 2, sizes.max_rows[1]>(products);
  fill_winograd_products<V, 3, sizes.max_rows[2]>(products);
  fill_winograd_products<V, 4, sizes.max_rows[3]>(products);
  return products;
}

template <class V>
inline constexpr WinogradProducts kWinogradProducts = winograd_product_kernels<V>();

// Whether a short axis has a point of the full one.
template <class W>
static constexpr bool winograd_short_point(int point) {
  for (int used : W::Short::kPoints)
    if (used == point) return true;
  return false;
}

// The elements of a tile, and which of them short tiles have: those of points that are theirs.
template <class W>
struct WinogradElements {
  static constexpr int kPoints = W::Full::kIn, kCount = kPoints * kPoints;
  static constexpr bool short_height(int k) { return winograd_short_point<W>(k / kPoints); }
  static constexpr bool short_width(int k) { return winograd_short_point<W>(k % kPoints); }
};

template <class V, class Elements>
void winograd_multiply(const float* v, int64_t v_stride, int64_t row_stride,
                       const int (&first)[kWinogradShapes + 1], int channels,
                       const WinogradWeights& u, int vecs, float* m) {
  constexpr const WinogradProducts& products = kWinogradProducts<V>;
  constexpr int64_t kLine = 64 / sizeof(float);
  const int64_t lanes = int64_t{vecs} * V::kWidth, panel = channels * lanes;
  const int64_t m_stride = int64_t{Elements::kCount} * lanes;
  const int max_rows = products.sizes.max_rows[vecs - 1];
  const int most_parts = static_cast<int>((panel * sizeof(float) + kPartBytes - 1) / kPartBytes);
  // Numbers of a cache line, as weights are stored.
  const int64_t stored_line = u.half == nullptr ? kLine : 2 * kLine;
  for (int k = 0; k < Elements::kCount; ++k, v += v_stride, m += lanes) {
    const bool short_height = Elements::short_height(k), short_width = Elements::short_width(k);
    const int begin = first[short_width ? kShortWidth : kFull];
    const int end = first[short_height ? short_width ? kWinogradShapes : kShortBoth : kShortHeight];
    const int groups = (end - begin + max_rows - 1) / max_rows;
    const int parts = groups <= kMostWaitingGroups ? most_parts : 1;
    for (int part = 0, c = 0; part < parts; ++part) {
      const int count = static_cast<int>(int64_t{channels} * (part + 1) / parts) - c;
      const int64_t at = k * panel + c * lanes;
      const float *weights = u.room, *next;
      if (u.half == nullptr) {
        weights = u.u + at;
        next = weights + count * lanes;
      } else {
        next = reinterpret_cast<const float*>(u.half + at + count * lanes);
        if (groups > 0) widen<V>(u.half + at, u.room, count * lanes, u.scales[k]);
      }
      // The groups share the fetching of what comes next evenly.
      const int64_t lines = (count * lanes + stored_line - 1) / stored_line;
      for (int g = 0, row = begin; g < groups; ++g) {
        const int rows = (end - row) / (groups - g);
        const int64_t from = lines * g / groups, to = lines * (g + 1) / groups;
        products.tile[vecs - 1][rows - 1](v + row * row_stride + c, row_stride, count, weights,
                                          m + row * m_stride, m_stride, part > 0,
                                          {next + from * kLine, (to - from) * kLine});
        row += rows;
      }
      c += count;
    }
  }
}

}  // namespace activsparse
