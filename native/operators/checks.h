// What must hold of a spec before anybody packs it, and of packed data before anybody runs them, so
// that no operator has to remember: ranges of attributes, sizes of arrays, and limits below which
// the products of sizes that operators form do not overflow.
#pragma once
#include <string>
#include <vector>

#include "common/activation.h"
#include "operators/operator.h"

namespace activsparse {

inline constexpr int64_t kMostPixels = INT32_MAX;         // of a tensor: n h w
inline constexpr int64_t kMostRowFloats = (1 << 30) - 1;  // of its rows: w stride
inline constexpr int64_t kMostFloats = int64_t{1} << 40;  // of a tensor or an array
inline constexpr int64_t kMostBytes = 4 * kMostFloats;    // of an arena
inline constexpr int64_t kMostReach = int64_t{1} << 30;   // of an axis with its padding
inline constexpr int64_t kMostKernel = (1 << 15) - 1;     // of an axis

// The least stride of a tensor in NHWC: with the lanes that it owns.
inline int64_t least_stride(const TensorDesc& desc) {
  return desc.padded ? (int64_t{desc.c} + 15) / 16 * 16 : desc.c;
}

// Why there is no such tensor; nullptr when there is. Operators, but not the memory of a plan, take
// the distances within a row for 32-bit numbers: an input that no step reads may be longer.
const char* fault_of_memory(const TensorDesc& desc);
const char* fault_of_any(const TensorDesc& desc);
const char* fault_of(const TensorDesc& desc);  // the same of a float32 tensor

// Throws Error unless `op` may run on these tensors.
void require_tensors(const Operator& op, const std::vector<TensorDesc>& inputs,
                     const std::vector<TensorDesc>& outputs);

// Throws Error naming the attribute, array or tensor that is impossible. `types`: that its
// tensors may be of.
void check_spec(const OpSpec& spec, DTypes types);

inline void require(const OpSpec& spec, bool condition, const std::string& cause) {
  if (!condition) throw Error(spec.kind + ": " + cause);
}

// Of packed data, which may come from anybody's file.
inline void require_packed(bool condition) {
  if (!condition) throw Error("the packed operator is damaged; compile the model again");
}
inline void require_packed(const TensorDesc& desc) { require_packed(fault_of(desc) == nullptr); }
inline void require_packed(const TensorDesc& desc, DType type) {
  require_packed(fault_of_any(desc) == nullptr && desc.dtype == type);
}
inline void require_packed(const Epilogue& epilogue) {
  require_packed(epilogue.activation >= Activation::kNone &&
                 epilogue.activation <= Activation::kLast);
}

}  // namespace activsparse
