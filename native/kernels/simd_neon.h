// AArch64 Advanced SIMD vector type; see simd_scalar.h for the interface.
#pragma once
#include <arm_neon.h>

#include "common/half.h"
#include "common/isa_enum.h"
#include "kernels/vector_sizes.h"

namespace activsparse {

// `Processor`: what the code that uses it is compiled for, so that none of it is taken for what any
// other may run.
template <class Processor>
struct VecNeonOf {
  using Element = float;
  using Arithmetic = VecNeonOf;
  static constexpr Isa kIsa = Isa::kNeon;
  static constexpr int kWidth = kNeonWidth;
  static constexpr float kVanishingExponent = -88.0f;
  static constexpr bool kMaxKeepsNan = true;
  float32x4_t v;
  static VecNeonOf load(const float* p) { return {vld1q_f32(p)}; }
  static VecNeonOf load_half(const uint16_t* p) {
    return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))};
  }
  static VecNeonOf load_partial(const float* p, int n) {
    float lanes[4] = {0, 0, 0, 0};
    for (int i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  static VecNeonOf broadcast(const float* p) { return {vld1q_dup_f32(p)}; }
  static VecNeonOf set1(float x) { return {vdupq_n_f32(x)}; }
  static VecNeonOf zero() { return {vdupq_n_f32(0.0f)}; }
  void store(float* p) const { vst1q_f32(p, v); }
  void narrow(Half* p) const { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
  void store_partial(float* p, int n) const {
    float lanes[4];
    store(lanes);
    for (int i = 0; i < n; ++i) p[i] = lanes[i];
  }
  static void transpose(VecNeonOf* b) {
    const float32x4x2_t low = vtrnq_f32(b[0].v, b[1].v), high = vtrnq_f32(b[2].v, b[3].v);
    b[0].v = vcombine_f32(vget_low_f32(low.val[0]), vget_low_f32(high.val[0]));
    b[1].v = vcombine_f32(vget_low_f32(low.val[1]), vget_low_f32(high.val[1]));
    b[2].v = vcombine_f32(vget_high_f32(low.val[0]), vget_high_f32(high.val[0]));
    b[3].v = vcombine_f32(vget_high_f32(low.val[1]), vget_high_f32(high.val[1]));
  }
  template <int K>
  VecNeonOf exchanged() const {
    static_assert(K == 1 || K == 2);
    if constexpr (K == 1) return {vrev64q_f32(v)};
    return {vextq_f32(v, v, 2)};
  }
  friend VecNeonOf operator+(VecNeonOf a, VecNeonOf b) { return {vaddq_f32(a.v, b.v)}; }
  friend VecNeonOf operator-(VecNeonOf a, VecNeonOf b) { return {vsubq_f32(a.v, b.v)}; }
  friend VecNeonOf operator*(VecNeonOf a, VecNeonOf b) { return {vmulq_f32(a.v, b.v)}; }
  friend VecNeonOf operator/(VecNeonOf a, VecNeonOf b) { return {vdivq_f32(a.v, b.v)}; }
  friend VecNeonOf operator&(VecNeonOf a, VecNeonOf b) {
    return {
        vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.v), vreinterpretq_u32_f32(b.v)))};
  }
  friend VecNeonOf fma(VecNeonOf a, VecNeonOf b, VecNeonOf c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  friend VecNeonOf max(VecNeonOf a, VecNeonOf b) { return {vmaxq_f32(a.v, b.v)}; }
  friend VecNeonOf min(VecNeonOf a, VecNeonOf b) { return {vminq_f32(a.v, b.v)}; }
  friend VecNeonOf limit_number(VecNeonOf x, VecNeonOf lo, VecNeonOf hi) {
    return min(hi, max(lo, x));
  }
  friend VecNeonOf round_nearest(VecNeonOf a) { return {vrndnq_f32(a.v)}; }
  friend VecNeonOf scale_by_power(VecNeonOf a, VecNeonOf n) {
    const int32x4_t biased = vaddq_s32(vcvtq_s32_f32(n.v), vdupq_n_s32(127));
    return {vmulq_f32(a.v, vreinterpretq_f32_s32(vshlq_n_s32(biased, 23)))};
  }
  friend VecNeonOf sqrt(VecNeonOf a) { return {vsqrtq_f32(a.v)}; }
  friend VecNeonOf reciprocal(VecNeonOf a) { return {vdivq_f32(vdupq_n_f32(1.0f), a.v)}; }
};

struct AnyProcessor;
using VecNeon = VecNeonOf<AnyProcessor>;

}  // namespace activsparse
