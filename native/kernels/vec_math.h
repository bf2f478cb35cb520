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

// min(hi, max(lo, x)); NaN stays NaN, since max and min give their second operand then.
template <class V>
inline V clip(V x, V lo, V hi) {
  return min(hi, max(lo, x));
}

// exp(x) for x <= 0, minus infinity included; NaN gives NaN. From -87.7 down it is 0, with AVX-512,
// which makes denormal numbers, from -104.
// x = n ln2 + r with |r| <= ln2 / 2 (ln2 in two parts, so that r is exact to rounding); exp(r) is 1
// plus r times the polynomial of degree 4 with the smallest relative error of the whole, 9.1e-8; in
// total at most 3 units in the last place of float32 (2^-23) from -87 on.
template <class V>
inline V vec_exp(V x) {
  x = max(V::set1(V::kVanishingExponent), x);
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
//
// c is x, cut to [kLeastLogit, kMostLogit], where the sum has become infinite, or 1.
inline constexpr float kLeastLogit = -88.5f, kMostLogit = 87.0f;
template <class V>
inline V cut_sigmoid(V c) {
  const V factor = V::set1(-1.44269504088896341f);
  const V n = round_nearest(c * factor);
  const V r = fma(c, factor, V::zero() - n);
  const V p = polynomial(r, 1.0f, 0x1.62e42ap-1f, 0x1.ebf9bep-3f, 0x1.c6b784p-5f, 0x1.3ce988p-7f,
                         0x1.5b9c6cp-10f);
  return reciprocal(V::set1(1.0f) + scale_by_power(p, n));
}

template <class V>
inline V vec_sigmoid(V x) {
  return cut_sigmoid(clip(x, V::set1(kLeastLogit), V::set1(kMostLogit)));
}

// A NaN comes with the product, so that the sigmoid may lose it. Of minus infinity it is NaN, too,
// as by ONNX's x * Sigmoid(x).
template <class V>
inline V vec_silu(V x) {
  return x * cut_sigmoid(limit_number(x, V::set1(kLeastLogit), V::set1(kMostLogit)));
}

template <class V>
inline V vec_hard_sigmoid(V x) {
  return clip(fma(x, V::set1(1.0f / 6), V::set1(0.5f)), V::zero(), V::set1(1.0f));
}

// tanh(x) = 2 sigmoid(2 x) - 1 loses digits near zero; there its Taylor polynomial of degree 9 is
// exact to rounding. Both are joined as p(c) + (s(x) - s(c)) with c = x cut to +-0.3.
template <class V>
inline V vec_tanh(V x) {
  const V c = clip(x, V::set1(-0.3f), V::set1(0.3f));
  const V square = c * c;
  const V tail = polynomial(square, -1.0f / 3, 2.0f / 15, -17.0f / 315, 62.0f / 2835);
  const V p = fma(tail * square, c, c);
  return fma(V::set1(2.0f), vec_sigmoid(x + x) - cut_sigmoid(c + c), p);
}

// Calls body(f) with the function of an activation.
template <class V, class Body>
inline void with_activation(const Epilogue& e, const Body& body) {
  const V lo = V::set1(e.lo), hi = V::set1(e.hi);
  switch (e.activation) {
    case Activation::kNone:
      return body([](V x) { return x; });
    case Activation::kClip:
      return body([=](V x) { return clip(x, lo, hi); });
    case Activation::kHardSwish:
      return body([](V x) { return x * vec_hard_sigmoid(x); });
    case Activation::kSilu:
      return body([](V x) { return vec_silu(x); });
    case Activation::kSigmoid:
      return body([](V x) { return vec_sigmoid(x); });
    case Activation::kHardSigmoid:
      return body([](V x) { return vec_hard_sigmoid(x); });
    case Activation::kLeakyRelu:
      return body([=](V x) { return fma(min(V::zero(), x), lo, max(V::zero(), x)); });
    case Activation::kTanh:
      return body([](V x) { return vec_tanh(x); });
  }
}

// For the activations that are worth a call of their own; a clip is done in registers where it is
// needed.
template <class V>
inline V vec_activate(V x, const Epilogue& e) {
  with_activation<V>(e, [&](auto activation) { x = activation(x); });
  return x;
}

}  // namespace activsparse
