// Products in float16 where the compiler has no such type: the definition that others are tested
// against. All halves_*.h define the same interface:
//
//   P::kWidth                lanes
//   P::Floats                the vector type of float32 that a part of the lanes is widened to
//   P::load(p), P::zero()
//   fma(x, w, sum)           sum + *x * w, rounded once, to float16; x points to one number
//   fma(a, b, sum)           the same of two vectors
//   P::of(parts)             of float32 vectors, rounded; a.part(i) is one of them, i a constant
//   P::set1(x), a.store(p), max(a, b), min(a, b)   as of Floats
#pragma once
#include "common/half.h"
#include "kernels/simd_scalar.h"

namespace activsparse {

struct HalvesScalar {
  static constexpr Isa kIsa = Isa::kScalar;
  static constexpr int kWidth = 1;
  using Floats = VecScalar;
  float v;
  static HalvesScalar load(const Half* p) { return {float_of(*p)}; }
  static HalvesScalar zero() { return {0.0f}; }
  // Products are exact in float32; a sum that is rounded to it first, and then to float16, is off
  // by at most 2^-13 more of half a unit.
  friend HalvesScalar fma(HalvesScalar a, HalvesScalar b, HalvesScalar sum) {
    return {float_of(half_of(sum.v + a.v * b.v))};
  }
  friend HalvesScalar fma(const Half* x, HalvesScalar w, HalvesScalar sum) {
    return fma(load(x), w, sum);
  }
  static HalvesScalar of(const VecScalar* parts) { return {float_of(half_of(parts->v))}; }
  VecScalar part(int) const { return {v}; }
  static HalvesScalar set1(float x) { return {float_of(half_of(x))}; }
  void store(Half* p) const { *p = half_of(v); }
  friend HalvesScalar max(HalvesScalar a, HalvesScalar b) { return {a.v > b.v ? a.v : b.v}; }
  friend HalvesScalar min(HalvesScalar a, HalvesScalar b) { return {a.v < b.v ? a.v : b.v}; }
};

}  // namespace activsparse
