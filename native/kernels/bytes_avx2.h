// Bytes in AVX2: products of quads by AVX-VNNI where the processor has it. Else by vpmaddubsw,
// whose sums of two products would saturate: weights are packed so that none can
// (operators/safe_pairs.h).
#pragma once
#include <cstdint>

#include "kernels/bytes.h"
#include "kernels/simd_avx2.h"

namespace activsparse {

struct BytesAvx2Base : QuadByQuad {
  using Float = VecAvx2;
  using Quads = __m256i;
  using Sum = __m256i;
  using Weights = __m256i;
  static constexpr Isa kIsa = Isa::kAvx2;
  static constexpr int kWidth = kAvx2Width;
  static constexpr bool kOffsets = true;
  static constexpr int kOutputsAtOnce = 2;  // of depthwise products: sums of four vectors each

  static __m256i load256(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  static Sum load(const int32_t* p) { return load256(p); }
  static void store(int32_t* p, Sum s) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), s); }
  static Quads broadcast(const uint8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof(quad));
    return _mm256_set1_epi32(quad);
  }
  static Float to_float(Sum s) { return {_mm256_cvtepi32_ps(s)}; }
  static __m256i round(Float v) { return _mm256_cvtps_epi32(v.v); }
  static __m128i load8(const uint8_t* p, int lanes) {
    if (lanes == kWidth) return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    uint64_t bytes = 0;
    __builtin_memcpy(&bytes, p, static_cast<unsigned>(lanes));
    return _mm_cvtsi64_si128(static_cast<long long>(bytes));
  }
  static Sum load_s32_of_u8(const uint8_t* p, int lanes) {
    return _mm256_cvtepu8_epi32(load8(p, lanes));
  }
  static Float load_u8(const uint8_t* p, int lanes) {
    return {_mm256_cvtepi32_ps(load_s32_of_u8(p, lanes))};
  }
  static Weights load_weights(const int8_t* w) { return load256(w); }
  static Sum add(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
  static void accumulate(int32_t* sums, const uint8_t* p) {
    store(sums, add(load(sums), load_s32_of_u8(p, kWidth)));
  }
  static void store_u8(uint8_t* p, Float v, int zero, int lanes) {
    const __m256i whole = _mm256_add_epi32(round(v), _mm256_set1_epi32(zero));
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    store_first(p, _mm_packus_epi16(words, words), lanes);
  }
  static void store_first(uint8_t* p, __m128i bytes, int count) {
    if (count == 16)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
    else if (count == 8)
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
    else
      __builtin_memcpy(p, &bytes, static_cast<unsigned>(count));
  }

  static __m256i load_bytes(const uint8_t* p, int count) {
    if (count >= 32) return load256(p);
    if (count == 16)
      return _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    uint8_t bytes[32] = {};
    __builtin_memcpy(bytes, p, static_cast<unsigned>(count));
    return load256(bytes);
  }
  static void store_bytes(uint8_t* p, __m256i v, int count) {
    if (count >= 32)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
    else if (count == 16)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(v));
    else
      __builtin_memcpy(p, &v, static_cast<unsigned>(count));
  }
  // Bytes of two taps side by side, and quads of two such pairs.
  struct Pairs {
    __m256i low, high;
  };
  static Pairs pairs(__m256i x, __m256i y) {
    return {_mm256_unpacklo_epi8(x, y), _mm256_unpackhi_epi8(x, y)};
  }
  static void interleave(const Pairs& a, const Pairs& b, Quads* q) {
    q[0] = _mm256_unpacklo_epi16(a.low, b.low);
    q[1] = _mm256_unpackhi_epi16(a.low, b.low);
    q[2] = _mm256_unpacklo_epi16(a.high, b.high);
    q[3] = _mm256_unpackhi_epi16(a.high, b.high);
  }
  // Two vectors of numbers within 32 bits. Packing saturates: what is left of bounds are
  // comparisons of all bytes.
  static __m256i words(Float a, Float b, int zero) {
    return _mm256_adds_epi16(_mm256_packs_epi32(round(a), round(b)),
                             _mm256_set1_epi16(static_cast<int16_t>(zero)));
  }
  static __m256i every(int byte) { return _mm256_set1_epi8(static_cast<char>(byte)); }
  static void store_interleaved(uint8_t* p, const Float* v, int lo, int zero, int count) {
    const __m256i bytes = _mm256_packus_epi16(words(v[0], v[1], zero), words(v[2], v[3], zero));
    store_bytes(p, _mm256_max_epu8(bytes, every(lo)), count);
  }
  // Of numbers within 32 bits, which need no bounds before they are packed.
  static void store_bounded(uint8_t* p, const Float* v, int lo, int hi, int zero, int count) {
    const __m256i bytes = _mm256_packus_epi16(words(v[0], v[1], zero), words(v[2], v[3], zero));
    store_bytes(p, _mm256_min_epu8(_mm256_max_epu8(bytes, every(lo)), every(hi)), count);
  }
  // Rows of N vectors, the last of which has so many lanes, within bounds.
  template <int N>
  struct Row {
    static constexpr bool kTwo = N == 2;
    int lo, hi, zero, lanes;
    Row(int least, int most, int zero_point, int last)
        : lo(least), hi(most), zero(zero_point), lanes(last) {}
    void store(uint8_t* p, const Float* v) const {
      const __m256i a = _mm256_permute4x64_epi64(words(v[0], v[N - 1], zero), 0xd8);
      const __m128i packed =
          _mm_packus_epi16(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
      const __m128i above = _mm_max_epu8(packed, _mm256_castsi256_si128(every(lo)));
      const __m128i bytes = _mm_min_epu8(above, _mm256_castsi256_si128(every(hi)));
      store_first(p, bytes, kWidth * (N - 1) + lanes);
    }
    void store_two(uint8_t* p, const Float* v, uint8_t* q, const Float* w) const {
      const __m256i bytes = _mm256_packus_epi16(words(v[0], v[1], zero), words(w[0], w[1], zero));
      const __m256i within = _mm256_min_epu8(_mm256_max_epu8(bytes, every(lo)), every(hi));
      // Of every 128 bits, four lanes of each vector: back into the order of the vectors.
      const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
      const __m256i rows = _mm256_permutevar8x32_epi32(within, order);
      store_first(p, _mm256_castsi256_si128(rows), kWidth + lanes);
      store_first(q, _mm256_extracti128_si256(rows, 1), kWidth + lanes);
    }
  };
  static __m256i max_bytes(__m256i a, __m256i b) { return _mm256_max_epu8(a, b); }
};

#ifdef __AVXVNNI__
struct BytesAvxVnni : BytesAvx2Base {
  static constexpr const char* kName = "vnni";
  static Sum dot(Sum sum, Quads x, Weights w) { return _mm256_dpbusd_avx_epi32(sum, x, w); }
  static Sum dot_two(Sum sum, Quads x, const int8_t* w, Quads y, const int8_t* v) {
    return dot(dot(sum, x, load_weights(w)), y, load_weights(v));
  }
  static constexpr int kTapVectors = 1;
  static void store_taps(uint8_t* p, Quads q) { store_bytes(p, q, 32); }
  using Taps = __m256i;
  static Taps load_taps(const uint8_t* p) { return load256(p); }
  static Sum tap_dot(Sum sum, const Taps& quads, const Taps& weights) {
    return dot(sum, quads, weights);
  }
  static void keep(Taps& taps) { asm("" : "+x"(taps)); }
};
#else
struct BytesAvx2 : BytesAvx2Base {
  static constexpr const char* kName = "";
  static Sum dot(Sum sum, Quads x, Weights w) {
    const __m256i pairs = _mm256_maddubs_epi16(x, w);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  // Of two quads whose sums of four products fit 16 bits: five instructions in place of six.
  static Sum dot_two(Sum sum, Quads x, const int8_t* w, Quads y, const int8_t* v) {
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(x, load_weights(w)),
                                           _mm256_maddubs_epi16(y, load_weights(v)));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  // Quads of taps as 16-bit numbers, even ones and odd ones: no sum of two products leaves 32 bits.
  static constexpr int kTapVectors = 2;
  static void store_taps(uint8_t* p, Quads q) {
    store_bytes(p, _mm256_and_si256(q, _mm256_set1_epi16(0xff)), 32);
    store_bytes(p + 32, _mm256_srli_epi16(q, 8), 32);
  }
  struct Taps {
    __m256i even, odd;
  };
  static Taps load_taps(const uint8_t* p) { return {load256(p), load256(p + 32)}; }
  static Sum tap_dot(Sum sum, const Taps& quads, const Taps& weights) {
    const __m256i even = _mm256_madd_epi16(quads.even, weights.even);
    return add(sum, add(even, _mm256_madd_epi16(quads.odd, weights.odd)));
  }

  // What words_u8.h is made of.
  static constexpr bool kWords = true;
  static __m256i load_pairs(const int16_t* p) { return load256(p); }
  static __m256i broadcast_pair(const uint16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return _mm256_set1_epi32(pair);
  }
  static Sum add_pairs(Sum sum, __m256i x, __m256i w) { return add(sum, _mm256_madd_epi16(x, w)); }
  // Quads of bytes: of each first the even, then the odd ones.
  static void widen_quads(const uint8_t* p, int quads, uint16_t* out) {
    const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    int q = 0;
    if (quads == 3) {  // images
      const __m128i two = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                       _mm_cvtepu8_epi16(_mm_shuffle_epi8(two, order)));
      q = 2, p += 8, out += 8;
    }
    for (; q + 4 <= quads; q += 4, p += 16, out += 16) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                          _mm256_cvtepu8_epi16(_mm_shuffle_epi8(bytes, order)));
    }
    for (; q < quads; ++q, p += 4, out += 4) {
      int32_t quad;
      __builtin_memcpy(&quad, p, sizeof(quad));
      const __m128i bytes = _mm_shuffle_epi8(_mm_cvtsi32_si128(quad), order);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_cvtepu8_epi16(bytes));
    }
  }
  static void widen_signed(const int8_t* p, int16_t* even, int16_t* odd) {
    const __m256i quads = load256(p);
    const __m256i low = _mm256_srai_epi16(_mm256_slli_epi16(quads, 8), 8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(even), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(odd), _mm256_srai_epi16(quads, 8));
  }
};
#endif

}  // namespace activsparse
