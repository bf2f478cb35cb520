#include "operators/finish_u8.h"

#include <cmath>
#include <cstdlib>

namespace activsparse {
namespace {

constexpr float kMostFloat = 3.4028235e38f;

bool is_byte_range(float lo, float hi, int zero) {
  return lo <= hi && lo + static_cast<float>(zero) >= 0 && hi + static_cast<float>(zero) <= 255;
}

}  // namespace

int32_t zero_point_of(const OpSpec& spec, const char* name) {
  const int64_t zero = spec.int_or(name, 0);
  if (zero < 0 || zero > 255) throw Error(spec.kind + ": '" + name + "' is no uint8 number");
  return static_cast<int32_t>(zero);
}

FinishU8 finish_u8_of(const OpSpec& spec) {
  const auto number = [&](const char* name, double fallback) {
    return static_cast<float>(spec.float_or(name, fallback));
  };
  FinishU8 f{};
  f.to_float = spec.outputs[0].dtype == DType::kFloat32;
  f.zero = zero_point_of(spec, "zero");
  if (f.to_float) {
    f.lo = number("lo", -INFINITY), f.hi = number("hi", INFINITY);
    return f;
  }
  const float lo = static_cast<float>(-f.zero), hi = static_cast<float>(255 - f.zero);
  f.lo = number("lo", lo), f.hi = number("hi", hi);
  f.rescaled = spec.int_or("rescaled", 0) != 0;
  f.kept = number("kept", 1), f.residual_scale = number("residual_scale", 1);
  // (r - zero) * scale: a multiple of the scale that is rounded once.
  f.shift = -static_cast<float>(zero_point_of(spec, "residual_zero")) * f.residual_scale;
  f.residual_lo = number("residual_lo", lo), f.residual_hi = number("residual_hi", hi);
  return f;
}

bool is_bounded(const OpSpec& spec, const ConvParams& p) {
  const auto* weight = static_cast<const int8_t*>(spec.array("weight")->data);
  const float *scale = scale_of(spec, p.output.c), *shift = shift_of(spec, p.output.c);
  const int32_t* bias = bias_of(spec, p.output.c);
  const double most_input = 255.0 + zero_point_of(spec, "input_zero");
  const int64_t products = int64_t{p.in_per_group} * p.taps();
  for (int64_t o = 0; o < p.output.c; ++o) {
    int64_t weights = 0;
    for (int64_t i = 0; i < products; ++i) weights += std::abs(weight[o * products + i]);
    const double most = most_input * static_cast<double>(weights) + (bias ? std::fabs(bias[o]) : 0);
    const double value = most * std::fabs(scale[o]) + (shift ? std::fabs(shift[o]) : 0);
    if (!(most < INT32_MAX && value < (1 << 30))) return false;
  }
  return true;
}

void require_packed(const FinishU8& f, const TensorDesc& output, bool has_residual) {
  require_packed((f.to_float != 0) == (output.dtype == DType::kFloat32));
  require_packed(f.zero >= 0 && f.zero <= 255);
  if (f.to_float) return require_packed(f.lo <= f.hi && !has_residual);
  if (has_residual || f.rescaled)
    require_packed(f.lo <= f.hi && std::fabs(f.lo) <= kMostFloat && std::fabs(f.hi) <= kMostFloat &&
                   is_byte_range(f.residual_lo, f.residual_hi, f.zero));
  else
    require_packed(is_byte_range(f.lo, f.hi, f.zero));
}

}  // namespace activsparse
