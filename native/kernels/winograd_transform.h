// The Winograd transforms, vectorised over channels; matrices and error bounds in docs/numerics.md.
//
// `Tile` says how two axes (winograd_axes.h) make a tile: `inputs` and `outputs` are B^T d B and
// A^T m A of one vector of channels, `reads` whether a pixel of the patch matters.
#pragma once
#include <cstdint>

#include "kernels/vec_math.h"
#include "kernels/vector_sizes.h"
#include "kernels/winograd.h"
#include "kernels/winograd_axes.h"
#include "kernels/winograd_strided_axes.h"
#include "kernels/winograd_tap4_axes.h"

namespace activsparse {

// Every pixel of the patch matters: element k is (row * X::kFamily + column) by points.
template <class Y_, class X_>
struct WinogradTile {
  using Y = Y_;
  using X = X_;
  static constexpr bool reads(int, int) { return true; }
  template <class V, class Load, class Emit>
  __attribute__((always_inline)) static void inputs(const Load& load, const Emit& emit) {
    Y::template input_rows<V, X::kIn>(
        load, [&](int i, const V(&d)[X::kIn]) __attribute__((always_inline)) {
          V t[X::kIn];
          X::input(d, t);
          for (int j = 0; j < X::kIn; ++j) emit(Y::kPoints[i] * X::kFamily + X::kPoints[j], t[j]);
        });
  }
  template <class V, class Load, class Emit>
  __attribute__((always_inline)) static void outputs(const Load& load, const Emit& emit) {
    Y::template output_rows<V, X::kIn>(
        [&](int i, int j) __attribute__((always_inline)) {
          return load(Y::kPoints[i] * X::kFamily + X::kPoints[j]);
        },
        [&](int i, const V(&row)[X::kIn]) __attribute__((always_inline)) {
          V y[X::kOut];
          X::output(row, y);
          for (int j = 0; j < X::kOut; ++j) emit(i, j, y[j]);
        });
  }
};

// Vectors of a cache line, which is asked for once.
template <class V>
inline constexpr int kVectorsPerFetch = V::kWidth >= 4 ? 16 / V::kWidth : 1;

// B^T d B of `vectors` vectors of channels; pixel (i, j) of the patch is at x + i * row + j *
// stride. What the tile to the right does not share is fetched meanwhile: rows of an image are too
// far apart for the hardware to see a pattern. (The second-level cache has room for more requests
// than the first.)
template <class V, class Tile>
__attribute__((noinline)) void winograd_input_vectors(const float* x, int64_t row, int64_t stride,
                                                      int vectors, float* v, int64_t v_stride) {
  using X = typename Tile::X;
  constexpr int kPerFetch = kVectorsPerFetch<V>;
  for (; vectors > 0; vectors -= kPerFetch) {
    for (int i = 0; i < Tile::Y::kIn; ++i)
      for (int j = X::kIn; j < X::kIn + X::kOut * X::kStride; ++j)
        if (Tile::reads(i, j)) __builtin_prefetch(x + i * row + j * stride, 0, 2);
    const int here = kPerFetch > 1 && vectors < kPerFetch ? vectors : kPerFetch;
    for (int n = 0; n < here; ++n, x += V::kWidth, v += V::kWidth)
      Tile::template inputs<V>(
          [=](int i, int j)
              __attribute__((always_inline)) { return V::load(x + i * row + j * stride); },
          [=](int k, V value) __attribute__((always_inline)) {
            if constexpr (kPerFetch == 1) __builtin_prefetch(v + k * v_stride + V::kWidth, 1, 3);
            value.store(v + k * v_stride);
          });
  }
}

template <class V, class Tile>
void winograd_transform_input(const WinogradSource& s, int top, int left, float* v,
                              int64_t v_stride) {
  constexpr int h = Tile::Y::kIn, w = Tile::X::kIn, width = V::kWidth;
  const float* x = s.x + top * s.row + left * s.stride;
  const int y0 = top < 0 ? -top : 0, y1 = top + h > s.h ? s.h - top : h;
  const int x0 = left < 0 ? -left : 0, x1 = left + w > s.w ? s.w - left : w;
  int c = 0;
  if (y0 == 0 && x0 == 0 && y1 == h && x1 == w) {
    winograd_input_vectors<V, Tile>(x, s.row, s.stride, s.channels / width, v, v_stride);
    c = s.channels / width * width;
  }
  if (c >= s.channels) return;
  // What reaches over the edge of the image, or into the lanes between pixels, goes through a copy
  // with zeros.
  float patch[h * w * width];
  for (int i = 0; i < h * w; ++i) V::zero().store(patch + i * width);
  for (; c < s.channels; c += width) {
    const int lanes = s.channels - c;
    for (int i = y0; i < y1; ++i)
      for (int j = x0; j < x1; ++j) {
        if (!Tile::reads(i, j)) continue;
        const float* from = x + i * s.row + j * s.stride + c;
        (lanes < width ? V::load_partial(from, lanes) : V::load(from))
            .store(patch + (i * w + j) * width);
      }
    winograd_input_vectors<V, Tile>(patch, w * width, width, 1, v + c, v_stride);
  }
}

// Where the positions of a tile lie in a tensor whose first position is `at`; `elsewhere` stands
// for those that are not kept, so that the loops over channels need not ask.
template <class Y, class X, class Float>
static void winograd_positions(Float* at, int64_t row, int64_t stride, uint64_t keep,
                               Float* elsewhere, Float* (&positions)[Y::kOut][X::kOut]) {
  for (int i = 0; i < Y::kOut; ++i)
    for (int j = 0; j < X::kOut; ++j)
      positions[i][j] = keep >> (i * X::kTile + j) & 1 ? at + i * row + j * stride : elsewhere;
}

// What is rare or dear about the results of a tile is done by these two, which stand once for all
// shapes of tiles: written into every transform, they would be half of the library.
//
// The skipped positions, while their lines are in the cache.
template <class V>
__attribute__((noinline)) void winograd_fill(const WinogradTarget& t, int tile,
                                             const Epilogue& epilogue) {
  const int whole = t.channels / V::kWidth * V::kWidth, lanes = t.channels - whole;
  uint64_t rest = t.fill;
  for (int i = 0; rest != 0; ++i, rest >>= tile)
    for (unsigned row = rest & ((1u << tile) - 1); row != 0; row &= row - 1) {
      const int j = __builtin_ctz(row);
      float* y = t.y + i * t.row + j * t.stride;
      if (t.residual == nullptr) {
        for (int c = 0; c < whole; c += V::kWidth) V::load(t.skipped + c).store(y + c);
        if (lanes > 0) V::load_partial(t.skipped + whole, lanes).store_partial(y + whole, lanes);
        continue;
      }
      const float* from = t.residual + i * t.residual_row + j * t.residual_stride;
      for (int c = 0; c < whole; c += V::kWidth)
        vec_activate(V::load(t.skipped + c) + V::load(from + c), epilogue).store(y + c);
      if (lanes > 0)
        vec_activate(
            V::load_partial(t.skipped + whole, lanes) + V::load_partial(from + whole, lanes),
            epilogue)
            .store_partial(y + whole, lanes);
    }
}

// Residual and activation of the kept positions' channels `c` to `c` + `lanes`, from `sums` (tile,
// tile, width).
template <class V>
__attribute__((noinline)) void winograd_finish(const float* sums, const WinogradTarget& t, int c,
                                               int lanes, int tile, const Epilogue& epilogue) {
  const Epilogue e = epilogue;
  for (uint64_t bits = t.keep; bits != 0; bits &= bits - 1) {
    const int bit = __builtin_ctzll(bits), i = bit / tile, j = bit % tile;
    V value = V::load(sums + bit * V::kWidth);
    if (t.residual) {
      const float* from = t.residual + i * t.residual_row + j * t.residual_stride + c;
      value = value + (lanes < V::kWidth ? V::load_partial(from, lanes) : V::load(from));
    }
    float* y = t.y + i * t.row + j * t.stride + c;
    if (lanes == V::kWidth || t.padded)
      vec_activate(value, e).store(y);
    else
      vec_activate(value, e).store_partial(y, lanes);
  }
}

// Asks for the results of the tile to the right, and what is added, as in winograd_input_vectors.
template <class V, class Tile>
__attribute__((always_inline)) inline void winograd_fetch_outputs(const WinogradTarget& t, int c) {
  using X = typename Tile::X;
  if (kVectorsPerFetch<V> > 1 && c % (kVectorsPerFetch<V> * V::kWidth) != 0) return;
  for (int i = 0; i < Tile::Y::kOut; ++i)
    for (int j = 0; j < X::kOut; ++j) {
      __builtin_prefetch(t.y + i * t.row + (X::kOut + j) * t.stride + c, 0, 2);
      if (t.residual)
        __builtin_prefetch(t.residual + i * t.residual_row + (X::kOut + j) * t.residual_stride + c,
                           0, 2);
    }
}

// One vector of channels: store(i, j, A^T m A + bias).
template <class V, class Tile, class Store>
__attribute__((always_inline)) inline void winograd_output_vector(const float* m, int64_t m_stride,
                                                                  V bias, const Store& store) {
  Tile::template outputs<V>(
      [&](int k) __attribute__((always_inline)) { return V::load(m + k * m_stride); },
      [&](int i, int j, V value) __attribute__((always_inline)) { store(i, j, value + bias); });
}

template <class V, class Tile>
void winograd_transform_output(const float* m, int vecs, const WinogradTarget& t,
                               const Epilogue& epilogue) {
  using Y = typename Tile::Y;
  using X = typename Tile::X;
  const int64_t m_stride = int64_t{vecs} * V::kWidth;
  int c = 0;
  if (epilogue.activation <= Activation::kClip) {
    alignas(64) float ignored[kMaxTileVectors * V::kWidth];
    float* y[Y::kOut][X::kOut];
    const float* residual[Y::kOut][X::kOut] = {};
    winograd_positions<Y, X>(t.y, t.row, t.stride, t.keep, ignored, y);
    if (t.residual)
      winograd_positions<Y, X>(t.residual, t.residual_row, t.residual_stride, t.keep, t.bias,
                               residual);
    // No activation is a clip to all numbers.
    const bool clips = epilogue.activation == Activation::kClip;
    const V lo = V::set1(clips ? epilogue.lo : -__builtin_inff());
    const V hi = V::set1(clips ? epilogue.hi : __builtin_inff());
    for (; c + V::kWidth <= t.channels; c += V::kWidth) {
      const V bias = V::load(t.bias + c);
      winograd_fetch_outputs<V, Tile>(t, c);
      if constexpr (kCompact)
        winograd_output_vector<V, Tile>(m + c, m_stride, bias,
                                        [&](int i, int j, V value) __attribute__((always_inline)) {
                                          if (t.residual)
                                            value = value + V::load(residual[i][j] + c);
                                          clip(value, lo, hi).store(y[i][j] + c);
                                        });
      else if (t.residual)
        winograd_output_vector<V, Tile>(
            m + c, m_stride, bias, [&](int i, int j, V value) __attribute__((always_inline)) {
              clip(value + V::load(residual[i][j] + c), lo, hi).store(y[i][j] + c);
            });
      else
        winograd_output_vector<V, Tile>(m + c, m_stride, bias,
                                        [&](int i, int j, V value) __attribute__((always_inline)) {
                                          clip(value, lo, hi).store(y[i][j] + c);
                                        });
    }
  }
  for (; c < t.channels; c += V::kWidth) {
    alignas(64) float sums[X::kTile * X::kTile * V::kWidth];
    const int lanes = t.channels - c < V::kWidth ? t.channels - c : V::kWidth;
    winograd_fetch_outputs<V, Tile>(t, c);
    winograd_output_vector<V, Tile>(m + c, m_stride, V::load_partial(t.bias + c, lanes),
                                    [&](int i, int j, V value) __attribute__((always_inline)) {
                                      value.store(sums + (i * X::kTile + j) * V::kWidth);
                                    });
    winograd_finish<V>(sums, t, c, lanes, X::kTile, epilogue);
  }
  if (t.fill != 0) winograd_fill<V>(t, X::kTile, epilogue);
}

}  // namespace activsparse
