// AVX-512 (F, BW, DQ, VL) vector type; see simd_scalar.h for the interface.
#pragma once
#include <immintrin.h>

#include "common/isa_enum.h"
#include "kernels/vector_sizes.h"

namespace activsparse {

struct VecAvx512 {
  using Element = float;
  using Arithmetic = VecAvx512;
  static constexpr Isa kIsa = Isa::kAvx512;
  static constexpr int kWidth = kAvx512Width;
  static constexpr float kVanishingExponent = -104.0f;
  static constexpr bool kMaxKeepsNan = false;
  __m512 v;
  static __mmask16 lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static VecAvx512 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static VecAvx512 load_half(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static VecAvx512 load_partial(const float* p, int n) {
    return {_mm512_maskz_loadu_ps(lanes(n), p)};
  }
  static VecAvx512 broadcast(const float* p) { return {_mm512_set1_ps(*p)}; }
  static VecAvx512 set1(float x) { return {_mm512_set1_ps(x)}; }
  static VecAvx512 zero() { return {_mm512_setzero_ps()}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_partial(float* p, int n) const { _mm512_mask_storeu_ps(p, lanes(n), v); }
  static void transpose(VecAvx512* b) {
    __m512 t[16], u[16];
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(b[i].v, b[i + 1].v);
      t[i + 1] = _mm512_unpackhi_ps(b[i].v, b[i + 1].v);
    }
    for (int i = 0; i < 16; i += 4)  // u[i + j]: column j of every 128-bit lane, rows i..i+3
      for (int j = 0; j < 2; ++j) {
        u[i + 2 * j] = _mm512_shuffle_ps(t[i + j], t[i + 2 + j], 0x44);
        u[i + 2 * j + 1] = _mm512_shuffle_ps(t[i + j], t[i + 2 + j], 0xee);
      }
    for (int j = 0; j < 4; ++j) {  // t: lanes 0 and 2, then 1 and 3, of rows 0..7 and 8..15
      t[j] = _mm512_shuffle_f32x4(u[j], u[4 + j], 0x88);
      t[4 + j] = _mm512_shuffle_f32x4(u[j], u[4 + j], 0xdd);
      t[8 + j] = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0x88);
      t[12 + j] = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0xdd);
    }
    for (int j = 0; j < 4; ++j) {
      b[j].v = _mm512_shuffle_f32x4(t[j], t[8 + j], 0x88);
      b[8 + j].v = _mm512_shuffle_f32x4(t[j], t[8 + j], 0xdd);
      b[4 + j].v = _mm512_shuffle_f32x4(t[4 + j], t[12 + j], 0x88);
      b[12 + j].v = _mm512_shuffle_f32x4(t[4 + j], t[12 + j], 0xdd);
    }
  }
  template <int K>
  VecAvx512 exchanged() const {
    static_assert(K == 1 || K == 2 || K == 4);
    if constexpr (K == 4) return {_mm512_shuffle_f32x4(v, v, 0xb1)};
    return {_mm512_permute_ps(v, K == 1 ? 0xb1 : 0x4e)};
  }
  void store_half(float* p) const { _mm256_storeu_ps(p, _mm512_castps512_ps256(v)); }
  friend VecAvx512 join_halves(VecAvx512 a, VecAvx512 b) {
    return {_mm512_mask_blend_ps(0xff00, a.v, b.v)};
  }
  friend VecAvx512 swap_halves(VecAvx512 a) { return {_mm512_shuffle_f32x4(a.v, a.v, 0x4e)}; }
  friend VecAvx512 operator+(VecAvx512 a, VecAvx512 b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend VecAvx512 operator-(VecAvx512 a, VecAvx512 b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend VecAvx512 operator*(VecAvx512 a, VecAvx512 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend VecAvx512 operator/(VecAvx512 a, VecAvx512 b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend VecAvx512 operator&(VecAvx512 a, VecAvx512 b) { return {_mm512_and_ps(a.v, b.v)}; }
  friend VecAvx512 fma(VecAvx512 a, VecAvx512 b, VecAvx512 c) {
    return {_mm512_fmadd_ps(a.v, b.v, c.v)};
  }
  friend VecAvx512 max(VecAvx512 a, VecAvx512 b) { return {_mm512_max_ps(a.v, b.v)}; }
  friend VecAvx512 min(VecAvx512 a, VecAvx512 b) { return {_mm512_min_ps(a.v, b.v)}; }
  friend VecAvx512 in_register(VecAvx512 a) {
    asm("" : "+v"(a.v));
    return a;
  }
  friend bool any_nan(VecAvx512 a) { return _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q) != 0; }
  friend VecAvx512 limit_number(VecAvx512 x, VecAvx512 lo, VecAvx512) {
    return {_mm512_range_ps(x.v, lo.v, 0b0010)};  // the lesser magnitude, the sign of x
  }
  friend VecAvx512 round_nearest(VecAvx512 a) {
    return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  friend VecAvx512 scale_by_power(VecAvx512 a, VecAvx512 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
  friend VecAvx512 sqrt(VecAvx512 a) { return {_mm512_sqrt_ps(a.v)}; }
  friend VecAvx512 reciprocal(VecAvx512 a) {  // 14 bits, doubled by one step of Newton's method
    const __mmask16 small = _mm512_cmp_ps_mask(a.v, _mm512_set1_ps(0x1p127f), _CMP_NGE_UQ);
    const __m512 r = _mm512_maskz_rcp14_ps(small, a.v);
    // In a register: one of two equal products fused with their difference would leave a rest.
    const __m512 rest = _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(2.0f));
    return in_register(VecAvx512{_mm512_mul_ps(r, rest)});
  }
};

}  // namespace activsparse
