// A vector type of float32 whose memory is float16: what operators without long sums are templates
// over (elementwise.h, pool.h, activate.h). Loads widen, stores round; all arithmetic is V's.
#pragma once
#include "common/half.h"
#include "kernels/kernels.h"

namespace activsparse {

// `P`: the type of products, of halves_*.h.
template <class V, class P>
struct Halved : V {
  using Element = Half;
  using Arithmetic = V;
  using Products = P;
  static constexpr bool kMaxKeepsNan = true;

  Halved() = default;
  Halved(V v) : V(v) {}
  static Halved load(const Half* p) { return V::load_half(p); }
  static Halved load_partial(const Half* p, int n) {
    Half lanes[V::kWidth] = {};
    for (int i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  static Halved broadcast(const Half* p) { return V::set1(float_of(*p)); }
  static Halved set1(float x) { return V::set1(x); }
  static Halved zero() { return V::zero(); }
  void store(Half* p) const { V::narrow(p); }
  void store_partial(Half* p, int n) const {
    Half lanes[V::kWidth];
    store(lanes);
    for (int i = 0; i < n; ++i) p[i] = lanes[i];
  }
  friend Halved max(Halved a, Halved b) {
    const V &x = a, &y = b;
    if constexpr (V::kMaxKeepsNan)
      return max(x, y);
    else
      return any_nan(x) ? x : max(x, y);  // of a single lane
  }
};

}  // namespace activsparse
