// Bytes without vectors: the interface of bytes_avx2.h and bytes_avx512.h, four lanes at a time.
#pragma once
#include <cstdint>

#include "common/isa_enum.h"
#include "kernels/bytes.h"

namespace activsparse {

struct BytesScalar : QuadByQuad {
  struct Sum {
    int32_t s[4];
  };
  struct Quads {
    uint8_t q[16];
  };
  struct Float {
    float f[4];
    static Float set1(float x) { return {{x, x, x, x}}; }
    static Float load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
    static Float load_partial(const float* p, int n) {
      Float v = set1(0);
      for (int i = 0; i < n; ++i) v.f[i] = p[i];
      return v;
    }
    void store_partial(float* p, int n) const {
      for (int i = 0; i < n; ++i) p[i] = f[i];
    }
    template <class Op>
    static Float each(Float a, Float b, Op op) {
      for (int i = 0; i < 4; ++i) a.f[i] = op(a.f[i], b.f[i]);
      return a;
    }
    friend Float operator+(Float a, Float b) {
      return each(a, b, [](float x, float y) { return x + y; });
    }
    friend Float operator-(Float a, Float b) {
      return each(a, b, [](float x, float y) { return x - y; });
    }
    friend Float operator*(Float a, Float b) {
      return each(a, b, [](float x, float y) { return x * y; });
    }
    friend Float max(Float a, Float b) {
      return each(a, b, [](float x, float y) { return x > y ? x : y; });
    }
    friend Float min(Float a, Float b) {
      return each(a, b, [](float x, float y) { return x < y ? x : y; });
    }
    friend Float fma(Float a, Float b, Float c) { return a * b + c; }
    friend Float round_nearest(Float a) {
      return each(a, a, [](float x, float) { return __builtin_rintf(x); });
    }
  };
  using Weights = const int8_t*;
  static constexpr Isa kIsa = Isa::kScalar;
  static constexpr int kWidth = 4;
  static constexpr bool kOffsets = false;
  static constexpr int kOutputsAtOnce = 1;
  static constexpr const char* kName = "";

  static Sum load(const int32_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static Quads broadcast(const uint8_t* p) {
    Quads x;
    for (int i = 0; i < 16; ++i) x.q[i] = p[i % 4];
    return x;
  }
  static Weights load_weights(const int8_t* w) { return w; }
  static Sum dot(Sum sum, Quads x, Weights w) {
    for (int i = 0; i < 16; ++i) sum.s[i / 4] += x.q[i] * w[i];
    return sum;
  }
  static constexpr int kTapVectors = 1;
  static void store_taps(uint8_t* p, Quads q) { __builtin_memcpy(p, q.q, sizeof(q.q)); }
  using Taps = const uint8_t*;
  static Taps load_taps(const uint8_t* p) { return p; }
  static Sum tap_dot(Sum sum, Taps quads, Taps weights) {
    for (int i = 0; i < 16; ++i) sum.s[i / 4] += quads[i] * static_cast<int8_t>(weights[i]);
    return sum;
  }
  static Float to_float(Sum s) {
    return {{static_cast<float>(s.s[0]), static_cast<float>(s.s[1]), static_cast<float>(s.s[2]),
             static_cast<float>(s.s[3])}};
  }
  static Sum load_s32_of_u8(const uint8_t* p, int lanes) {
    Sum s{};
    for (int i = 0; i < lanes; ++i) s.s[i] = p[i];
    return s;
  }
  static Float load_u8(const uint8_t* p, int lanes) { return to_float(load_s32_of_u8(p, lanes)); }
  static void accumulate(int32_t* sums, const uint8_t* p) {
    for (int i = 0; i < 4; ++i) sums[i] += p[i];
  }
  static void store_u8(uint8_t* p, Float v, int zero, int lanes) {
    v = round_nearest(v);
    for (int i = 0; i < lanes; ++i)
      p[i] = static_cast<uint8_t>(static_cast<int32_t>(v.f[i]) + zero);
  }

  static Quads load_bytes(const uint8_t* p, int count) {
    Quads x{};
    __builtin_memcpy(x.q, p, static_cast<unsigned>(count < 16 ? count : 16));
    return x;
  }
  static void store_bytes(uint8_t* p, Quads v, int count) {
    __builtin_memcpy(p, v.q, static_cast<unsigned>(count < 16 ? count : 16));
  }
  // Two taps, and quads of two such pairs.
  struct Pairs {
    Quads of[2];
  };
  static Pairs pairs(const Quads& x, const Quads& y) { return {{x, y}}; }
  static void interleave(const Pairs& a, const Pairs& b, Quads* q) {
    for (int c = 0; c < 16; ++c)
      for (int i = 0; i < 4; ++i) q[c / 4].q[c % 4 * 4 + i] = (i < 2 ? a : b).of[i % 2].q[c];
  }
  // Bounds are bytes; numbers of store_interleaved() are nowhere above one.
  static void store_interleaved(uint8_t* p, const Float* v, int lo, int zero, int count) {
    const Float least = set1(lo - zero);
    for (int j = 0; j < 4 && 4 * j < count; ++j)
      store_u8(p + 4 * j, max(v[j], least), zero, count - 4 * j < 4 ? count - 4 * j : 4);
  }
  static void store_bounded(uint8_t* p, const Float* v, int lo, int hi, int zero, int count) {
    Float clipped[4];
    for (int j = 0; j < 4; ++j) clipped[j] = min(v[j], set1(hi - zero));
    store_interleaved(p, clipped, lo, zero, count);
  }
  // Rows of N vectors, the last of which has so many lanes, within bounds.
  template <int N>
  struct Row {
    static constexpr bool kTwo = false;
    int lo, hi, zero, lanes;
    Row(int least, int most, int zero_point, int last)
        : lo(least), hi(most), zero(zero_point), lanes(last) {}
    void store(uint8_t* p, const Float* v) const {
      for (int i = 0; i < N; ++i)
        store_u8(p + 4 * i, min(max(v[i], set1(lo - zero)), set1(hi - zero)), zero,
                 i + 1 < N ? kWidth : lanes);
    }
  };
  static Float set1(int x) { return Float::set1(static_cast<float>(x)); }
  static Quads max_bytes(Quads a, Quads b) {
    for (int i = 0; i < 16; ++i) a.q[i] = a.q[i] > b.q[i] ? a.q[i] : b.q[i];
    return a;
  }
};

}  // namespace activsparse
