// Bytes in NEON: products of quads by dot products (sdot) where the processor has them, else by
// multiplications to 16 bits.
//
// There is no product of uint8 by int8. Activations are lowered by 128 and so become int8, and
// operators start sums from as much more (`lowered` in bytes.h).
#pragma once
#include <cstdint>

#include "kernels/bytes.h"
#include "kernels/simd_neon.h"

namespace activsparse {

// What both have in common. A quad is four bytes of each of 4 lanes.
struct BytesNeonBase {
  using Float = VecNeon;
  using Quads = uint8x16_t;
  static constexpr Isa kIsa = Isa::kNeon;
  static constexpr int kWidth = kNeonWidth;
  static constexpr bool kOffsets = false;
  static constexpr int kOutputsAtOnce = 4;  // of depthwise products: sums of four vectors each
  static constexpr bool kOwnSteps = true;
  static constexpr bool kWords = false;
  static constexpr int kLowered = 128;

  static Quads lowered(Quads x) { return veorq_u8(x, vdupq_n_u8(0x80)); }
  static Quads broadcast(const uint8_t* p) {
    uint32_t quad;
    __builtin_memcpy(&quad, p, sizeof(quad));
    return vreinterpretq_u8_u32(vdupq_n_u32(quad));
  }
  template <int kLane>
  static int8x16_t quad_of(Quads x) {
    return vreinterpretq_s8_u32(vdupq_laneq_u32(vreinterpretq_u32_u8(x), kLane));
  }
  using Weights = int8x16_t;
  static Weights load_weights(const int8_t* w) { return vld1q_s8(w); }

  static int32x4_t round(Float v) { return vcvtnq_s32_f32(v.v); }
  static uint32x4_t load4(const uint8_t* p, int lanes) {
    uint32_t bytes = 0;
    __builtin_memcpy(&bytes, p, static_cast<unsigned>(lanes));
    const uint8x8_t x = vreinterpret_u8_u32(vdup_n_u32(bytes));
    return vmovl_u16(vget_low_u16(vmovl_u8(x)));
  }
  static Float load_u8(const uint8_t* p, int lanes) {
    return {vcvtq_f32_u32(lanes == kWidth ? load4(p, kWidth) : load4(p, lanes))};
  }
  static void accumulate(int32_t* sums, const uint8_t* p) {
    vst1q_s32(sums, vaddq_s32(vld1q_s32(sums), vreinterpretq_s32_u32(load4(p, kWidth))));
  }

  static void store_u8(uint8_t* p, Float v, int zero, int lanes) {
    const uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(vqmovun_s16(words(v, v, zero))), 0);
    __builtin_memcpy(p, &bytes, static_cast<unsigned>(lanes));
  }
  static Quads load_bytes(const uint8_t* p, int count) {
    if (count >= 16) return vld1q_u8(p);
    uint8_t bytes[16] = {};
    __builtin_memcpy(bytes, p, static_cast<unsigned>(count));
    return vld1q_u8(bytes);
  }
  static void store_bytes(uint8_t* p, Quads v, int count) {
    if (count >= 16) return vst1q_u8(p, v);
    uint8_t bytes[16];
    vst1q_u8(bytes, v);
    __builtin_memcpy(p, bytes, static_cast<unsigned>(count));
  }
  // Bytes of two taps side by side, and quads of two such pairs.
  struct Pairs {
    uint16x8_t low, high;
  };
  static Pairs pairs(Quads x, Quads y) {
    return {vreinterpretq_u16_u8(vzip1q_u8(x, y)), vreinterpretq_u16_u8(vzip2q_u8(x, y))};
  }
  static void interleave(const Pairs& a, const Pairs& b, Quads* q) {
    q[0] = lowered(vreinterpretq_u8_u16(vzip1q_u16(a.low, b.low)));
    q[1] = lowered(vreinterpretq_u8_u16(vzip2q_u16(a.low, b.low)));
    q[2] = lowered(vreinterpretq_u8_u16(vzip1q_u16(a.high, b.high)));
    q[3] = lowered(vreinterpretq_u8_u16(vzip2q_u16(a.high, b.high)));
  }
  static constexpr int kTapVectors = 1;
  static void store_taps(uint8_t* p, Quads q) { vst1q_u8(p, q); }
  using Taps = uint8x16_t;
  static Taps load_taps(const uint8_t* p) { return vld1q_u8(p); }
  static void keep(Taps&) {}

  // Two vectors of numbers within 32 bits. Packing saturates: what is left of bounds are
  // comparisons of all bytes.
  static int16x8_t words(Float a, Float b, int zero) {
    return vqaddq_s16(vcombine_s16(vqmovn_s32(round(a)), vqmovn_s32(round(b))),
                      vdupq_n_s16(static_cast<int16_t>(zero)));
  }
  static Quads packed(const Float* v, int lo, int zero) {
    const uint8x8_t a = vqmovun_s16(words(v[0], v[1], zero));
    const uint8x8_t b = vqmovun_s16(words(v[2], v[3], zero));
    return vmaxq_u8(vcombine_u8(a, b), vdupq_n_u8(static_cast<uint8_t>(lo)));
  }
  static void store_interleaved(uint8_t* p, const Float* v, int lo, int zero, int count) {
    store_bytes(p, packed(v, lo, zero), count);
  }
  // Of numbers within 32 bits, which need no bounds before they are packed.
  static void store_bounded(uint8_t* p, const Float* v, int lo, int hi, int zero, int count) {
    store_bytes(p, vminq_u8(packed(v, lo, zero), vdupq_n_u8(static_cast<uint8_t>(hi))), count);
  }
  // Rows of N vectors, the last of which has so many lanes, within bounds.
  template <int N>
  struct Row {
    static constexpr bool kTwo = false;
    int lo, hi, zero, lanes;
    Row(int least, int most, int zero_point, int last)
        : lo(least), hi(most), zero(zero_point), lanes(last) {}
    void store(uint8_t* p, const Float* v) const {
      const Float all[4] = {v[0], v[N > 1 ? 1 : 0], v[N > 2 ? 2 : 0], v[N - 1]};
      const Quads bytes = vminq_u8(packed(all, lo, zero), vdupq_n_u8(static_cast<uint8_t>(hi)));
      if (lanes < kWidth) return store_bytes(p, bytes, kWidth * (N - 1) + lanes);
      if (N == 4) return vst1q_u8(p, bytes);
      if (N > 1) vst1_u8(p, vget_low_u8(bytes));
      if (N % 2 == 0) return;
      const uint32_t four = vgetq_lane_u32(vreinterpretq_u32_u8(bytes), N - 1);
      __builtin_memcpy(p + kWidth * (N - 1), &four, sizeof(four));
    }
  };
  static Quads max_bytes(Quads a, Quads b) { return vmaxq_u8(a, b); }

  // Four lookups of 64 entries each: what lies outside of one's is left to the others.
  static constexpr bool kLooksUp = true;
  struct Table {
    uint8x16x4_t of[4];
  };
  static Table load_table(const uint8_t* p) {
    return {{vld1q_u8_x4(p), vld1q_u8_x4(p + 64), vld1q_u8_x4(p + 128), vld1q_u8_x4(p + 192)}};
  }
  static Quads look_up(const Table& table, Quads x) {
    Quads y = vqtbl4q_u8(table.of[0], x);
#pragma GCC unroll 3
    for (int i = 1; i < 4; ++i)
      y = vqtbx4q_u8(y, table.of[i], vsubq_u8(x, vdupq_n_u8(static_cast<uint8_t>(64 * i))));
    return y;
  }
};

#ifdef __ARM_FEATURE_DOTPROD
struct BytesDotprod : BytesNeonBase {
  using Sum = int32x4_t;
  static constexpr int kLoweredOdd = kLowered;

  static Sum load(const int32_t* p) { return vld1q_s32(p); }
  static Float to_float(Sum s) { return {vcvtq_f32_s32(s)}; }
  static Sum dot(Sum sum, Quads x, Weights w) { return vdotq_s32(sum, w, vreinterpretq_s8_u8(x)); }
  static Sum tap_dot(Sum sum, Taps quads, Taps weights) {
    return dot(sum, quads, vreinterpretq_s8_u8(weights));
  }

  static constexpr int rows_at_once(int) { return kMaxTileRows; }
  template <int kLane, int R, int N>
  __attribute__((always_inline)) static void step(const int8_t* w, const Quads (&x)[R],
                                                  Sum (&sums)[R][N]) {
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      const Weights weights = load_weights(w + 4 * v * kWidth);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
        sums[r][v] = vdotq_laneq_s32(sums[r][v], weights, vreinterpretq_s8_u8(x[r]), kLane);
    }
  }
  // Four steps at a time, as the quads of each row then are one load, and lanes of a register.
  template <int R, int N>
  __attribute__((always_inline)) static void add_steps(const int8_t* w, const uint8_t* const* rows,
                                                       int steps, Sum (&sums)[R][N]) {
    constexpr int kStep = 4 * N * kWidth;
    const uint8_t* x[R];
    Quads quads[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) x[r] = rows[r];
    int s = 0;
    for (; s + 4 <= steps; s += 4, w += 4 * kStep) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) quads[r] = lowered(vld1q_u8(x[r] + 4 * s));
      step<0>(w, quads, sums);
      step<1>(w + kStep, quads, sums);
      step<2>(w + 2 * kStep, quads, sums);
      step<3>(w + 3 * kStep, quads, sums);
    }
    for (; s < steps; ++s, w += kStep) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) quads[r] = lowered(broadcast(x[r] + 4 * s));
      step<0>(w, quads, sums);
    }
  }
};
#else
// Products of two steps are summed in 16 bits: a * (x - 128) of the first is within -16256 and
// 16384, and b * (x - 127) of the second, which is subtracted as b * (127 - x), within -16384 and
// 16256. So is no sum of theirs beyond 32640, whatever the weights.
struct BytesNeon : BytesNeonBase {
  // Lane i of all is lanes 2 i and 2 i + 1.
  struct Sum {
    int32x4_t low, high;
  };
  static constexpr int kLoweredOdd = 127;

  static Sum load(const int32_t* p) {
    const int32x4_t start = vld1q_s32(p), none = vdupq_n_s32(0);
    return {vzip1q_s32(start, none), vzip2q_s32(start, none)};
  }
  static Float to_float(Sum s) { return {vcvtq_f32_s32(vpaddq_s32(s.low, s.high))}; }
  static Sum dot(Sum sum, Quads quads, Weights w) {
    const int8x16_t x = vreinterpretq_s8_u8(quads);
    return {vpadalq_s16(sum.low, vmull_s8(vget_low_s8(x), vget_low_s8(w))),
            vpadalq_s16(sum.high, vmull_high_s8(x, w))};
  }
  static Sum tap_dot(Sum sum, Taps quads, Taps weights) {
    return dot(sum, quads, vreinterpretq_s8_u8(weights));
  }
  static Sum dot_two(Sum sum, int8x16_t x, Weights w, int8x16_t odd_x, Weights odd_w) {
    const int16x8_t low =
        vmlsl_s8(vmull_s8(vget_low_s8(x), vget_low_s8(w)), vget_low_s8(odd_x), vget_low_s8(odd_w));
    const int16x8_t high = vmlsl_high_s8(vmull_high_s8(x, w), odd_x, odd_w);
    return {vpadalq_s16(sum.low, low), vpadalq_s16(sum.high, high)};
  }
  // x - 128 of even quads, 127 - x of odd ones.
  static Quads alternating(Quads x) {
    return veorq_u8(x, vreinterpretq_u8_u64(vdupq_n_u64(0x7f7f7f7f80808080)));
  }

  // As many as leave registers for what is multiplied: taller tiles are computed in parts.
  static constexpr int rows_at_once(int vectors) { return 8 / vectors; }
  template <int kLane, int R, int N>
  __attribute__((always_inline)) static void two_steps(const int8_t* w, const Quads (&x)[R],
                                                       Sum (&sums)[R][N]) {
    Weights even[N], odd[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      even[v] = load_weights(w + 4 * v * kWidth);
      odd[v] = load_weights(w + 4 * (N + v) * kWidth);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const int8x16_t even_x = quad_of<kLane>(x[r]), odd_x = quad_of<kLane + 1>(x[r]);
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = dot_two(sums[r][v], even_x, even[v], odd_x, odd[v]);
    }
  }
  template <int R, int N>
  __attribute__((always_inline)) static void add_steps(const int8_t* w, const uint8_t* const* rows,
                                                       int steps, Sum (&sums)[R][N]) {
    constexpr int kStep = 4 * N * kWidth;
    const uint8_t* x[R];
    Quads quads[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) x[r] = rows[r];
    int s = 0;
    for (; s + 4 <= steps; s += 4, w += 4 * kStep) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) quads[r] = alternating(vld1q_u8(x[r] + 4 * s));
      two_steps<0>(w, quads, sums);
      two_steps<2>(w + 2 * kStep, quads, sums);
    }
    if (s + 2 <= steps) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const uint8x8_t two = vld1_u8(x[r] + 4 * s);
        quads[r] = alternating(vcombine_u8(two, two));
      }
      two_steps<0>(w, quads, sums);
      s += 2, w += 2 * kStep;
    }
    if (s == steps) return;
    Weights weights[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) weights[v] = load_weights(w + 4 * v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Quads last = lowered(broadcast(x[r] + 4 * s));
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = dot(sums[r][v], last, weights[v]);
    }
  }
};
#endif

}  // namespace activsparse
