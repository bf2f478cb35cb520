// Bytes in AVX-512: products of quads by VNNI where the processor has it, else exactly in 16 bits.
#pragma once
#include <cstdint>

#include "kernels/bytes.h"
#include "kernels/simd_avx512.h"

namespace activsparse {

// What both have in common. A quad is four uint8 of each of 16 lanes.
struct BytesAvx512Base : QuadByQuad {
  using Float = VecAvx512;
  using Quads = __m512i;
  using Sum = __m512i;
  using Weights = __m512i;
  static constexpr Isa kIsa = Isa::kAvx512;
  static constexpr int kWidth = kAvx512Width;
  static constexpr bool kOffsets = false;
  static constexpr int kOutputsAtOnce = 4;  // of depthwise products: sums of four vectors each

  static Sum load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static void store(int32_t* p, Sum s) { _mm512_storeu_si512(p, s); }
  static Quads broadcast(const uint8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof(quad));
    return _mm512_set1_epi32(quad);
  }
  static Float to_float(Sum s) { return {_mm512_cvtepi32_ps(s)}; }
  static __m512i round(Float v) { return _mm512_cvtps_epi32(v.v); }
  static Float load_u8(const uint8_t* p, int lanes) {
    const __m128i bytes = _mm_maskz_loadu_epi8(VecAvx512::lanes(lanes), p);
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))};
  }
  static Sum load_s32_of_u8(const uint8_t* p, int lanes) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(VecAvx512::lanes(lanes), p));
  }
  static Weights load_weights(const int8_t* w) { return _mm512_loadu_si512(w); }
  static Sum add(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
  static void accumulate(int32_t* sums, const uint8_t* p) {
    store(sums, add(load(sums), load_s32_of_u8(p, kWidth)));
  }
  // Rounded numbers plus zero are within a byte.
  static void store_u8(uint8_t* p, Float v, int zero, int lanes) {
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(round(v), _mm512_set1_epi32(zero)));
    if (lanes == kWidth)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
    else
      _mm_mask_storeu_epi8(p, VecAvx512::lanes(lanes), bytes);
  }

  static __mmask64 first(int bytes) {
    return bytes >= 64 ? ~__mmask64{0} : (__mmask64{1} << bytes) - 1;
  }
  // A quarter or half of a vector by itself: a whole one, though masked, would reach into the next
  // cache line.
  static __m512i load_bytes(const uint8_t* p, int count) {
    if (count == 32)
      return _mm512_zextsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    if (count == 16)
      return _mm512_zextsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm512_maskz_loadu_epi8(first(count), p);
  }
  // Bytes of two taps side by side, and quads of two such pairs.
  struct Pairs {
    __m512i low, high;
  };
  static Pairs pairs(__m512i x, __m512i y) {
    return {_mm512_unpacklo_epi8(x, y), _mm512_unpackhi_epi8(x, y)};
  }
  static void interleave(const Pairs& a, const Pairs& b, Quads* q) {
    q[0] = _mm512_unpacklo_epi16(a.low, b.low);
    q[1] = _mm512_unpackhi_epi16(a.low, b.low);
    q[2] = _mm512_unpacklo_epi16(a.high, b.high);
    q[3] = _mm512_unpackhi_epi16(a.high, b.high);
  }
  // Two vectors of numbers within 32 bits. Packing saturates: what is left of bounds are
  // comparisons of all bytes.
  static __m512i words(Float a, Float b, int zero) {
    return _mm512_adds_epi16(_mm512_packs_epi32(round(a), round(b)),
                             _mm512_set1_epi16(static_cast<int16_t>(zero)));
  }
  static __m512i every(int byte) { return _mm512_set1_epi8(static_cast<char>(byte)); }
  static void store_interleaved(uint8_t* p, const Float* v, int lo, int zero, int count) {
    const __m512i bytes = _mm512_packus_epi16(words(v[0], v[1], zero), words(v[2], v[3], zero));
    store_bytes(p, _mm512_max_epu8(bytes, every(lo)), count);
  }
  // Of numbers within 32 bits, which need no bounds before they are packed.
  static void store_bounded(uint8_t* p, const Float* v, int lo, int hi, int zero, int count) {
    const __m512i bytes = _mm512_packus_epi16(words(v[0], v[1], zero), words(v[2], v[3], zero));
    store_bytes(p, _mm512_min_epu8(_mm512_max_epu8(bytes, every(lo)), every(hi)), count);
  }
  // Rows of N vectors, the last of which has so many lanes, within bounds.
  template <int N>
  struct Row {
    static constexpr bool kTwo = false;
    __m512i lo, hi, zero;
    bool whole;
    __mmask64 kept;
    Row(int least, int most, int zero_point, int lanes)
        : lo(every(least)),
          hi(every(most)),
          zero(_mm512_set1_epi16(static_cast<int16_t>(zero_point))),
          whole(lanes == kWidth),
          kept(first(kWidth * (N - 1) + lanes)) {}
    __m512i words(Float a, Float b) const {
      return _mm512_adds_epi16(_mm512_packs_epi32(round(a), round(b)), zero);
    }
    void store(uint8_t* p, const Float* v) const {
      const __m512i a = words(v[0], v[N > 1 ? 1 : 0]);
      const __m512i b = N > 2 ? words(v[N > 2 ? 2 : 0], v[N - 1]) : a;
      // Of every 128 bits, four lanes of each vector: back into the order of the vectors.
      const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      const __m512i bytes = _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(a, b), lo), hi);
      const __m512i ordered = _mm512_permutexvar_epi32(order, bytes);
      if (!whole) return _mm512_mask_storeu_epi8(p, kept, ordered);
      store_bytes(p, ordered, N == 3 ? 32 : kWidth * N);
      if (N == 3)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 32), _mm512_extracti32x4_epi32(ordered, 2));
    }
  };
  static __m512i max_bytes(__m512i a, __m512i b) { return _mm512_max_epu8(a, b); }
  static void store_bytes(uint8_t* p, __m512i v, int count) {
    if (count == 32)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(v));
    else if (count == 16)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_castsi512_si128(v));
    else
      _mm512_mask_storeu_epi8(p, first(count), v);
  }
};

#ifdef __AVX512VNNI__
struct BytesAvx512Vnni : BytesAvx512Base {
  static constexpr const char* kName = "vnni";
  static Sum dot(Sum sum, Quads x, Weights w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static constexpr int kTapVectors = 1;
  static void store_taps(uint8_t* p, Quads q) { _mm512_storeu_si512(p, q); }
  using Taps = __m512i;
  static Taps load_taps(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static Sum tap_dot(Sum sum, const Taps& quads, const Taps& weights) {
    return dot(sum, quads, weights);
  }
  static void keep(Taps& taps) { asm("" : "+v"(taps)); }
};
#else
struct BytesAvx512 : BytesAvx512Base {
  static constexpr const char* kName = "";
  // Even and odd bytes as 16-bit numbers: no sum of two products leaves 32 bits.
  static Sum dot(Sum sum, Quads x, Weights w) {
    const __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8);
    const __m512i odd = _mm512_srai_epi16(w, 8);
    const __m512i a = _mm512_madd_epi16(_mm512_and_si512(x, _mm512_set1_epi16(0xff)), even);
    const __m512i b = _mm512_madd_epi16(_mm512_srli_epi16(x, 8), odd);
    return _mm512_add_epi32(sum, _mm512_add_epi32(a, b));
  }
  // Quads of taps as 16-bit numbers, even ones and odd ones: no sum of two products leaves 32 bits.
  static constexpr int kTapVectors = 2;
  static void store_taps(uint8_t* p, Quads q) {
    _mm512_storeu_si512(p, _mm512_and_si512(q, _mm512_set1_epi16(0xff)));
    _mm512_storeu_si512(p + 64, _mm512_srli_epi16(q, 8));
  }
  struct Taps {
    __m512i even, odd;
  };
  static Taps load_taps(const uint8_t* p) {
    return {_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64)};
  }
  static Sum tap_dot(Sum sum, const Taps& quads, const Taps& weights) {
    const Quads even = _mm512_madd_epi16(quads.even, weights.even);
    return add(sum, add(even, _mm512_madd_epi16(quads.odd, weights.odd)));
  }
};
#endif

}  // namespace activsparse
