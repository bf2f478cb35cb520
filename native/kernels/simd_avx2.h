// AVX2 + FMA vector type; see simd_scalar.h for the interface.
#pragma once
#include <immintrin.h>

#include "common/isa_enum.h"
#include "kernels/vector_sizes.h"

namespace activsparse {

struct VecAvx2 {
  using Element = float;
  using Arithmetic = VecAvx2;
  static constexpr Isa kIsa = Isa::kAvx2;
  static constexpr int kWidth = kAvx2Width;
  static constexpr float kVanishingExponent = -88.0f;
  static constexpr bool kMaxKeepsNan = false;
  __m256 v;
  static __m256i lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static VecAvx2 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static VecAvx2 load_half(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static VecAvx2 load_partial(const float* p, int n) { return {_mm256_maskload_ps(p, lanes(n))}; }
  static VecAvx2 broadcast(const float* p) { return {_mm256_broadcast_ss(p)}; }
  static VecAvx2 set1(float x) { return {_mm256_set1_ps(x)}; }
  static VecAvx2 zero() { return {_mm256_setzero_ps()}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_partial(float* p, int n) const { _mm256_maskstore_ps(p, lanes(n), v); }
  static void transpose(VecAvx2* b) {
    __m256 pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
      pairs[i] = _mm256_unpacklo_ps(b[i].v, b[i + 1].v);
      pairs[i + 1] = _mm256_unpackhi_ps(b[i].v, b[i + 1].v);
    }
    for (int i = 0; i < 8; i += 4)
      for (int j = 0; j < 2; ++j) {
        fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0x44);
        fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0xee);
      }
    for (int j = 0; j < 4; ++j) {
      b[j].v = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20);
      b[4 + j].v = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31);
    }
  }
  template <int K>
  VecAvx2 exchanged() const {
    static_assert(K == 1 || K == 2 || K == 4);
    if constexpr (K == 4) return {_mm256_permute2f128_ps(v, v, 0x01)};
    return {_mm256_permute_ps(v, K == 1 ? 0xb1 : 0x4e)};
  }
  friend VecAvx2 operator+(VecAvx2 a, VecAvx2 b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend VecAvx2 operator-(VecAvx2 a, VecAvx2 b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend VecAvx2 operator*(VecAvx2 a, VecAvx2 b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend VecAvx2 operator/(VecAvx2 a, VecAvx2 b) { return {_mm256_div_ps(a.v, b.v)}; }
  friend VecAvx2 operator&(VecAvx2 a, VecAvx2 b) { return {_mm256_and_ps(a.v, b.v)}; }
  friend VecAvx2 fma(VecAvx2 a, VecAvx2 b, VecAvx2 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  friend VecAvx2 max(VecAvx2 a, VecAvx2 b) { return {_mm256_max_ps(a.v, b.v)}; }
  friend VecAvx2 min(VecAvx2 a, VecAvx2 b) { return {_mm256_min_ps(a.v, b.v)}; }
  friend VecAvx2 in_register(VecAvx2 a) {
    asm("" : "+x"(a.v));
    return a;
  }
  friend bool any_nan(VecAvx2 a) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)) != 0;
  }
  friend VecAvx2 limit_number(VecAvx2 x, VecAvx2 lo, VecAvx2 hi) { return min(hi, max(lo, x)); }
  friend VecAvx2 round_nearest(VecAvx2 a) {
    return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  friend VecAvx2 scale_by_power(VecAvx2 a, VecAvx2 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
    return {_mm256_mul_ps(a.v, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)))};
  }
  friend VecAvx2 sqrt(VecAvx2 a) { return {_mm256_sqrt_ps(a.v)}; }
  friend VecAvx2 reciprocal(VecAvx2 a) { return set1(1.0f) / a; }
};

}  // namespace activsparse
