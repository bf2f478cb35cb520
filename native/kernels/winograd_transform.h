// The Winograd transforms, vectorised over channels.
//
// F(4, 3) interpolates at 0, +-5/8, +-3/2 and infinity: all constants are exact in fp32, and the
// error constant is a quarter of that of the textbook points 0, +-1, +-2 (docs/numerics.md). F(2,
// 3) uses 0, +-1 and infinity.
#pragma once
#include <cstdint>

#include "kernels/vec_math.h"
#include "kernels/winograd.h"

namespace activsparse {

// With points 0, +-a, +-b, infinity, after Cook and Toom; see docs/numerics.md for the matrices.
struct Winograd4 {
  static constexpr int kOut = 4, kIn = 6;
  static constexpr float kA = 0.625f, kB = 1.5f;
  static constexpr float kA2 = kA * kA, kB2 = kB * kB;

  // One row of B^T per pair of points +-s, q being the other point's square: (d4 - q d2) +- s (d3 -
  // q d1).
  template <class V>
  static void pair(float s, float q, V d1, V d2, V d3, V d4, V& plus, V& minus) {
    const V even = fma(V::set1(-q), d2, d4), odd = fma(V::set1(-q), d1, d3);
    plus = fma(V::set1(s), odd, even);
    minus = fma(V::set1(-s), odd, even);
  }
  // The rows of the points 0 and infinity: a^2 b^2 d0 - (a^2 + b^2) d2 + d4.
  template <class V>
  static V end(V d0, V d2, V d4) {
    return fma(V::set1(kA2 * kB2), d0, fma(V::set1(-(kA2 + kB2)), d2, d4));
  }
  template <class V>
  static void input(const V (&d)[6], V (&t)[6]) {
    t[0] = end(d[0], d[2], d[4]);
    pair(kA, kB2, d[1], d[2], d[3], d[4], t[1], t[2]);
    pair(kB, kA2, d[1], d[2], d[3], d[4], t[3], t[4]);
    t[5] = end(d[1], d[3], d[5]);
  }
  template <class V>
  static void output(const V (&m)[6], V (&y)[4]) {
    const V p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], t = m[3] - m[4];
    y[0] = m[0] + p + r;
    y[1] = fma(V::set1(kA), q, V::set1(kB) * t);
    y[2] = fma(V::set1(kA2), p, V::set1(kB2) * r);
    y[3] = fma(V::set1(kA * kA2), q, fma(V::set1(kB * kB2), t, m[5]));
  }
  // Rows of B^T d by the pairs that share work, so that at most 12 of the 36 intermediate vectors
  // live at a time; d(i, j) loads an element of the patch, emit(i, row) takes row i.
  template <class V, class Load, class Emit>
  static void rows(const Load& d, const Emit& emit) {
    V plus[6], minus[6];
    for (int j = 0; j < 6; ++j)
      pair(kA, kB2, d(1, j), d(2, j), d(3, j), d(4, j), plus[j], minus[j]);
    emit(1, plus);
    emit(2, minus);
    for (int j = 0; j < 6; ++j)
      pair(kB, kA2, d(1, j), d(2, j), d(3, j), d(4, j), plus[j], minus[j]);
    emit(3, plus);
    emit(4, minus);
    for (int j = 0; j < 6; ++j) plus[j] = end(d(0, j), d(2, j), d(4, j));
    emit(0, plus);
    for (int j = 0; j < 6; ++j) minus[j] = end(d(1, j), d(3, j), d(5, j));
    emit(5, minus);
  }
};

struct Winograd2 {
  static constexpr int kOut = 2, kIn = 4;

  template <class V>
  static void input(const V (&d)[4], V (&t)[4]) {
    t[0] = d[2] - d[0];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }
  template <class V>
  static void output(const V (&m)[4], V (&y)[2]) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] + m[3];
  }
  template <class V, class Load, class Emit>
  static void rows(const Load& d, const Emit& emit) {
    V row[4];
    for (int j = 0; j < 4; ++j) row[j] = d(2, j) - d(0, j);
    emit(0, row);
    for (int j = 0; j < 4; ++j) row[j] = d(1, j) + d(2, j);
    emit(1, row);
    for (int j = 0; j < 4; ++j) row[j] = d(2, j) - d(1, j);
    emit(2, row);
    for (int j = 0; j < 4; ++j) row[j] = d(3, j) - d(1, j);
    emit(3, row);
  }
};

template <class V, class W, class Load>
void winograd_input_vector(const Load& d, float* v, int64_t v_stride) {
  W::template rows<V>(d, [&](int i, const V(&row)[W::kIn]) {
    V t[W::kIn];
    W::input(row, t);
    for (int j = 0; j < W::kIn; ++j) t[j].store(v + (i * W::kIn + j) * v_stride);
  });
}

template <class V, class W>
void winograd_transform_input(const WinogradSource& s, int top, int left, float* v,
                              int64_t v_stride) {
  constexpr int n = W::kIn;
  const bool inside = top >= 0 && left >= 0 && top + n <= s.h && left + n <= s.w;
  const int whole = s.channels / V::kWidth * V::kWidth, rest = s.channels - whole;
  if (inside) {
    const int64_t row = s.w * s.stride;
    const float* x = s.x + top * row + left * s.stride;
    for (int c = 0; c < whole; c += V::kWidth)
      winograd_input_vector<V, W>(
          [&](int i, int j) { return V::load(x + c + i * row + j * s.stride); }, v + c, v_stride);
    if (rest)
      winograd_input_vector<V, W>(
          [&](int i, int j) { return V::load_partial(x + whole + i * row + j * s.stride, rest); },
          v + whole, v_stride);
    return;
  }
  const float* pixel[n][n];  // nullptr in the padding
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) {
      const int y = top + i, x = left + j;
      pixel[i][j] = y < 0 || x < 0 || y >= s.h || x >= s.w
                        ? nullptr
                        : s.x + (int64_t{y} * s.w + x) * s.stride;
    }
  for (int c = 0; c < whole; c += V::kWidth)
    winograd_input_vector<V, W>(
        [&](int i, int j) { return pixel[i][j] ? V::load(pixel[i][j] + c) : V::zero(); }, v + c,
        v_stride);
  if (rest)
    winograd_input_vector<V, W>(
        [&](int i, int j) {
          return pixel[i][j] ? V::load_partial(pixel[i][j] + whole, rest) : V::zero();
        },
        v + whole, v_stride);
}

// The tile's results of one vector of channels; store(i, j, value) takes them without bias.
template <class V, class W, class Store>
void winograd_output_vector(const float* m, int64_t m_stride, const Store& store) {
  V half[W::kOut][W::kIn];
  for (int j = 0; j < W::kIn; ++j) {
    V column[W::kIn], t[W::kOut];
    for (int i = 0; i < W::kIn; ++i) column[i] = V::load(m + (i * W::kIn + j) * m_stride);
    W::output(column, t);
    for (int i = 0; i < W::kOut; ++i) half[i][j] = t[i];
  }
  for (int i = 0; i < W::kOut; ++i) {
    V t[W::kOut];
    W::output(half[i], t);
    for (int j = 0; j < W::kOut; ++j) store(i, j, t[j]);
  }
}

template <class V, class W, class Activation>
void winograd_transform_output_as(const float* m, int vecs, const WinogradTarget& t,
                                  const Activation& activation) {
  constexpr uint32_t full = (1u << (W::kOut * W::kOut)) - 1;
  const int64_t m_stride = int64_t{vecs} * V::kWidth;
  for (int c = 0; c < t.channels; c += V::kWidth, m += V::kWidth) {
    const int lanes = t.channels - c < V::kWidth ? t.channels - c : V::kWidth;
    const bool partial = lanes < V::kWidth;
    const V bias = partial ? V::load_partial(t.bias + c, lanes) : V::load(t.bias + c);
    if (t.keep == full && !partial && !t.residual) {
      winograd_output_vector<V, W>(m, m_stride, [&](int i, int j, V value) {
        activation(value + bias).store(t.y + i * t.row + j * t.stride + c);
      });
    } else if (t.keep == full && !partial) {
      winograd_output_vector<V, W>(m, m_stride, [&](int i, int j, V value) {
        const V r = V::load(t.residual + i * t.residual_row + j * t.residual_stride + c);
        activation(value + bias + r).store(t.y + i * t.row + j * t.stride + c);
      });
    } else {
      winograd_output_vector<V, W>(m, m_stride, [&](int i, int j, V value) {
        if (!(t.keep >> (i * W::kOut + j) & 1)) return;
        value = value + bias;
        if (t.residual)
          value = value + V::load_partial(
                              t.residual + i * t.residual_row + j * t.residual_stride + c, lanes);
        float* y = t.y + i * t.row + j * t.stride + c;
        if (partial && !t.padded)
          activation(value).store_partial(y, lanes);
        else
          activation(value).store(y);
      });
    }
  }
}

template <class V, class W>
void winograd_transform_output(const float* m, int vecs, const WinogradTarget& t,
                               const Epilogue& epilogue) {
  if (epilogue.activation == Activation::kNone) {
    winograd_transform_output_as<V, W>(m, vecs, t, [](V x) { return x; });
  } else if (epilogue.activation == Activation::kClip) {
    const V lo = V::set1(epilogue.lo), hi = V::set1(epilogue.hi);
    winograd_transform_output_as<V, W>(m, vecs, t, [=](V x) { return min(max(x, lo), hi); });
  } else {
    winograd_transform_output_as<V, W>(m, vecs, t, [&](V x) { return vec_activate(x, epilogue); });
  }
}

}  // namespace activsparse
