// The thin vector type every kernel template is written over. All simd_*.h define the same
// interface:
//
//   V::kWidth                      lanes of float32
//   V::Element, V::Arithmetic      what load() reads, float; the type arithmetic gives, V itself
//   (halved.h has others)
//   V::kIsa                        the instruction set it is for
//   join_halves(a, b), swap_halves(a), store_half(p)  where there is half_gemm: lower half of a and
//   upper half of b; the two exchanged; the lower one alone
//   V::load / store                unaligned, kWidth floats
//   a.exchanged<K>()               lane l holds lane l ^ K of a, for K = 1, 2, 4 within kWidth
//   V::load_half                   kWidth numbers in float16, as float32
//   a.narrow(p)                    stores them as float16, where there are tensors of it
//   V::load_partial / store_partial  the first n lanes, 0 <= n <= kWidth; other lanes read as 0 /
//   are not touched
//   V::broadcast(p), V::set1(x), V::zero()
//   + - * /, fma(a, b, c) = a*b + c, a & b of the bits
//   max(a, b), min(a, b)           a NaN in b gives NaN, one in a may give b
//   V::kMaxKeepsNan                whether one in a gives NaN as well; where not there is
//   any_nan(a)                     whether any lane is NaN
//   in_register(a)                 a, of memory that is not read again for a second use
//   limit_number(x, lo, hi)        min(max(x, lo), hi), 0 < hi <= -lo; may stop at -lo in place of
//   hi, and at either of them where x is NaN
//   round_nearest(a)               to the nearest integer, |a| < 2^22, or NaN
//   scale_by_power(a, n)           a * 2^n for integral n, -126 <= n <= 127; at -127 or a * 0,
//   more than 2^127 a where n = 128; NaN where a and n are
//   sqrt(a)                        NaN where a is negative
//   reciprocal(a)                  1 / a to 2 units in the last place, 1 <= a < 2^126, or NaN; at
//   most 2^-126 above, and 0 where a is 1 + scale_by_power(., 128)
//   V::kVanishingExponent          of which the exponential by scale_by_power is 0
//
//   V::transpose(block)            block[i] lane j <-> block[j] lane i, block of kWidth vectors
//
// A type of another instruction set is only ever named in the target_*.cpp compiled for that set.
#pragma once
#include "common/half.h"
#include "common/isa_enum.h"

namespace activsparse {

struct VecScalar {
  using Element = float;
  using Arithmetic = VecScalar;
  static constexpr Isa kIsa = Isa::kScalar;
  static constexpr int kWidth = 1;
  static constexpr float kVanishingExponent = -88.0f;
  static constexpr bool kMaxKeepsNan = false;
  float v;
  static VecScalar load(const float* p) { return {*p}; }
  static VecScalar load_half(const Half* p) { return {float_of(*p)}; }
  static VecScalar load_partial(const float* p, int n) { return {n > 0 ? *p : 0.0f}; }
  static VecScalar broadcast(const float* p) { return {*p}; }
  static VecScalar set1(float x) { return {x}; }
  static VecScalar zero() { return {0.0f}; }
  void store(float* p) const { *p = v; }
  void narrow(Half* p) const { *p = half_of(v); }
  void store_partial(float* p, int n) const {
    if (n > 0) *p = v;
  }
  static void transpose(VecScalar*) {}
  friend VecScalar operator+(VecScalar a, VecScalar b) { return {a.v + b.v}; }
  friend VecScalar operator-(VecScalar a, VecScalar b) { return {a.v - b.v}; }
  friend VecScalar operator*(VecScalar a, VecScalar b) { return {a.v * b.v}; }
  friend VecScalar operator/(VecScalar a, VecScalar b) { return {a.v / b.v}; }
  friend VecScalar operator&(VecScalar a, VecScalar b) {
    unsigned x, y;
    __builtin_memcpy(&x, &a.v, sizeof x);
    __builtin_memcpy(&y, &b.v, sizeof y);
    x &= y;
    __builtin_memcpy(&a.v, &x, sizeof x);
    return a;
  }
  friend VecScalar fma(VecScalar a, VecScalar b, VecScalar c) { return {a.v * b.v + c.v}; }
  friend VecScalar max(VecScalar a, VecScalar b) { return {a.v > b.v ? a.v : b.v}; }
  friend VecScalar min(VecScalar a, VecScalar b) { return {a.v < b.v ? a.v : b.v}; }
  friend VecScalar in_register(VecScalar a) { return a; }
  friend bool any_nan(VecScalar a) { return a.v != a.v; }
  friend VecScalar limit_number(VecScalar x, VecScalar lo, VecScalar hi) {
    return min(hi, max(lo, x));
  }
  friend VecScalar round_nearest(VecScalar a) {
    constexpr float kUnits = 0x1.8p23f;  // its units in the last place are ones
    return {a.v + kUnits - kUnits};
  }
  friend VecScalar scale_by_power(VecScalar a, VecScalar n) {
    const unsigned bits = n.v == n.v ? static_cast<unsigned>(static_cast<int>(n.v) + 127) << 23 : 0;
    float power;
    __builtin_memcpy(&power, &bits, sizeof bits);
    return {a.v * power};
  }
  friend VecScalar sqrt(VecScalar a) { return {__builtin_sqrtf(a.v)}; }
  friend VecScalar reciprocal(VecScalar a) { return {1.0f / a.v}; }
};

}  // namespace activsparse
