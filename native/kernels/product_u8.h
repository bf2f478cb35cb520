// The matrix product behind convolutions of bytes; see ProductU8Args in bytes.h for the maths.
//
// A tile of R rows by N vectors of int32 sums stays in registers over the whole reduction, as in
// gemm.h: per quad of input channels N vectors of weights and R broadcast quads make R * N vector
// products of four multiply-adds per lane. `D` (bytes_*.h) says how a product is made.
#pragma once
#include "kernels/bytes.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

namespace activsparse {

// Adds the products of one tap, a quad at a time: those of N vectors beside each other.
template <class D, int R, int N>
__attribute__((always_inline)) inline void add_quads(const int8_t* w, const uint8_t* const* rows,
                                                     int steps, const int32_t* offsets,
                                                     typename D::Sum (&sums)[R][N]) {
  constexpr int W = D::kWidth;
  const uint8_t* x[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) x[r] = rows[r];
  for (int s = 0; s < steps; ++s, w += 4 * N * W) {
    const int64_t at = D::kOffsets ? offsets[s] : 4 * s;
    typename D::Weights weights[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) weights[v] = D::load_weights(w + 4 * v * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const typename D::Quads quads = D::broadcast(x[r] + at);
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = D::dot(sums[r][v], quads, weights[v]);
    }
  }
}

// The same, two quads at a time, for kVectors of N vectors from `first` on.
template <class D, int kVectors, int R, int N>
__attribute__((always_inline)) inline void add_twos(const int8_t* w, const uint8_t* const* rows,
                                                    int steps, const int32_t* offsets,
                                                    typename D::Sum (&sums)[R][N], int first) {
  constexpr int kQuad = 4 * kVectors * D::kWidth;
  const uint8_t* x[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) x[r] = rows[r];
  for (int s = 0; s < steps; ++s, offsets += 2, w += 2 * kQuad) {
    const int64_t at = offsets[0], next = offsets[1];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const typename D::Quads quads = D::broadcast(x[r] + at), others = D::broadcast(x[r] + next);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const int8_t* of = w + 4 * v * D::kWidth;
        sums[r][first + v] = D::dot_two(sums[r][first + v], quads, of, others, of + kQuad);
      }
    }
  }
}

// Adds the products of one tap, as StepCounts in bytes.h says.
template <class D, int R, int N>
__attribute__((always_inline)) inline void add_counted(const int8_t* w, const uint8_t* const* rows,
                                                       const StepCounts& steps,
                                                       const int32_t* offsets,
                                                       typename D::Sum (&sums)[R][N]) {
  constexpr int kQuad = 4 * D::kWidth;
  add_twos<D, N>(w, rows, steps.twos, offsets, sums, 0);
  w += int64_t{2} * kQuad * N * steps.twos, offsets += 2 * steps.twos;
  add_quads<D>(w, rows, steps.ones, offsets, sums);
  w += int64_t{1} * kQuad * N * steps.ones, offsets += steps.ones;
#pragma GCC unroll 4
  for (int v = 0; v < N; ++v) {
    add_twos<D, 1>(w, rows, steps.apart[v], offsets, sums, v);
    w += int64_t{2} * kQuad * steps.apart[v], offsets += 2 * steps.apart[v];
  }
}

// A bound of what is rounded and stored, as a byte.
template <class D>
__attribute__((always_inline)) inline int byte_of(float bound, const FinishU8& f) {
  return f.zero + static_cast<int>(__builtin_rintf(bound));
}

// What was clipped to hi, but for a lower bound, goes on to another scale; the lower bound of that
// is left to what is stored.
template <class D>
__attribute__((always_inline)) inline typename D::Float rescaled(typename D::Float v,
                                                                 const FinishU8& f) {
  using V = typename D::Float;
  v = round_nearest(max(v, V::set1(f.lo))) * V::set1(f.kept);
  return min(v, V::set1(f.residual_hi));
}

template <class D>
__attribute__((always_inline)) inline typename D::Float with_residual(typename D::Float v,
                                                                      typename D::Float r,
                                                                      const FinishU8& f) {
  using V = typename D::Float;
  v = round_nearest(max(v, V::set1(f.lo))) * V::set1(f.kept) +
      (r * V::set1(f.residual_scale) + V::set1(f.shift));
  return min(v, V::set1(f.residual_hi));
}

// Stores rows, of which numbers(row, y) gives N vectors: two at a time where that takes fewer
// instructions.
template <class D, int N, class Row, class Numbers>
__attribute__((always_inline)) inline void store_rows(const Row& row, int count,
                                                      uint8_t* const* out, int64_t column,
                                                      const Numbers& numbers) {
  typename D::Float y[2][N];
  int r = 0;
  if constexpr (Row::kTwo) {
#pragma GCC unroll 1
    for (; r + 2 <= count; r += 2) {
      numbers(r, y[0]), numbers(r + 1, y[1]);
      row.store_two(out[r] + column, y[0], out[r + 1] + column, y[1]);
    }
  }
#pragma GCC unroll 1
  for (; r < count; ++r) {
    numbers(r, y[0]);
    row.store(out[r] + column, y[0]);
  }
}

// Rounds and stores `sums` of `count` rows. Whatever a row needs is read before the first one is
// stored: bytes that are written may be anything, for all that a compiler knows.
template <class D, int N>
__attribute__((always_inline)) inline void finish_sums(const SumsU8Args& args, int count,
                                                       const typename D::Sum (*sums)[N]) {
  using V = typename D::Float;
  constexpr int W = D::kWidth;
  const FinishU8 f = *args.finish;
  uint8_t* const* out = args.out;
  const uint8_t* const* residual = args.residual;
  const int64_t column = args.column;
  const int last_lanes = args.lanes;
  V scale[N], shift[N];
#pragma GCC unroll 4
  for (int v = 0; v < N; ++v) {
    scale[v] = V::load(args.scale + v * W);
    shift[v] = V::load(args.shift + v * W);
  }
  const auto scaled = [&](int r, int v) __attribute__((always_inline)) {
    return fma(D::to_float(sums[r][v]), scale[v], shift[v]);
  };
  if (f.to_float) {
#pragma GCC unroll 1
    for (int r = 0; r < count; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v)
        max(min(scaled(r, v), V::set1(f.hi)), V::set1(f.lo))
            .store_partial(reinterpret_cast<float*>(out[r]) + column + v * W,
                           v + 1 < N ? W : last_lanes);
    return;
  }
  if (f.bounded && !f.rescaled && residual == nullptr) {
    const typename D::template Row<N> row(byte_of<D>(f.lo, f), byte_of<D>(f.hi, f), f.zero,
                                          last_lanes);
    store_rows<D, N>(row, count, out, column, [&](int r, V* y) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) y[v] = scaled(r, v);
    });
    return;
  }
  const bool twice = residual != nullptr || f.rescaled;
  const float lo = twice ? f.residual_lo : f.lo, hi = twice ? f.residual_hi : f.hi;
  const typename D::template Row<N> row(byte_of<D>(lo, f), byte_of<D>(hi, f), f.zero, last_lanes);
  store_rows<D, N>(row, count, out, column, [&](int r, V* y) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      y[v] = min(scaled(r, v), V::set1(f.hi));
      if (residual != nullptr)
        y[v] = with_residual<D>(
            y[v], D::load_u8(residual[r] + column + v * W, v + 1 < N ? W : last_lanes), f);
      else if (f.rescaled)
        y[v] = rescaled<D>(y[v], f);
    }
  });
}

// Of a tile of R rows those from kFirst on.
template <class D, int R, int N, int kFirst>
__attribute__((always_inline)) inline void product_u8_rows(const ProductU8Args& args) {
  constexpr int W = D::kWidth, kMost = D::rows_at_once(N);
  constexpr int kRows = R - kFirst < kMost ? R - kFirst : kMost;
  typename D::Sum sums[kRows][N];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sums[r][v] = D::load(args.start + v * W);
  const uint8_t* const* rows = args.rows + kFirst;
  for (int t = 0; t < args.taps; ++t, rows += args.row_step) {
    if constexpr (D::kOwnSteps) {
      D::add_steps(args.weights[t], rows, args.quads, sums);
    } else if constexpr (D::kOffsets) {
      add_counted<D>(args.weights[t], rows, *args.steps[t], args.offsets[t], sums);
    } else {
      add_quads<D>(args.weights[t], rows, args.quads, nullptr, sums);
    }
  }
  // In memory: a loop over rows, which would be too long to unroll, must not keep the sums there
  // while products are added.
  typename D::Sum done[kRows][N];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) done[r][v] = sums[r][v];
  SumsU8Args finish = args;
  finish.out += kFirst;
  if (finish.residual != nullptr) finish.residual += kFirst;
  finish_sums<D, N>(finish, kRows, done);
  if constexpr (kFirst + kRows < R) product_u8_rows<D, R, N, kFirst + kRows>(args);
}

template <class D, int R, int N>
void product_u8_tile(const ProductU8Args& args) {
  product_u8_rows<D, R, N, 0>(args);
}

template <class D, int N, int R>
constexpr void fill_u8_tiles(ProductU8Kernels& kernels) {
  if constexpr (R > 0) {
    kernels.tile[N - 1][R - 1] = product_u8_tile<D, R, N>;
    fill_u8_tiles<D, N, R - 1>(kernels);
  }
}

template <class D>
constexpr ProductU8Kernels product_kernels() {
  constexpr TileSizes sizes = tile_sizes(Family::product_u8, D::kIsa);
  ProductU8Kernels kernels{sizes, {D::kLowered, D::kLoweredOdd}, {}};
  fill_u8_tiles<D, 1, sizes.max_rows[0]>(kernels);
  fill_u8_tiles<D, 2, sizes.max_rows[1]>(kernels);
  fill_u8_tiles<D, 3, sizes.max_rows[2]>(kernels);
  fill_u8_tiles<D, 4, sizes.max_rows[3]>(kernels);
  return kernels;
}

}  // namespace activsparse
