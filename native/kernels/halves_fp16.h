// Products in float16 by ARMv8.2's arithmetic; see halves_scalar.h for the interface.
#pragma once
#include <arm_neon.h>

#include "common/half.h"
#include "kernels/simd_neon.h"

namespace activsparse {

struct ProcessorWithFp16;

struct HalvesFp16 {
  static constexpr Isa kIsa = Isa::kNeon;
  static constexpr int kWidth = 8;
  using Floats = VecNeonOf<ProcessorWithFp16>;
  float16x8_t v;
  static HalvesFp16 load(const Half* p) { return {vreinterpretq_f16_u16(vld1q_u16(p))}; }
  static HalvesFp16 zero() { return {vreinterpretq_f16_u16(vdupq_n_u16(0))}; }
  friend HalvesFp16 fma(HalvesFp16 a, HalvesFp16 b, HalvesFp16 sum) {
    return {vfmaq_f16(sum.v, a.v, b.v)};
  }
  // A lane of a register: GCC loads it as a scalar, and no instruction repeats it.
  friend HalvesFp16 fma(const Half* x, HalvesFp16 w, HalvesFp16 sum) {
    return {vfmaq_n_f16(sum.v, w.v, *reinterpret_cast<const float16_t*>(x))};
  }
  static HalvesFp16 of(const Floats* parts) {
    return {vcvt_high_f16_f32(vcvt_f16_f32(parts[0].v), parts[1].v)};
  }
  Floats part(int i) const {
    return {i == 0 ? vcvt_f32_f16(vget_low_f16(v)) : vcvt_high_f32_f16(v)};
  }
  static HalvesFp16 set1(float x) { return {vdupq_n_f16(static_cast<float16_t>(x))}; }
  void store(Half* p) const { vst1q_u16(p, vreinterpretq_u16_f16(v)); }
  friend HalvesFp16 max(HalvesFp16 a, HalvesFp16 b) { return {vmaxq_f16(a.v, b.v)}; }
  friend HalvesFp16 min(HalvesFp16 a, HalvesFp16 b) { return {vminq_f16(a.v, b.v)}; }
};

}  // namespace activsparse
