// The Winograd transforms along one axis. Matrices, and why these points, in docs/numerics.md.
//
// Each struct: kOut outputs from kIn inputs, kStride apart; kTile and kFamily, the same of the full
// axis it belongs to; kPoints, the family's points it uses, infinity being the last. `input` and
// `output` multiply one line of vectors by B^T and A^T. `input_rows` and `output_rows` do so with N
// columns at once: load(i, j) gives an element, emit(i, row) takes row i of the result. They go
// through the rows in an order that keeps few vectors alive.
//
// Axes whose points are 0, infinity and kPairs pairs +-s are *symmetric*: inputs of even index give
// both points of a pair the same, those of odd index give them opposite values; the point 0 sees
// even inputs only, infinity odd ones. `even_inputs` and `odd_inputs` are these halves of B^T: of
// each pair's +s, last of 0 (infinity). Likewise `even_outputs` and `odd_outputs`: the outputs of
// even (odd) index, from the sums (differences) of pairs and, last, from 0 (infinity).
#pragma once

namespace activsparse {

// `input_rows` and `output_rows` from `input` and `output`, one column after the other.
template <class Axis>
struct WinogradColumns {
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void input_rows(const Load& d, const Emit& emit) {
    V rows[Axis::kIn][N];
    for (int j = 0; j < N; ++j) {
      V column[Axis::kIn], t[Axis::kIn];
      for (int i = 0; i < Axis::kIn; ++i) column[i] = d(i, j);
      Axis::input(column, t);
      for (int i = 0; i < Axis::kIn; ++i) rows[i][j] = t[i];
    }
    for (int i = 0; i < Axis::kIn; ++i) emit(i, rows[i]);
  }
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void output_rows(const Load& m, const Emit& emit) {
    V rows[Axis::kOut][N];
    for (int j = 0; j < N; ++j) {
      V column[Axis::kIn], y[Axis::kOut];
      for (int i = 0; i < Axis::kIn; ++i) column[i] = m(i, j);
      Axis::output(column, y);
      for (int i = 0; i < Axis::kOut; ++i) rows[i][j] = y[i];
    }
    for (int i = 0; i < Axis::kOut; ++i) emit(i, rows[i]);
  }
};

// `input` of a symmetric axis from its halves. Called, its vectors go through memory; only the
// delegate with two instruction sets has no room for copies.
template <class Axis, class V>
#if !defined(ACTIVSPARSE_COMPACT) || defined(__aarch64__)
__attribute__((always_inline))
#endif
inline void join_halves(const V (&d)[Axis::kIn], V (&t)[Axis::kIn]) {
  constexpr int kPairs = Axis::kPairs;
  V even[kPairs + 1], odd[kPairs + 1], even_part[kPairs + 1], odd_part[kPairs + 1];
  for (int i = 0; i <= kPairs; ++i) even[i] = d[2 * i], odd[i] = d[2 * i + 1];
  Axis::even_inputs(even, even_part);
  Axis::odd_inputs(odd, odd_part);
  t[0] = even_part[kPairs];
  for (int i = 0; i < kPairs; ++i) {
    t[1 + 2 * i] = even_part[i] + odd_part[i];
    t[2 + 2 * i] = even_part[i] - odd_part[i];
  }
  t[Axis::kIn - 1] = odd_part[kPairs];
}

// Points 0, +-a, +-b, infinity. All constants are exact in fp32.
struct Winograd4Points {
  static constexpr float kA = 0.625f, kB = 1.5f;
  static constexpr float kA2 = kA * kA, kB2 = kB * kB;
};

// Points 0, +-a, +-b, +-c, infinity with a = 1/2, b = 2, c = 1. All constants are exact in fp32.
struct Winograd6Points {
  static constexpr float kA = 0.5f, kB = 2.0f;
  static constexpr float kA2 = kA * kA, kB2 = kB * kB;
};

// A^T of the points 0, +-a, +-b, infinity.
template <class Points>
struct WinogradFourOutputs : Points {
  using Points::kA, Points::kB, Points::kA2, Points::kB2;

  // Rows 0 and 2 of A^T need the sums p, r of the pairs of points, rows 1 and 3 their differences
  // q, t.
  template <class V>
  static void even(V m0, V p, V r, V& y0, V& y2) {
    y0 = m0 + (p + r);
    y2 = fma(V::set1(kA2), p, V::set1(kB2) * r);
  }
  template <class V>
  static void odd(V q, V t, V m5, V& y1, V& y3) {
    y1 = fma(V::set1(kA), q, V::set1(kB) * t);
    y3 = fma(V::set1(kA * kA2), q, fma(V::set1(kB * kB2), t, m5));
  }
  template <class V>
  static void even_outputs(const V (&m)[3], V (&y)[2]) {
    even(m[2], m[0], m[1], y[0], y[1]);
  }
  template <class V>
  static void odd_outputs(const V (&m)[3], V (&y)[2]) {
    odd(m[0], m[1], m[2], y[0], y[1]);
  }
  template <class V>
  static void output(const V (&m)[6], V (&y)[4]) {
    even(m[0], m[1] + m[2], m[3] + m[4], y[0], y[2]);
    odd(m[1] - m[2], m[3] - m[4], m[5], y[1], y[3]);
  }
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void output_rows(const Load& m, const Emit& emit) {
    V first[N], second[N];
    for (int j = 0; j < N; ++j)
      even(m(0, j), m(1, j) + m(2, j), m(3, j) + m(4, j), first[j], second[j]);
    emit(0, first);
    emit(2, second);
    for (int j = 0; j < N; ++j)
      odd(m(1, j) - m(2, j), m(3, j) - m(4, j), m(5, j), first[j], second[j]);
    emit(1, first);
    emit(3, second);
  }
};

struct WinogradFull4 : WinogradFourOutputs<Winograd4Points> {
  static constexpr int kOut = 4, kIn = 6, kStride = 1, kTile = 4, kFamily = 6, kPairs = 2;
  static constexpr int kPoints[6] = {0, 1, 2, 3, 4, 5};

  // The rows of the points +-s, q being the other pair's square: (d4 - q d2) +- s (d3 - q d1).
  template <class V>
  static V even_half(float q, V d2, V d4) {
    return fma(V::set1(-q), d2, d4);
  }
  template <class V>
  static V odd_half(float s, float q, V d1, V d3) {
    return fma(V::set1(-q * s), d1, V::set1(s) * d3);
  }
  template <class V>
  static void pair(float s, float q, V d1, V d2, V d3, V d4, V& plus, V& minus) {
    const V even = even_half(q, d2, d4), odd = odd_half(s, q, d1, d3);
    plus = even + odd;
    minus = even - odd;
  }
  // The rows of the points 0 and infinity: a^2 b^2 d0 - (a^2 + b^2) d2 + d4.
  template <class V>
  static V end(V d0, V d2, V d4) {
    return fma(V::set1(kA2 * kB2), d0, fma(V::set1(-(kA2 + kB2)), d2, d4));
  }
  template <class V>
  static void even_inputs(const V (&d)[3], V (&t)[3]) {
    t[0] = even_half(kB2, d[1], d[2]);
    t[1] = even_half(kA2, d[1], d[2]);
    t[2] = end(d[0], d[1], d[2]);
  }
  template <class V>
  static void odd_inputs(const V (&d)[3], V (&t)[3]) {
    t[0] = odd_half(kA, kB2, d[0], d[1]);
    t[1] = odd_half(kB, kA2, d[0], d[1]);
    t[2] = end(d[0], d[1], d[2]);
  }
  template <class V>
  static void input(const V (&d)[6], V (&t)[6]) {
    join_halves<WinogradFull4>(d, t);
  }
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void input_rows(const Load& d, const Emit& emit) {
    V plus[N], minus[N];
    for (int j = 0; j < N; ++j)
      pair(kA, kB2, d(1, j), d(2, j), d(3, j), d(4, j), plus[j], minus[j]);
    emit(1, plus);
    emit(2, minus);
    for (int j = 0; j < N; ++j)
      pair(kB, kA2, d(1, j), d(2, j), d(3, j), d(4, j), plus[j], minus[j]);
    emit(3, plus);
    emit(4, minus);
    for (int j = 0; j < N; ++j) plus[j] = end(d(0, j), d(2, j), d(4, j));
    emit(0, plus);
    for (int j = 0; j < N; ++j) minus[j] = end(d(1, j), d(3, j), d(5, j));
    emit(5, minus);
  }
};

// Two outputs at the points 0, +-a, infinity of the full axis. The rows of B^T are F(2, 3)'s times
// the ratio of the two axes' weight scales: a^2 b^2 d0 - b^2 d2; (a^2 - b^2) (d2 +- a d1); d3 - a^2
// d1.
struct WinogradShort4 : Winograd4Points, WinogradColumns<WinogradShort4> {
  static constexpr int kOut = 2, kIn = 4, kStride = 1, kTile = 4, kFamily = 6, kPairs = 1;
  static constexpr int kPoints[4] = {0, 1, 2, 5};
  static constexpr float kScale = kA2 - kB2;

  template <class V>
  static void even_inputs(const V (&d)[2], V (&t)[2]) {
    t[0] = V::set1(kScale) * d[1];
    t[1] = fma(V::set1(kA2 * kB2), d[0], V::set1(-kB2) * d[1]);
  }
  template <class V>
  static void odd_inputs(const V (&d)[2], V (&t)[2]) {
    t[0] = V::set1(kScale * kA) * d[0];
    t[1] = fma(V::set1(-kA2), d[0], d[1]);
  }
  template <class V>
  static void input(const V (&d)[4], V (&t)[4]) {
    join_halves<WinogradShort4>(d, t);
  }
  template <class V>
  static void even_outputs(const V (&m)[2], V (&y)[1]) {
    y[0] = m[1] + m[0];
  }
  template <class V>
  static void odd_outputs(const V (&m)[2], V (&y)[1]) {
    y[0] = fma(V::set1(kA), m[0], m[1]);
  }
  template <class V>
  static void output(const V (&m)[4], V (&y)[2]) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = fma(V::set1(kA), m[1] - m[2], m[3]);
  }
};

// Points 0, 1, -1, infinity.
struct WinogradFull2 : WinogradColumns<WinogradFull2> {
  static constexpr int kOut = 2, kIn = 4, kStride = 1, kTile = 2, kFamily = 4;
  static constexpr int kPoints[4] = {0, 1, 2, 3};

  template <class V>
  static void input(const V (&d)[4], V (&t)[4]) {
    t[0] = d[2] - d[0];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }
  template <class V>
  static void output(const V (&m)[4], V (&y)[2]) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }
};

// One output at the points 0, 1, infinity; the row of the point 1 is twice F(1, 3)'s.
struct WinogradShort2 : WinogradColumns<WinogradShort2> {
  static constexpr int kOut = 1, kIn = 3, kStride = 1, kTile = 2, kFamily = 4;
  static constexpr int kPoints[3] = {0, 1, 3};

  template <class V>
  static void input(const V (&d)[3], V (&t)[3]) {
    t[0] = d[1] - d[0];
    t[1] = d[1] + d[1];
    t[2] = d[2] - d[1];
  }
  template <class V>
  static void output(const V (&m)[3], V (&y)[1]) {
    y[0] = m[0] + m[1] + m[2];
  }
};

struct WinogradFull6 {
  static constexpr int kOut = 6, kIn = 8, kStride = 1, kTile = 6, kFamily = 8, kPairs = 3;
  static constexpr int kPoints[8] = {0, 1, 2, 3, 4, 5, 6, 7};

  // The rows of the points +-s, p and q being the sum and the product of the other pairs' squares:
  // (d6 - p d4 + q d2) +- s (d5 - p d3 + q d1). Here s = 1/2, 2 or 1 and q = 1 / s^2.
  template <class V>
  static V even_half(V d2, V d4, V d6) {
    return fma(V::set1(4.0f), d2, fma(V::set1(-5.0f), d4, d6));
  }
  template <class V>
  static V odd_half(V d1, V d3, V d5) {
    return fma(V::set1(2.0f), d1, fma(V::set1(-2.5f), d3, V::set1(0.5f) * d5));
  }
  template <class V>
  static V even_two(V d2, V d4, V d6) {
    return fma(V::set1(0.25f), d2, fma(V::set1(-1.25f), d4, d6));
  }
  template <class V>
  static V odd_two(V d1, V d3, V d5) {
    return fma(V::set1(2.0f), d5, fma(V::set1(-2.5f), d3, V::set1(0.5f) * d1));
  }
  // d2 - 4.25 d4 + d6, or the odd inputs.
  template <class V>
  static V one(V first, V second, V third) {
    return fma(V::set1(-4.25f), second, first + third);
  }
  template <class V>
  static void pair_half(V d1, V d2, V d3, V d4, V d5, V d6, V& plus, V& minus) {
    const V even = even_half(d2, d4, d6), odd = odd_half(d1, d3, d5);
    plus = even + odd;
    minus = even - odd;
  }
  template <class V>
  static void pair_two(V d1, V d2, V d3, V d4, V d5, V d6, V& plus, V& minus) {
    const V even = even_two(d2, d4, d6), odd = odd_two(d1, d3, d5);
    plus = even + odd;
    minus = even - odd;
  }
  template <class V>
  static void pair_one(V d1, V d2, V d3, V d4, V d5, V d6, V& plus, V& minus) {
    const V even = one(d2, d4, d6), odd = one(d1, d3, d5);
    plus = even + odd;
    minus = even - odd;
  }
  // The rows of the points 0 and infinity.
  template <class V>
  static V end(V d0, V d2, V d4, V d6) {
    return fma(V::set1(5.25f), d2 - d4, d6 - d0);
  }
  template <class V>
  static void even_inputs(const V (&d)[4], V (&t)[4]) {
    t[0] = even_half(d[1], d[2], d[3]);
    t[1] = even_two(d[1], d[2], d[3]);
    t[2] = one(d[1], d[2], d[3]);
    t[3] = end(d[0], d[1], d[2], d[3]);
  }
  template <class V>
  static void odd_inputs(const V (&d)[4], V (&t)[4]) {
    t[0] = odd_half(d[0], d[1], d[2]);
    t[1] = odd_two(d[0], d[1], d[2]);
    t[2] = one(d[0], d[1], d[2]);
    t[3] = end(d[0], d[1], d[2], d[3]);
  }
  template <class V>
  static void input(const V (&d)[8], V (&t)[8]) {
    join_halves<WinogradFull6>(d, t);
  }
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void input_rows(const Load& d, const Emit& emit) {
    V plus[N], minus[N];
    for (int j = 0; j < N; ++j)
      pair_half(d(1, j), d(2, j), d(3, j), d(4, j), d(5, j), d(6, j), plus[j], minus[j]);
    emit(1, plus);
    emit(2, minus);
    for (int j = 0; j < N; ++j)
      pair_two(d(1, j), d(2, j), d(3, j), d(4, j), d(5, j), d(6, j), plus[j], minus[j]);
    emit(3, plus);
    emit(4, minus);
    for (int j = 0; j < N; ++j)
      pair_one(d(1, j), d(2, j), d(3, j), d(4, j), d(5, j), d(6, j), plus[j], minus[j]);
    emit(5, plus);
    emit(6, minus);
    for (int j = 0; j < N; ++j) plus[j] = end(d(0, j), d(2, j), d(4, j), d(6, j));
    emit(0, plus);
    for (int j = 0; j < N; ++j) minus[j] = end(d(1, j), d(3, j), d(5, j), d(7, j));
    emit(7, minus);
  }

  // Even rows of A^T need the sums p of the pairs of points, odd rows their differences q.
  template <class V>
  static void even(V m0, V p1, V p2, V p3, V& y0, V& y2, V& y4) {
    y0 = m0 + ((p1 + p2) + p3);
    y2 = fma(V::set1(0.25f), p1, fma(V::set1(4.0f), p2, p3));
    y4 = fma(V::set1(0.0625f), p1, fma(V::set1(16.0f), p2, p3));
  }
  template <class V>
  static void odd(V q1, V q2, V q3, V m7, V& y1, V& y3, V& y5) {
    y1 = fma(V::set1(0.5f), q1, fma(V::set1(2.0f), q2, q3));
    y3 = fma(V::set1(0.125f), q1, fma(V::set1(8.0f), q2, q3));
    y5 = fma(V::set1(0.03125f), q1, fma(V::set1(32.0f), q2, q3 + m7));
  }
  template <class V>
  static void even_outputs(const V (&m)[4], V (&y)[3]) {
    even(m[3], m[0], m[1], m[2], y[0], y[1], y[2]);
  }
  template <class V>
  static void odd_outputs(const V (&m)[4], V (&y)[3]) {
    odd(m[0], m[1], m[2], m[3], y[0], y[1], y[2]);
  }
  template <class V>
  static void output(const V (&m)[8], V (&y)[6]) {
    even(m[0], m[1] + m[2], m[3] + m[4], m[5] + m[6], y[0], y[2], y[4]);
    odd(m[1] - m[2], m[3] - m[4], m[5] - m[6], m[7], y[1], y[3], y[5]);
  }
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void output_rows(const Load& m, const Emit& emit) {
    V first[N], second[N], third[N];
    for (int j = 0; j < N; ++j)
      even(m(0, j), m(1, j) + m(2, j), m(3, j) + m(4, j), m(5, j) + m(6, j), first[j], second[j],
           third[j]);
    emit(0, first);
    emit(2, second);
    emit(4, third);
    for (int j = 0; j < N; ++j)
      odd(m(1, j) - m(2, j), m(3, j) - m(4, j), m(5, j) - m(6, j), m(7, j), first[j], second[j],
          third[j]);
    emit(1, first);
    emit(3, second);
    emit(5, third);
  }
};

// Four outputs at the points 0, +-a, +-b, infinity of the full axis. The rows of B^T of a point p
// are those of F(4, 3) times p^2 - c^2.
struct WinogradShort6 : WinogradFourOutputs<Winograd6Points> {
  static constexpr int kOut = 4, kIn = 6, kStride = 1, kTile = 6, kFamily = 8, kPairs = 2;
  static constexpr int kPoints[6] = {0, 1, 2, 3, 4, 7};

  template <class V>
  static void even_inputs(const V (&d)[3], V (&t)[3]) {
    t[0] = fma(V::set1(3.0f), d[1], V::set1(-0.75f) * d[2]);
    t[1] = fma(V::set1(-0.75f), d[1], V::set1(3.0f) * d[2]);
    t[2] = fma(V::set1(4.25f), d[1], V::zero() - (d[0] + d[2]));
  }
  template <class V>
  static void odd_inputs(const V (&d)[3], V (&t)[3]) {
    t[0] = fma(V::set1(1.5f), d[0], V::set1(-0.375f) * d[1]);
    t[1] = fma(V::set1(-1.5f), d[0], V::set1(6.0f) * d[1]);
    t[2] = fma(V::set1(-4.25f), d[1], d[0] + d[2]);
  }
  template <class V>
  static void input(const V (&d)[6], V (&t)[6]) {
    join_halves<WinogradShort6>(d, t);
  }
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void input_rows(const Load& d, const Emit& emit) {
    WinogradColumns<WinogradShort6>::input_rows<V, N>(d, emit);
  }
};

struct Winograd6 {
  using Full = WinogradFull6;
  using Short = WinogradShort6;
};
struct Winograd4 {
  using Full = WinogradFull4;
  using Short = WinogradShort4;
};
struct Winograd2 {
  using Full = WinogradFull2;
  using Short = WinogradShort2;
};

}  // namespace activsparse
