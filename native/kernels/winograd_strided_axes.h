// The Winograd transforms of a 3-tap axis of stride 2; interface in winograd_axes.h.
//
// Output i is w0 x[2i] + w1 x[2i+1] + w2 x[2i+2]: a convolution of stride 1 by (w0, w2) over the
// inputs with even index, which F(kOut, 2) computes in kOut + 1 products, and one by w1 over the
// others, which needs no transform. Their points follow one another, so that both are one bilinear
// algorithm with 2 kOut + 1 products in place of 3 kOut, and the sum of the two costs nothing
// extra.
#pragma once
#include "kernels/winograd_axes.h"

namespace activsparse {

// Points +-a, +-b, infinity: those of WinogradFull4 without 0, so the same rows, one input earlier.
struct WinogradStridedFull4 {
  static constexpr float kA = 0.375f, kB = 1.375f;
  static constexpr float kA2 = kA * kA, kB2 = kB * kB;
  static constexpr int kOut = 4, kIn = 9, kStride = 2, kTile = 4, kFamily = 9;
  static constexpr int kPoints[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};

  template <class V>
  static V end(V d0, V d4, V d8) {
    return fma(V::set1(kA2 * kB2), d0, fma(V::set1(-(kA2 + kB2)), d4, d8));
  }
  template <class V>
  static void input(const V (&d)[9], V (&t)[9]) {
    WinogradFull4::pair(kA, kB2, d[0], d[2], d[4], d[6], t[0], t[1]);
    WinogradFull4::pair(kB, kA2, d[0], d[2], d[4], d[6], t[2], t[3]);
    t[4] = end(d[0], d[4], d[8]);
    for (int i = 0; i < 4; ++i) t[5 + i] = d[2 * i + 1];
  }
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void input_rows(const Load& d, const Emit& emit) {
    V first[N], second[N];
    for (int j = 0; j < N; ++j)
      WinogradFull4::pair(kA, kB2, d(0, j), d(2, j), d(4, j), d(6, j), first[j], second[j]);
    emit(0, first);
    emit(1, second);
    for (int j = 0; j < N; ++j)
      WinogradFull4::pair(kB, kA2, d(0, j), d(2, j), d(4, j), d(6, j), first[j], second[j]);
    emit(2, first);
    emit(3, second);
    for (int j = 0; j < N; ++j) first[j] = end(d(0, j), d(4, j), d(8, j));
    emit(4, first);
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < N; ++j) first[j] = d(2 * i + 1, j);
      emit(5 + i, first);
    }
  }

  // Rows 0 and 2 of A^T need the sums p, r of the pairs of points, rows 1 and 3 their differences
  // q, t; e are the untransformed products.
  template <class V>
  static void even(V p, V r, V e0, V e2, V& y0, V& y2) {
    y0 = (p + r) + e0;
    y2 = fma(V::set1(kA2), p, fma(V::set1(kB2), r, e2));
  }
  template <class V>
  static void odd(V q, V t, V end, V e1, V e3, V& y1, V& y3) {
    y1 = fma(V::set1(kA), q, fma(V::set1(kB), t, e1));
    y3 = fma(V::set1(kA * kA2), q, fma(V::set1(kB * kB2), t, end + e3));
  }
  template <class V>
  static void output(const V (&m)[9], V (&y)[4]) {
    even(m[0] + m[1], m[2] + m[3], m[5], m[7], y[0], y[2]);
    odd(m[0] - m[1], m[2] - m[3], m[4], m[6], m[8], y[1], y[3]);
  }
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void output_rows(const Load& m, const Emit& emit) {
    V first[N], second[N];
    for (int j = 0; j < N; ++j)
      even(m(0, j) + m(1, j), m(2, j) + m(3, j), m(5, j), m(7, j), first[j], second[j]);
    emit(0, first);
    emit(2, second);
    for (int j = 0; j < N; ++j)
      odd(m(0, j) - m(1, j), m(2, j) - m(3, j), m(4, j), m(6, j), m(8, j), first[j], second[j]);
    emit(1, first);
    emit(3, second);
  }
};

// Two outputs at the points +-a, infinity; the finite rows times a^2 - b^2.
struct WinogradStridedShort4 : WinogradColumns<WinogradStridedShort4> {
  static constexpr int kOut = 2, kIn = 5, kStride = 2, kTile = 4, kFamily = 9;
  static constexpr int kPoints[5] = {0, 1, 4, 5, 6};
  static constexpr float kA = WinogradStridedFull4::kA, kA2 = WinogradStridedFull4::kA2;

  template <class V>
  static void input(const V (&d)[5], V (&t)[5]) {
    constexpr float scale = kA2 - WinogradStridedFull4::kB2;
    const V even = V::set1(scale) * d[2], odd = V::set1(scale * kA) * d[0];
    t[0] = even + odd;
    t[1] = even - odd;
    t[2] = fma(V::set1(-kA2), d[0], d[4]);
    t[3] = d[1];
    t[4] = d[3];
  }
  template <class V>
  static void output(const V (&m)[5], V (&y)[2]) {
    y[0] = (m[0] + m[1]) + m[3];
    y[1] = fma(V::set1(kA), m[0] - m[1], m[2] + m[4]);
  }
};

// Points 0, 1, infinity.
struct WinogradStridedFull2 : WinogradColumns<WinogradStridedFull2> {
  static constexpr int kOut = 2, kIn = 5, kStride = 2, kTile = 2, kFamily = 5;
  static constexpr int kPoints[5] = {0, 1, 2, 3, 4};

  template <class V>
  static void input(const V (&d)[5], V (&t)[5]) {
    t[0] = d[2] - d[0];
    t[1] = d[2];
    t[2] = d[4] - d[2];
    t[3] = d[1];
    t[4] = d[3];
  }
  template <class V>
  static void output(const V (&m)[5], V (&y)[2]) {
    y[0] = (m[0] + m[1]) + m[3];
    y[1] = (m[1] + m[2]) + m[4];
  }
};

// One output at the points 0, infinity; the row of 0 times -1.
struct WinogradStridedShort2 : WinogradColumns<WinogradStridedShort2> {
  static constexpr int kOut = 1, kIn = 3, kStride = 2, kTile = 2, kFamily = 5;
  static constexpr int kPoints[3] = {0, 2, 3};

  template <class V>
  static void input(const V (&d)[3], V (&t)[3]) {
    t[0] = V::zero() - d[0];
    t[1] = d[2];
    t[2] = d[1];
  }
  template <class V>
  static void output(const V (&m)[3], V (&y)[1]) {
    y[0] = m[0] + m[1] + m[2];
  }
};

struct WinogradStrided4 {
  using Full = WinogradStridedFull4;
  using Short = WinogradStridedShort4;
};
struct WinogradStrided2 {
  using Full = WinogradStridedFull2;
  using Short = WinogradStridedShort2;
};

}  // namespace activsparse
