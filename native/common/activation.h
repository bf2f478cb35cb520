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
  kTanh
};

// Trivially copyable, so that it can stand in a blob's header. relu is a clip to [0, inf); a leaky
// one multiplies negative values by `lo`.
struct Epilogue {
  Activation activation = Activation::kNone;
  float lo = -__builtin_inff();
  float hi = __builtin_inff();
};

// Whether it clips to positive bounds, as relu and relu6 do: matrix products do that on their way
// out, and any other activation in a second pass.
static inline bool clips_positive(const Epilogue& e) {
  return e.activation == Activation::kClip && e.lo >= 0.0f;
}

}  // namespace activsparse
