// The activation at the end of an operator, as plain data: kernels compiled for any instruction set
// include this file, so it must stay free of the standard library.
#pragma once
#include <cstdint>

namespace activsparse {

enum class Activation : int32_t {
  kNone,
  kClip,
  kHardSwish,
  kSilu,
  kSigmoid,
  kHardSigmoid,
  kLeakyRelu,
  kTanh,
  // From here on those that only some networks have.
  kGelu,
  kGeluTanh,
  kMish,
  kElu,
  kSoftplus,
  kErf,
  kExp,
  kSqrt,
  kAbs,
  kReciprocal,
  // One element after the other, by the C library.
  kLog,
  kSin,
  kCos,
  kFloor,
  kCeil,
  kRound,
  kTruncate,
  kSign,
  kLast = kSign
};

// Trivially copyable, so that it can stand in a blob's header. relu is a clip to [0, inf); a leaky
// one multiplies negative values by `lo`, and so does elu, but of exp(x) - 1. Every activation of
// NaN is NaN (docs/numerics.md).
struct Epilogue {
  Activation activation = Activation::kNone;
  float lo = -__builtin_inff();
  float hi = __builtin_inff();
};

}  // namespace activsparse
