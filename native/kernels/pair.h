// Two neighbouring vectors as one, for kernels that take both through the same pointers and
// branches.
#pragma once

namespace activsparse {

template <class V>
struct Pair {
  static constexpr int kWidth = 2 * V::kWidth;
  V low, high;
  static Pair load(const float* p) { return {V::load(p), V::load(p + V::kWidth)}; }
  static Pair set1(float x) { return {V::set1(x), V::set1(x)}; }
  void store(float* p) const {
    low.store(p);
    high.store(p + V::kWidth);
  }
  friend Pair operator+(Pair a, Pair b) { return {a.low + b.low, a.high + b.high}; }
  friend Pair fma(Pair a, Pair b, Pair c) {
    return {fma(a.low, b.low, c.low), fma(a.high, b.high, c.high)};
  }
  friend Pair max(Pair a, Pair b) { return {max(a.low, b.low), max(a.high, b.high)}; }
  friend Pair min(Pair a, Pair b) { return {min(a.low, b.low), min(a.high, b.high)}; }
};

}  // namespace activsparse
