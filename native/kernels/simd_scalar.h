// The thin vector type every kernel template is written over. All simd_*.h define the same
// interface:
//
//   V::kWidth                      lanes of float32
//   V::kHalves                     whether there is half_gemm, and with it
//   join_halves(a, b), swap_halves(a), store_half(p)  lower half of a and upper half of b; the two
//   exchanged; the lower one alone
//   V::load / store                unaligned, kWidth floats
//   V::load_partial / store_partial  the first n lanes, 0 <= n <= kWidth; other lanes read as 0 /
//   are not touched
//   V::broadcast(p), V::set1(x), V::zero()
//   + - * /, fma(a, b, c) = a*b + c
//   max(a, b), min(a, b)           a NaN in b gives NaN, one in a may give b
//   clip_positive(x, lo, hi)       min(max(x, lo), hi) where x is a number and +0 <= lo <= hi
//   limit_magnitude(x, bound)      min(max(x, -bound), bound) where x is a number and bound > 0
//   round_nearest(a)               to the nearest integer, |a| < 2^22
//   scale_by_power(a, n)           a * 2^n for integral n, -126 <= n <= 127
//   reciprocal(a)                  1 / a to 2 units in the last place, 2^-126 <= |a|, |1/a|
//
//   V::transpose(block)            block[i] lane j <-> block[j] lane i, block of kWidth vectors
//
// A type of another instruction set is only ever named in the target_*.cpp compiled for that set.
#pragma once

namespace activsparse {

struct VecScalar {
  static constexpr int kWidth = 1;
  static constexpr int kRegisters = 16;
  static constexpr bool kHalves = false;
  float v;
  static VecScalar load(const float* p) { return {*p}; }
  static VecScalar load_partial(const float* p, int n) { return {n > 0 ? *p : 0.0f}; }
  static VecScalar broadcast(const float* p) { return {*p}; }
  static VecScalar set1(float x) { return {x}; }
  static VecScalar zero() { return {0.0f}; }
  void store(float* p) const { *p = v; }
  void store_partial(float* p, int n) const {
    if (n > 0) *p = v;
  }
  static void transpose(VecScalar*) {}
  friend VecScalar operator+(VecScalar a, VecScalar b) { return {a.v + b.v}; }
  friend VecScalar operator-(VecScalar a, VecScalar b) { return {a.v - b.v}; }
  friend VecScalar operator*(VecScalar a, VecScalar b) { return {a.v * b.v}; }
  friend VecScalar operator/(VecScalar a, VecScalar b) { return {a.v / b.v}; }
  friend VecScalar fma(VecScalar a, VecScalar b, VecScalar c) { return {a.v * b.v + c.v}; }
  friend VecScalar max(VecScalar a, VecScalar b) { return {a.v > b.v ? a.v : b.v}; }
  friend VecScalar min(VecScalar a, VecScalar b) { return {a.v < b.v ? a.v : b.v}; }
  friend VecScalar clip_positive(VecScalar x, VecScalar lo, VecScalar hi) {
    return min(max(x, lo), hi);
  }
  friend VecScalar limit_magnitude(VecScalar x, VecScalar bound) {
    return min(max(x, zero() - bound), bound);
  }
  friend VecScalar round_nearest(VecScalar a) {
    return {static_cast<float>(static_cast<int>(a.v + (a.v < 0 ? -0.5f : 0.5f)))};
  }
  friend VecScalar scale_by_power(VecScalar a, VecScalar n) {
    const int bits = (static_cast<int>(n.v) + 127) << 23;
    float power;
    __builtin_memcpy(&power, &bits, sizeof bits);
    return {a.v * power};
  }
  friend VecScalar reciprocal(VecScalar a) { return {1.0f / a.v}; }
};

}  // namespace activsparse
