// AArch64 Advanced SIMD vector type; see simd_scalar.h for the interface.
#pragma once
#include <arm_neon.h>

#include "common/isa_enum.h"
#include "kernels/vector_sizes.h"

namespace activsparse {

struct VecNeon {
  static constexpr Isa kIsa = Isa::kNeon;
  static constexpr int kWidth = kNeonWidth;
  static constexpr float kVanishingExponent = -88.0f;
  static constexpr bool kMaxKeepsNan = true;
  float32x4_t v;
  static VecNeon load(const float* p) { return {vld1q_f32(p)}; }
  static VecNeon load_half(const uint16_t* p) {
    return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))};
  }
  static VecNeon load_partial(const float* p, int n) {
    float lanes[4] = {0, 0, 0, 0};
    for (int i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  static VecNeon broadcast(const float* p) { return {vld1q_dup_f32(p)}; }
  static VecNeon set1(float x) { return {vdupq_n_f32(x)}; }
  static VecNeon zero() { return {vdupq_n_f32(0.0f)}; }
  void store(float* p) const { vst1q_f32(p, v); }
  void store_partial(float* p, int n) const {
    float lanes[4];
    store(lanes);
    for (int i = 0; i < n; ++i) p[i] = lanes[i];
  }
  static void transpose(VecNeon* b) {
    const float32x4x2_t low = vtrnq_f32(b[0].v, b[1].v), high = vtrnq_f32(b[2].v, b[3].v);
    b[0].v = vcombine_f32(vget_low_f32(low.val[0]), vget_low_f32(high.val[0]));
    b[1].v = vcombine_f32(vget_low_f32(low.val[1]), vget_low_f32(high.val[1]));
    b[2].v = vcombine_f32(vget_high_f32(low.val[0]), vget_high_f32(high.val[0]));
    b[3].v = vcombine_f32(vget_high_f32(low.val[1]), vget_high_f32(high.val[1]));
  }
  template <int K>
  VecNeon exchanged() const {
    static_assert(K == 1 || K == 2);
    if constexpr (K == 1) return {vrev64q_f32(v)};
    return {vextq_f32(v, v, 2)};
  }
  friend VecNeon operator+(VecNeon a, VecNeon b) { return {vaddq_f32(a.v, b.v)}; }
  friend VecNeon operator-(VecNeon a, VecNeon b) { return {vsubq_f32(a.v, b.v)}; }
  friend VecNeon operator*(VecNeon a, VecNeon b) { return {vmulq_f32(a.v, b.v)}; }
  friend VecNeon operator/(VecNeon a, VecNeon b) { return {vdivq_f32(a.v, b.v)}; }
  friend VecNeon operator&(VecNeon a, VecNeon b) {
    return {
        vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.v), vreinterpretq_u32_f32(b.v)))};
  }
  friend VecNeon fma(VecNeon a, VecNeon b, VecNeon c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  friend VecNeon max(VecNeon a, VecNeon b) { return {vmaxq_f32(a.v, b.v)}; }
  friend VecNeon min(VecNeon a, VecNeon b) { return {vminq_f32(a.v, b.v)}; }
  friend VecNeon limit_number(VecNeon x, VecNeon lo, VecNeon hi) { return min(hi, max(lo, x)); }
  friend VecNeon round_nearest(VecNeon a) { return {vrndnq_f32(a.v)}; }
  friend VecNeon scale_by_power(VecNeon a, VecNeon n) {
    const int32x4_t biased = vaddq_s32(vcvtq_s32_f32(n.v), vdupq_n_s32(127));
    return {vmulq_f32(a.v, vreinterpretq_f32_s32(vshlq_n_s32(biased, 23)))};
  }
  friend VecNeon sqrt(VecNeon a) { return {vsqrtq_f32(a.v)}; }
  friend VecNeon reciprocal(VecNeon a) { return {vdivq_f32(vdupq_n_f32(1.0f), a.v)}; }
};

}  // namespace activsparse
