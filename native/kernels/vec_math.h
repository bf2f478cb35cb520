// Vectorised activations.
#pragma once
#include "common/activation.h"

namespace activsparse {

// first + r (second + r (third + ...)), unrolled also where loops are not.
template <class V, class... Floats>
inline V polynomial(V r, float first, Floats... others) {
  if constexpr (sizeof...(others) == 0)
    return V::set1(first);
  else
    return fma(polynomial(r, others...), r, V::set1(first));
}

// exp(x) for finite x; results saturate at exp(-87) and exp(87).
// x = n ln2 + r with |r| <= ln2 / 2 (ln2 in two parts, so that r is exact to rounding); exp(r) is 1
// plus r times the polynomial of degree 4 with the smallest relative error of the whole, 9.1e-8; in
// total at most 3 units in the last place of float32 (2^-23) over [-87, 87].
template <class V>
inline V vec_exp(V x) {
  x = min(max(x, V::set1(-87.0f)), V::set1(87.0f));
  const V n = round_nearest(x * V::set1(1.44269504088896341f));
  V r = fma(n, V::set1(-0.693359375f), x);
  r = fma(n, V::set1(2.12194440e-4f), r);
  const V p = polynomial(r, 1.0f, 0x1.fffff6p-1f, 0x1.fffdc8p-2f, 0x1.555a9p-3f, 0x1.57393ep-5f,
                         0x1.0f9108p-7f);
  return scale_by_power(p, n);
}

// 1 / (1 + 2^t) with t = -x log2(e) = n + r, |r| <= 1/2, and vec_exp's polynomial in r ln2. That t
// keeps the rounding of log2(e) costs |x| / 9 units in the last place where sigmoid(x) is small,
// and saves three of the operations that the fused multiply-add's units do.
template <class V>
inline V vec_sigmoid(V x) {
  const V c = limit_magnitude(x, V::set1(87.0f));
  const V factor = V::set1(-1.44269504088896341f);
  const V n = round_nearest(c * factor);
  const V r = fma(c, factor, V::zero() - n);
  const V p = polynomial(r, 1.0f, 0x1.62e42ap-1f, 0x1.ebf9bep-3f, 0x1.c6b784p-5f, 0x1.3ce988p-7f,
                         0x1.5b9c6cp-10f);
  return reciprocal(V::set1(1.0f) + scale_by_power(p, n));
}

template <class V>
inline V vec_hard_sigmoid(V x) {
  return min(max(fma(x, V::set1(1.0f / 6), V::set1(0.5f)), V::zero()), V::set1(1.0f));
}

// tanh(x) = 2 sigmoid(2 x) - 1 loses digits near zero; there its Taylor polynomial of degree 9 is
// exact to rounding. Both are joined as p(c) + (s(x) - s(c)) with c = x cut to +-0.3.
template <class V>
inline V vec_tanh(V x) {
  const V c = min(max(x, V::set1(-0.3f)), V::set1(0.3f));
  const V square = c * c;
  const V tail = polynomial(square, -1.0f / 3, 2.0f / 15, -17.0f / 315, 62.0f / 2835);
  const V p = fma(tail * square, c, c);
  return fma(V::set1(2.0f), vec_sigmoid(x + x) - vec_sigmoid(c + c), p);
}

// For the activations that are worth a call of their own; a clip is done in registers where it is
// needed.
template <class V>
inline V vec_activate(V x, const Epilogue& e) {
  switch (e.activation) {
    case Activation::kNone:
      return x;
    case Activation::kClip:
      return min(max(x, V::set1(e.lo)), V::set1(e.hi));
    case Activation::kHardSwish:
      return x * vec_hard_sigmoid(x);
    case Activation::kSilu:
      return x * vec_sigmoid(x);
    case Activation::kSigmoid:
      return vec_sigmoid(x);
    case Activation::kHardSigmoid:
      return vec_hard_sigmoid(x);
    case Activation::kLeakyRelu:
      return fma(min(x, V::zero()), V::set1(e.lo), max(x, V::zero()));
    case Activation::kTanh:
      return vec_tanh(x);
  }
  return x;
}

}  // namespace activsparse
