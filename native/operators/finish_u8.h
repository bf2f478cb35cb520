// How a sum of products of bytes becomes an output: attributes of a spec, and of packed data.
#pragma once
#include <cstring>

#include "kernels/kernels.h"
#include "operators/checks.h"
#include "operators/conv_params.h"

namespace activsparse {

// Throws Error when attributes are missing or impossible.
FinishU8 finish_u8_of(const OpSpec& spec);

// Whether no sum of a convolution leaves 32 bits, also when it is scaled.
bool is_bounded(const OpSpec& spec, const ConvParams& p);

// Of packed data: every result is a byte.
void require_packed(const FinishU8& finish, const TensorDesc& output, bool has_residual);

// The zero point of the input, 0 to 255.
int32_t zero_point_of(const OpSpec& spec, const char* name);

// What of a float32 bias is no whole sum, (channels), or nullptr. Throws Error.
inline const float* shift_of(const OpSpec& spec, int channels) {
  const ArrayView* shift = spec.array("shift");
  if (shift != nullptr && (shift->dtype != 'f' || shift->size() != channels))
    throw Error(spec.kind + ": the shift must be float32 (O)");
  return spec.float_array("shift");
}

// The scales of the sums, float32 (channels), and their bias, int32 (channels) or nullptr. Throw
// Error.
inline const float* scale_of(const OpSpec& spec, int channels) {
  const ArrayView* scale = spec.array("scale");
  if (scale == nullptr || scale->dtype != 'f' || scale->size() != channels)
    throw Error(spec.kind + ": the scale must be float32 (O)");
  return spec.float_array("scale");
}

inline const int32_t* bias_of(const OpSpec& spec, int channels) {
  const ArrayView* bias = spec.array("bias");
  if (bias != nullptr && (bias->dtype != 'i' || bias->size() != channels))
    throw Error(spec.kind + ": the bias must be int32 (O)");
  return bias == nullptr ? nullptr : static_cast<const int32_t*>(bias->data);
}

// What memset does, without the call that costs more than a few channels do.
inline void fill_bytes(uint8_t* p, int value, int64_t count) {
  if (count >= 128) {
    std::memset(p, value, count);
    return;
  }
  uint8_t group[16];
  std::memset(group, value, sizeof(group));
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) std::memcpy(p + i, group, sizeof(group));
  if (i < count) std::memset(p + i, value, count - i);
}

inline void require_uint8(const OpSpec& spec) {
  for (const TensorDesc& t : spec.inputs)
    if (t.dtype != DType::kU8) throw Error(spec.kind + ": its inputs must be uint8");
}

}  // namespace activsparse
