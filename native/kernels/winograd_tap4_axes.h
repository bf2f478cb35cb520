// The Winograd transforms of an axis with 4 taps; interface in winograd_axes.h.
#pragma once
#include "kernels/winograd_axes.h"

namespace activsparse {

// Five outputs at the points of WinogradFull6: B^T depends on the points alone, and A^T lacks the
// last row but for infinity, which moves up.
struct WinogradFull5 : WinogradFull6 {
  static constexpr int kOut = 5, kTile = 5;

  template <class V>
  static void even(V m0, V p1, V p2, V p3, V m7, V& y0, V& y2, V& y4) {
    WinogradFull6::even(m0, p1, p2, p3, y0, y2, y4);
    y4 = y4 + m7;
  }
  template <class V>
  static void odd(V q1, V q2, V q3, V& y1, V& y3) {
    V unused;
    WinogradFull6::odd(q1, q2, q3, q3, y1, y3, unused);
  }
  template <class V>
  static void output(const V (&m)[8], V (&y)[5]) {
    even(m[0], m[1] + m[2], m[3] + m[4], m[5] + m[6], m[7], y[0], y[2], y[4]);
    odd(m[1] - m[2], m[3] - m[4], m[5] - m[6], y[1], y[3]);
  }
  template <class V, int N, class Load, class Emit>
  __attribute__((always_inline)) static void output_rows(const Load& m, const Emit& emit) {
    V first[N], second[N], third[N];
    for (int j = 0; j < N; ++j)
      even(m(0, j), m(1, j) + m(2, j), m(3, j) + m(4, j), m(5, j) + m(6, j), m(7, j), first[j],
           second[j], third[j]);
    emit(0, first);
    emit(2, second);
    emit(4, third);
    for (int j = 0; j < N; ++j)
      odd(m(1, j) - m(2, j), m(3, j) - m(4, j), m(5, j) - m(6, j), first[j], second[j]);
    emit(1, first);
    emit(3, second);
  }
};

// It has no short axis.
struct Winograd5 {
  using Full = WinogradFull5;
  using Short = WinogradFull5;
};

}  // namespace activsparse
