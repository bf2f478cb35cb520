// float16 (IEEE binary16) as numbers of 16 bits, wherever the compiler has no such type: packing,
// and the portable kernels.
//
// Compiled with the flags of every instruction set; see kernels/kernels.h.
#pragma once
#include <cstdint>

namespace activsparse {

using Half = uint16_t;  // one of them, in memory

inline constexpr int kHalfDigits = 11;   // with the one that is not stored
inline constexpr int kHalfLargest = 15;  // exponent of the largest numbers, below 2^16
inline constexpr int kHalfLeast = -14;   // of the least normal ones
inline constexpr int kHalfMantissaBits = 10, kFloatMantissaBits = 23;

// The nearest float16, halves to even; infinite from 65520 on, NaN stays NaN.
static inline uint16_t half_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;  // 2^16
  const int exponent = static_cast<int>(magnitude >> kFloatMantissaBits) - 127;
  if (exponent < kHalfLeast - kHalfDigits) return sign;  // below half of the least one, 2^-24
  // The number in units of its last place in float16, rounded.
  const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
  const bool normal = exponent >= kHalfLeast;
  const int shift = kFloatMantissaBits - kHalfMantissaBits + (normal ? 0 : kHalfLeast - exponent);
  const uint32_t units = mantissa >> shift, rest = mantissa & ((1u << shift) - 1);
  const uint32_t middle = 1u << (shift - 1);
  const uint32_t rounded = units + (rest > middle || (rest == middle && (units & 1)));
  // Of a normal number the leading one adds 1 to the exponent; a carry goes there by itself.
  const uint32_t base =
      normal ? static_cast<uint32_t>(exponent - kHalfLeast) << kHalfMantissaBits : 0;
  return static_cast<uint16_t>(sign | (base + rounded));
}

static inline float float_of(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = half >> kHalfMantissaBits & 31, mantissa = half & 0x3ff;
  uint32_t bits = 0x7f800000 | mantissa << (kFloatMantissaBits - kHalfMantissaBits);
  if (exponent == 31 && mantissa != 0) bits |= 0x400000;  // a quiet NaN
  if (exponent < 31)
    bits = (exponent + 112) << kFloatMantissaBits | mantissa
                                                        << (kFloatMantissaBits - kHalfMantissaBits);
  if (exponent == 0) {
    const float small = static_cast<float>(mantissa) * 0x1p-24f;
    __builtin_memcpy(&bits, &small, sizeof bits);
  }
  bits |= sign;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace activsparse
