// Products of bytes that are made 16-bit numbers first; see WordsU8Args in bytes.h for the maths.
//
// Where sums of two products of bytes saturate (AVX2), exact ones take a further step for most
// quads of weights that are large (operators/safe_pairs.h). Products of 16-bit numbers never do:
// a quad is two of them, of two products each, four instructions whatever the weights. Activations
// become 16-bit numbers once for all panels of a product, and then lie at strides, so that a tile
// has no lists to go through.
//
// A tile is as in product_u8.h; tiles of one call hide each other's start and end.
#pragma once
#include "kernels/bytes.h"
#include "kernels/product_u8.h"
#include "kernels/table.h"

namespace activsparse {

// Out of line: it is long, and the same for tiles of every height.
template <class D, int N>
__attribute__((noinline)) void finish_words(const SumsU8Args& args, int count,
                                            const typename D::Sum (*sums)[N]) {
  finish_sums<D, N>(args, count, sums);
}

// What most tiles become: bytes, of all lanes of their vectors.
template <class D, int R, int N, class Row>
__attribute__((always_inline)) inline void store_words(const SumsU8Args& args, const Row& row,
                                                       const typename D::Sum (&sums)[R][N]) {
  using V = typename D::Float;
  constexpr int W = D::kWidth;
  const auto scaled = [&](int r, V* y) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v)
      y[v] = fma(D::to_float(sums[r][v]), V::load(args.scale + v * W), V::load(args.shift + v * W));
  };
  uint8_t* const* out = args.out;
  constexpr int kTwos = Row::kTwo ? R / 2 * 2 : 0;
#pragma GCC unroll 16
  for (int r = 0; r < kTwos; r += 2) {
    V y[2][N];
    scaled(r, y[0]), scaled(r + 1, y[1]);
    row.store_two(out[r] + args.column, y[0], out[r + 1] + args.column, y[1]);
  }
#pragma GCC unroll 16
  for (int r = kTwos; r < R; ++r) {
    V y[N];
    scaled(r, y);
    row.store(out[r] + args.column, y);
  }
}

template <class D, int R, int N>
void words_tile(const WordsU8Args& args) {
  constexpr int W = D::kWidth;
  SumsU8Args finish = args;
  const FinishU8& f = *args.finish;
  const bool quick =
      f.bounded && !f.rescaled && !f.to_float && args.residual == nullptr && args.lanes == W;
  const typename D::template Row<N> row(quick ? byte_of<D>(f.lo, f) : 0,
                                        quick ? byte_of<D>(f.hi, f) : 0, f.zero, W);
  const uint16_t* rows = args.rows;
  const int64_t step = args.row_words;
  const int pairs = 2 * args.quads;
  for (int tile = args.more; tile >= 0; --tile, rows += R * step) {
    typename D::Sum sums[R][N];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = D::load(args.start + v * W);
    const uint16_t* x = rows;
    const int16_t* w = args.weights;
    for (int s = 0; s < pairs; ++s, x += 2, w += 2 * N * W) {
      typename D::Weights weights[N];
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) weights[v] = D::load_pairs(w + 2 * v * W);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const typename D::Weights pair = D::broadcast_pair(x + r * step);
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) sums[r][v] = D::add_pairs(sums[r][v], pair, weights[v]);
      }
    }
    if (quick) {
      store_words<D, R, N>(finish, row, sums);
    } else {
      typename D::Sum done[R][N];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) done[r][v] = sums[r][v];
      finish_words<D, N>(finish, R, done);
    }
    finish.out += R;
    if (finish.residual != nullptr) finish.residual += R;
  }
}

template <class D>
void widen_rows(const uint8_t* const* rows, int row_step, int count, int taps, int quads,
                uint16_t* out, int64_t words) {
  for (int r = 0; r < count; ++r, out += words)
    for (int t = 0; t < taps; ++t)
      D::widen_quads(rows[int64_t{t} * row_step + r], quads, out + int64_t{4} * quads * t);
}

template <class D>
void widen_weights(const int8_t* in, int quads, int vectors, int16_t* out) {
  constexpr int W = D::kWidth;
  for (int q = 0; q < quads; ++q, out += 4 * W * vectors)
    for (int v = 0; v < vectors; ++v, in += 4 * W)
      D::widen_signed(in, out + 2 * W * v, out + 2 * W * (vectors + v));
}

template <class D, int N, int R>
constexpr void fill_words_tiles(WordsU8Kernels& kernels) {
  if constexpr (R > 0) {
    kernels.tile[N - 1][R - 1] = words_tile<D, R, N>;
    fill_words_tiles<D, N, R - 1>(kernels);
  }
}

template <class D>
constexpr WordsU8Kernels words_kernels() {
  constexpr TileSizes sizes = tile_sizes(Family::words_u8, D::kIsa);
  WordsU8Kernels kernels{};
  kernels.sizes = sizes;
  if constexpr (D::kWords) {
    fill_words_tiles<D, 1, sizes.max_rows[0]>(kernels);
    fill_words_tiles<D, 2, sizes.max_rows[1]>(kernels);
    kernels.widen_rows = widen_rows<D>;
    kernels.widen_weights = widen_weights<D>;
  }
  return kernels;
}

}  // namespace activsparse
