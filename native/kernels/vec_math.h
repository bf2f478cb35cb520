// Vectorised activations.
#pragma once
#include "common/activation.h"
#include "kernels/vector_sizes.h"

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

// exp(r) for |r| <= ln2 / 2: 1 plus r times the polynomial of degree 4 with the smallest relative
// error of the whole, 9.1e-8.
template <class V>
inline V vec_exp_near_zero(V r) {
  return polynomial(r, 1.0f, 0x1.fffff6p-1f, 0x1.fffdc8p-2f, 0x1.555a9p-3f, 0x1.57393ep-5f,
                    0x1.0f9108p-7f);
}

// exp(x) for x <= 88, minus infinity included; NaN gives NaN. From -87.7 down it is 0, with
// AVX-512, which makes denormal numbers, from -104. x = n ln2 + r with |r| <= ln2 / 2 (ln2 in two
// parts, so that r is exact to rounding); in total at most 3 units in the last place of float32
// (2^-23) from -87 on.
template <class V>
inline V vec_exp(V x) {
  x = max(V::set1(V::kVanishingExponent), x);
  const V n = round_nearest(x * V::set1(1.44269504088896341f));
  V r = fma(n, V::set1(-0.693359375f), x);
  r = fma(n, V::set1(2.12194440e-4f), r);
  return scale_by_power(vec_exp_near_zero(r), n);
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

// exp(x) of any x: vec_exp, whose power of two comes in two halves, so that it may be infinite or
// denormal.
template <class V>
inline V vec_exp_of_any(V x) {
  x = clip(x, V::set1(-104.0f), V::set1(89.0f));
  const V n = round_nearest(x * V::set1(1.44269504088896341f));
  const V half = round_nearest(n * V::set1(0.5f));
  const V r = fma(n, V::set1(2.12194440e-4f), fma(n, V::set1(-0.693359375f), x));
  const V p = vec_exp_near_zero(r);
  return scale_by_power(scale_by_power(p, half), n - half);
}

// erf(x) = x P(x^2) / Q(x^2), both of degree 5, fitted for the smallest relative error (1.7e-8) up
// to 3.78 and to a little more than 1 at 4, from where on it is cut to 1 exactly; in total at most
// 3 units in the last place.
template <class V>
inline V vec_erf(V x) {
  const V c = clip(x, V::set1(-4.0f), V::set1(4.0f));
  const V square = c * c;
  const V p = polynomial(square, 0x1.20dd74p+0f, 0x1.83c7a4p-3f, 0x1.af2bc2p-5f, 0x1.e8717ep-9f,
                         0x1.2afef2p-12f, 0x1.1651dcp-19f);
  const V q = polynomial(square, 1.0f, 0x1.0094e6p-1f, 0x1.d1afcep-4f, 0x1.e7ee5p-7f,
                         0x1.2ed0b4p-10f, 0x1.41b042p-15f);
  return clip(c * p / q, V::set1(-1.0f), V::set1(1.0f));
}

// Of minus infinity NaN, as by ONNX's 0.5 x (1 + erf(x / sqrt(2))); beyond -5.66 exactly 0.
template <class V>
inline V vec_gelu(V x) {
  const V half = x * V::set1(0.5f);
  return fma(half, vec_erf(x * V::set1(0.70710678118654752f)), half);
}

// 0.5 x (1 + tanh(u)) = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
template <class V>
inline V vec_gelu_tanh(V x) {
  const V inner = fma(x * x, V::set1(0.0713548162726009f), V::set1(1.5957691216057308f));
  return x * cut_sigmoid(limit_number(x * inner, V::set1(kLeastLogit), V::set1(kMostLogit)));
}

// x tanh(log(1 + e^x)) = x w / (w + 2) with w = e^x (e^x + 2); from 20 on the quotient is 1.
template <class V>
inline V vec_mish(V x) {
  const V e = vec_exp(min(V::set1(20.0f), x));
  const V w = fma(e, e, e + e);
  return x * (w / (w + V::set1(2.0f)));
}

// alpha (e^x - 1) for x < 0, as 2 t / (1 - t) with t = tanh(x / 2), which keeps its digits near
// zero.
template <class V>
inline V vec_elu(V x, V alpha) {
  const V t = vec_tanh(min(V::zero(), x) * V::set1(0.5f));
  return fma(alpha, (t + t) / (V::set1(1.0f) - t), max(V::zero(), x));
}

// log(1 + e^x) = max(x, 0) + log(1 + y) with y = e^-|x|, the latter 2 artanh(s), s = y / (2 + y) <=
// 1/3, whose polynomial of degree 4 in s^2 has a relative error of 4.0e-9.
template <class V>
inline V vec_softplus(V x) {
  const V y = vec_exp(min(V::zero() - x, x));
  const V s = y / (V::set1(2.0f) + y);
  const V tail =
      polynomial(s * s, 2.0f, 0x1.5554ep-1f, 0x1.99daep-2f, 0x1.1e5108p-2f, 0x1.208bdp-2f);
  return fma(s, tail, max(V::zero(), x));
}

// f of every element, one after the other.
template <class V, class F>
inline V by_element(V x, const F& f) {
  float values[V::kWidth];
  x.store(values);
  for (float& value : values) value = f(value);
  return V::load(values);
}

// What the C library computes: functions that networks have once, at their end, if at all.
template <class V, class Body>
inline void with_library_activation(const Epilogue& e, const Body& body) {
  switch (e.activation) {
    case Activation::kLog:
      return body([](V x) { return by_element(x, [](float a) { return __builtin_logf(a); }); });
    case Activation::kSin:
      return body([](V x) { return by_element(x, [](float a) { return __builtin_sinf(a); }); });
    case Activation::kCos:
      return body([](V x) { return by_element(x, [](float a) { return __builtin_cosf(a); }); });
    case Activation::kFloor:
      return body([](V x) { return by_element(x, [](float a) { return __builtin_floorf(a); }); });
    case Activation::kCeil:
      return body([](V x) { return by_element(x, [](float a) { return __builtin_ceilf(a); }); });
    case Activation::kRound:
      return body(
          [](V x) { return by_element(x, [](float a) { return __builtin_nearbyintf(a); }); });
    case Activation::kTruncate:
      return body([](V x) { return by_element(x, [](float a) { return __builtin_truncf(a); }); });
    default:
      return body([](V x) {
        return by_element(x, [](float a) { return a > 0.0f ? 1.0f : a < 0.0f ? -1.0f : a; });
      });
  }
}

// Calls body(f) with the function of an activation that only some networks have.
template <class V, class Body>
inline void with_rare_activation(const Epilogue& e, const Body& body) {
  switch (e.activation) {
    case Activation::kGelu:
      return body([](V x) { return vec_gelu(x); });
    case Activation::kGeluTanh:
      return body([](V x) { return vec_gelu_tanh(x); });
    case Activation::kMish:
      return body([](V x) { return vec_mish(x); });
    case Activation::kElu:
      return body([alpha = V::set1(e.lo)](V x) { return vec_elu(x, alpha); });
    case Activation::kSoftplus:
      return body([](V x) { return vec_softplus(x); });
    case Activation::kErf:
      return body([](V x) { return vec_erf(x); });
    case Activation::kExp:
      return body([](V x) { return vec_exp_of_any(x); });
    case Activation::kSqrt:
      return body([](V x) { return sqrt(x); });
    case Activation::kAbs:
      return body([](V x) { return max(V::zero() - x, x); });
    case Activation::kReciprocal:
      return body([](V x) { return V::set1(1.0f) / x; });
    default:
      with_library_activation<V>(e, body);
  }
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
    default:
      if constexpr (!kCompact) with_rare_activation<V>(e, body);
  }
}

// One copy, however many kernels end with it.
template <class V>
__attribute__((noinline)) V rare_activate(V x, const Epilogue& e) {
  with_rare_activation<V>(e, [&](auto activation) { x = activation(x); });
  return x;
}

// For the activations that are worth a call of their own; a clip is done in registers where it is
// needed.
template <class V>
inline V vec_activate(V x, const Epilogue& e) {
  if constexpr (!kCompact)
    if (e.activation >= Activation::kGelu) return rare_activate(x, e);
  with_activation<V>(e, [&](auto activation) { x = activation(x); });
  return x;
}

}  // namespace activsparse
