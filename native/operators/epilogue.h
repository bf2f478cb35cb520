// The attributes every operator ends with: an activation applied to the finished value.
#pragma once
#include <cmath>
#include <string>

#include "common/activation.h"
#include "kernels/vector_sizes.h"
#include "operators/operator.h"

namespace activsparse {

// Those that only some networks have; kNone where there is none of that name. A small library does
// without them.
inline Activation rare_activation(const std::string& name) {
  if (kCompact) return Activation::kNone;
  static constexpr struct {
    const char* name;
    Activation activation;
  } kNames[] = {
      {"gelu", Activation::kGelu}, {"gelu_tanh", Activation::kGeluTanh},
      {"mish", Activation::kMish}, {"softplus", Activation::kSoftplus},
      {"erf", Activation::kErf},   {"exp", Activation::kExp},
      {"sqrt", Activation::kSqrt}, {"abs", Activation::kAbs},
      {"elu", Activation::kElu},   {"reciprocal", Activation::kReciprocal},
      {"log", Activation::kLog},   {"sin", Activation::kSin},
      {"cos", Activation::kCos},   {"floor", Activation::kFloor},
      {"ceil", Activation::kCeil}, {"round", Activation::kRound},
      {"sign", Activation::kSign}, {"truncate", Activation::kTruncate},
  };
  for (const auto& row : kNames)
    if (name == row.name) return row.activation;
  return Activation::kNone;
}

inline Epilogue epilogue_of(const OpSpec& spec) {
  const std::string name = spec.string_or("activation", "none");
  Epilogue e;
  if (name == "none") return e;
  if (name == "relu") {
    e.activation = Activation::kClip;
    e.lo = 0.0f;
  } else if (name == "clip") {
    e.activation = Activation::kClip;
    e.lo = static_cast<float>(spec.float_or("lo", -INFINITY)) + 0.0f;  // -0 becomes +0
    e.hi = static_cast<float>(spec.float_or("hi", INFINITY));
  } else if (name == "hardswish") {
    e.activation = Activation::kHardSwish;
  } else if (name == "silu") {
    e.activation = Activation::kSilu;
  } else if (name == "sigmoid") {
    e.activation = Activation::kSigmoid;
  } else if (name == "hardsigmoid") {
    e.activation = Activation::kHardSigmoid;
  } else if (name == "leaky_relu") {
    e.activation = Activation::kLeakyRelu;
    e.lo = static_cast<float>(spec.float_or("lo", 0.01));
  } else if (name == "tanh") {
    e.activation = Activation::kTanh;
  } else if (const Activation rare = rare_activation(name); rare != Activation::kNone) {
    e.activation = rare;
    if (rare == Activation::kElu) e.lo = static_cast<float>(spec.float_or("lo", 1.0));
  } else {
    throw Error("unknown activation '" + name + "'");
  }
  return e;
}

// Comparisons with NaN are false, so that it stays one.
inline float clip(float x, float lo, float hi) { return x < lo ? lo : x > hi ? hi : x; }

// The definition of each activation; vectorised versions are tested against it. hardswish and
// hardsigmoid as in ONNX HardSwish and HardSigmoid with alpha = 1/6, beta = 1/2.
inline float activate(float x, const Epilogue& e) {
  switch (e.activation) {
    case Activation::kNone:
      return x;
    case Activation::kClip:
      return clip(x, e.lo, e.hi);
    case Activation::kHardSwish:
      return x * clip(x / 6.0f + 0.5f, 0.0f, 1.0f);
    case Activation::kSilu:
      return x / (1.0f + std::exp(-x));
    case Activation::kSigmoid:
      return 1.0f / (1.0f + std::exp(-x));
    case Activation::kHardSigmoid:
      return clip(x / 6.0f + 0.5f, 0.0f, 1.0f);
    case Activation::kLeakyRelu:
      return x < 0.0f ? x * e.lo : x;
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kGelu:
      return 0.5f * x * (1.0f + std::erf(x * 0.70710678118654752f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + std::tanh(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case Activation::kMish:
      return x * std::tanh(std::log1p(std::exp(x)));
    case Activation::kElu:
      return x < 0.0f ? e.lo * std::expm1(x) : x;
    case Activation::kSoftplus:
      return x > 0.0f ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
    case Activation::kErf:
      return std::erf(x);
    case Activation::kExp:
      return std::exp(x);
    case Activation::kSqrt:
      return std::sqrt(x);
    case Activation::kAbs:
      return std::fabs(x);
    case Activation::kReciprocal:
      return 1.0f / x;
    case Activation::kLog:
      return std::log(x);
    case Activation::kSin:
      return std::sin(x);
    case Activation::kCos:
      return std::cos(x);
    case Activation::kFloor:
      return std::floor(x);
    case Activation::kCeil:
      return std::ceil(x);
    case Activation::kRound:
      return std::nearbyint(x);
    case Activation::kTruncate:
      return std::trunc(x);
    case Activation::kSign:
      return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x;
  }
  return x;
}

}  // namespace activsparse
