// How a sum of products of bytes becomes an output: attributes of a spec, and of packed data.
#pragma once
#include "kernels/kernels.h"
#include "operators/checks.h"
#include "operators/conv_params.h"

namespace activsparse {

// Throws Error when attributes are missing or impossible.
FinishU8 finish_u8_of(const OpSpec& spec);

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

inline void require_uint8(const OpSpec& spec) {
  for (const TensorDesc& t : spec.inputs)
    if (t.dtype != DType::kU8) throw Error(spec.kind + ": its inputs must be uint8");
}

}  // namespace activsparse
