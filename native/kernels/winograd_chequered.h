// Winograd tiles on a chequerboard: inputs are zero where i + j is odd in the patch, outputs are
// wanted where i + j is even in the tile. Half the products of a dense tile do.
//
// The inputs are the same after (y, x) -> (-y, -x) as polynomials, and so are the taps between such
// positions, the centre and the corners. For symmetric axes (winograd_axes.h) an element thus
// equals the one of the opposite point, (-s, -q) that of (s, q), and (0, infinity) is zero. So only
// rows of points +s are kept, all their columns; of the rows of 0 and infinity the columns of
// points +q, and of 0 or infinity itself. U holds the doubles of the elements that stand for two.
//
// Numbering, with P pairs on a full axis: k = s * (2 P + 2) + column for pair s, columns in the
// order of the dense tile; then P + 1 for the row of 0, pairs first, and P + 1 for infinity.
// Derivation in docs/numerics.md.
#pragma once
#include "kernels/winograd_multiply.h"

namespace activsparse {

template <class Y_, class X_>
struct ChequeredTile {
  using Y = Y_;
  using X = X_;
  static constexpr int kFamilyPairs = X::kFamily / 2 - 1;
  static constexpr int kZeroRow = kFamilyPairs * X::kFamily;
  static constexpr int kInfinityRow = kZeroRow + kFamilyPairs + 1;
  static constexpr bool reads(int i, int j) { return (i + j) % 2 == 0; }
  // Of pair `pair`, or of 0 (infinity) itself where it is X::kPairs, in one of the last two rows.
  static constexpr int half_row(int row, int pair) {
    return row + (pair == X::kPairs ? kFamilyPairs : pair);
  }

  template <class V, class Load, class Emit>
  __attribute__((always_inline)) static void inputs(const Load& load, const Emit& emit) {
    // Two rows of the result at a time: more do not fit the registers.
#pragma GCC unroll 4
    for (int first = 0; first <= Y::kPairs; first += 2) {
      V rows[2][X::kIn];
#pragma GCC unroll 8
      for (int j = 0; j < X::kIn; ++j) {
        V d[Y::kPairs + 1], t[Y::kPairs + 1];
        for (int i = 0; i <= Y::kPairs; ++i) d[i] = load(2 * i + j % 2, j);
        if (j % 2 == 0)
          Y::even_inputs(d, t);
        else
          Y::odd_inputs(d, t);
        rows[0][j] = t[first];
        if (first < Y::kPairs) rows[1][j] = t[first + 1];
      }
      emit_row(rows[0], first, emit);
      if (first < Y::kPairs) emit_row(rows[1], first + 1, emit);
    }
  }

  template <class V, class Load, class Emit>
  __attribute__((always_inline)) static void outputs(const Load& load, const Emit& emit) {
    // Row kPairs: even columns those of 0, odd ones those of infinity.
    V rows[Y::kPairs + 1][X::kOut];
#pragma GCC unroll 4
    for (int s = 0; s < Y::kPairs; ++s) {
      V m[X::kIn];
      for (int j = 0; j < X::kIn; ++j) m[j] = load(s * X::kFamily + X::kPoints[j]);
      X::output(m, rows[s]);
    }
    V zero[X::kPairs + 1], infinity[X::kPairs + 1], even[X::kOut / 2], odd[X::kOut / 2];
    for (int q = 0; q <= X::kPairs; ++q) {
      zero[q] = load(half_row(kZeroRow, q));
      infinity[q] = load(half_row(kInfinityRow, q));
    }
    X::even_outputs(zero, even);
    X::odd_outputs(infinity, odd);
    for (int j = 0; j < X::kOut; ++j) rows[Y::kPairs][j] = j % 2 == 0 ? even[j / 2] : odd[j / 2];
#pragma GCC unroll 8
    for (int j = 0; j < X::kOut; ++j) {
      V m[Y::kPairs + 1], y[Y::kOut / 2];
      for (int s = 0; s <= Y::kPairs; ++s) m[s] = rows[s][j];
      if (j % 2 == 0)
        Y::even_outputs(m, y);
      else
        Y::odd_outputs(m, y);
      for (int i = 0; i < Y::kOut / 2; ++i) emit(2 * i + j % 2, j, y[i]);
    }
  }

 private:
  template <class V, class Emit>
  __attribute__((always_inline)) static void emit_row(const V (&d)[X::kIn], int s,
                                                      const Emit& emit) {
    if (s < Y::kPairs) {
      V t[X::kIn];
      X::input(d, t);
      for (int j = 0; j < X::kIn; ++j) emit(s * X::kFamily + X::kPoints[j], t[j]);
      return;
    }
    // Even columns are those of the point 0, odd ones those of infinity.
    V half[X::kPairs + 1], t[X::kPairs + 1];
    for (int q = 0; q <= X::kPairs; ++q) half[q] = d[2 * q];
    X::even_inputs(half, t);
    for (int q = 0; q <= X::kPairs; ++q) emit(half_row(kZeroRow, q), t[q]);
    for (int q = 0; q <= X::kPairs; ++q) half[q] = d[2 * q + 1];
    X::odd_inputs(half, t);
    for (int q = 0; q <= X::kPairs; ++q) emit(half_row(kInfinityRow, q), t[q]);
  }
};

template <class W>
struct ChequeredElements {
  static constexpr int kPoints = W::Full::kIn, kPairs = W::Full::kPairs;
  static constexpr int kCount = kPoints * kPoints / 2, kPairRows = kPairs * kPoints;
  // A pair by its index, 0 and infinity as kPairs.
  static constexpr bool is_short(int pair) { return pair < W::Short::kPairs || pair == kPairs; }
  static constexpr bool short_height(int k) { return k >= kPairRows || is_short(k / kPoints); }
  static constexpr bool short_width(int k) {
    return k < kPairRows ? winograd_short_point<W>(k % kPoints)
                         : is_short((k - kPairRows) % (kPairs + 1));
  }
};

}  // namespace activsparse
