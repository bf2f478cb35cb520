// The activation as a type, so that a loop over vectors holds no switch.
#pragma once
#include "kernels/vec_math.h"

namespace activsparse {

template <class V>
struct FinishNone {
  V operator()(V x) const { return x; }
};

template <class V>
struct FinishClip {
  V lo, hi;
  V operator()(V x) const { return clip(x, lo, hi); }
};

// The others cost so much more than a predicted branch that one type serves them all.
template <class V>
struct FinishCurve {
  Epilogue epilogue;
  V operator()(V x) const { return vec_activate<typename V::Arithmetic>(x, epilogue); }
};

// Calls body(finish) with the type that fits.
template <class V, class Body>
inline void with_finish(const Epilogue& e, const Body& body) {
  if (e.activation == Activation::kNone)
    body(FinishNone<V>{});
  else if (e.activation == Activation::kClip)
    body(FinishClip<V>{V::set1(e.lo), V::set1(e.hi)});
  else
    body(FinishCurve<V>{e});
}

}  // namespace activsparse
