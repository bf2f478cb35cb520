// Vector types of 256 bits: AVX2 + FMA, and the half-width one of AVX-512, which has twice the
// registers. See simd_scalar.h for the interface.
#pragma once
#include <immintrin.h>

#include "kernels/vector_sizes.h"

namespace activsparse {

template <class Sizes>
struct Vec256 {
  static constexpr int kWidth = Sizes::kWidth;
  static constexpr int kRegisters = Sizes::kRegisters;
  using Narrow = Vec256;
  __m256 v;
  static __m256i lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vec256 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec256 load_partial(const float* p, int n) { return {_mm256_maskload_ps(p, lanes(n))}; }
  static Vec256 broadcast(const float* p) { return {_mm256_broadcast_ss(p)}; }
  static Vec256 set1(float x) { return {_mm256_set1_ps(x)}; }
  static Vec256 zero() { return {_mm256_setzero_ps()}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_partial(float* p, int n) const { _mm256_maskstore_ps(p, lanes(n), v); }
  static void transpose(Vec256* b) {
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
  friend Vec256 operator+(Vec256 a, Vec256 b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec256 operator-(Vec256 a, Vec256 b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Vec256 operator*(Vec256 a, Vec256 b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Vec256 operator/(Vec256 a, Vec256 b) { return {_mm256_div_ps(a.v, b.v)}; }
  friend Vec256 fma(Vec256 a, Vec256 b, Vec256 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  friend Vec256 max(Vec256 a, Vec256 b) { return {_mm256_max_ps(a.v, b.v)}; }
  friend Vec256 min(Vec256 a, Vec256 b) { return {_mm256_min_ps(a.v, b.v)}; }
  friend Vec256 round_nearest(Vec256 a) {
    return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  friend Vec256 scale_by_power(Vec256 a, Vec256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
    return {_mm256_mul_ps(a.v, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)))};
  }
  friend Vec256 reciprocal(Vec256 a) { return set1(1.0f) / a; }
};

using VecAvx2 = Vec256<Avx2Sizes>;

}  // namespace activsparse
