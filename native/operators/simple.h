// What the operators without weights have in common: one input pixel's channels are a contiguous
// run of floats, work is cut into runs of pixels, and every kind has two algorithms: `vector` for
// the given instruction set, and `reference`, the same steps with the scalar kernels.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "common/isa.h"
#include "kernels/kernels.h"
#include "operators/checks.h"
#include "operators/epilogue.h"
#include "operators/operator.h"

namespace activsparse {

inline void require_counts(const OpSpec& spec, size_t inputs) {
  require(spec, spec.inputs.size() == inputs && spec.outputs.size() == 1,
          "takes " + std::to_string(inputs) + " input(s) and 1 output");
}

inline bool same_shape(const TensorDesc& a, const TensorDesc& b) {
  return a.n == b.n && a.h == b.h && a.w == b.w && a.c == b.c;
}

// Channels to process per pixel: up to the end of the padding where every tensor owns it, so that
// no partial vector is left. Partial stores are slow on some AVX2 machines.
inline int64_t lanes_of(std::initializer_list<const TensorDesc*> tensors) {
  int64_t lanes = (*tensors.begin())->c;
  lanes = (lanes + 15) / 16 * 16;
  for (const TensorDesc* t : tensors)
    if (!t->padded || t->stride < lanes) return (*tensors.begin())->c;
  return lanes;
}

// Pixels per task: about 4 KiB of each tensor, far more than a task costs, and even shares of small
// maps for many threads.
inline int64_t pixels_per_task(int64_t channels) {
  return std::max<int64_t>(1, 1024 / std::max<int64_t>(1, channels));
}

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline std::string nhwc_only(const OpSpec& spec, Isa) {
  for (const auto* list : {&spec.inputs, &spec.outputs})
    for (const TensorDesc& t : *list)
      if (t.nchw) return "a tensor is NCHW";
  return "";
}

// The kernels of a tensor's type.
template <class T>
const auto& activate_of(const Kernels& kernels) {
  if constexpr (kTypeOf<T> == DType::kFloat16)
    return kernels.activate_f16;
  else
    return kernels.activate_f32;
}
template <class T>
const auto& elementwise_of(const Kernels& kernels) {
  if constexpr (kTypeOf<T> == DType::kFloat16)
    return kernels.elementwise_f16;
  else
    return kernels.elementwise_f32;
}
template <class T>
const auto& pool_of(const Kernels& kernels) {
  if constexpr (kTypeOf<T> == DType::kFloat16)
    return kernels.pool_f16;
  else
    return kernels.pool_f32;
}

// The header of an operator with one input and one output, checked: `input`, `output`.
template <class Header>
const Header& unary_header(const BlobView& blob) {
  const Header& header = blob.header<Header>();
  require_packed(header.input);
  require_packed(header.output);
  return header;
}

// The two rows of a kind. `Op` is constructed from (BlobView, const Kernels&).
template <class Op>
std::vector<OperatorType> simple_types(const char* kind, Blob (*pack)(const OpSpec&, Isa),
                                       std::string (*unsupported)(const OpSpec&, Isa) = nhwc_only) {
  return {{kind, "vector", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<Op>(blob, kernels_for(isa));
           }},
          {kind, "reference", unsupported, pack,
           [](const BlobView& blob, Isa) -> std::unique_ptr<Operator> {
             return std::make_unique<Op>(blob, kernels_for(Isa::kScalar));
           }}};
}

// The same of float32 or float16: Op<T>, whose Header has the type in `output`.
template <template <class> class Op>
std::unique_ptr<Operator> create_typed(const BlobView& blob, Isa isa) {
  if (blob.header<typename Op<float>::Header>().output.dtype != DType::kFloat16)
    return std::make_unique<Op<float>>(blob, kernels_for(isa));
  if constexpr (kCompact) {
    throw Error("this library has nothing of float16");
  } else {
    require_halves(isa);
    return std::make_unique<Op<Half>>(blob, kernels_for(isa));
  }
}

template <template <class> class Op>
std::vector<OperatorType> typed_types(const char* kind, Blob (*pack)(const OpSpec&, Isa)) {
  return {{kind, "vector", nhwc_only, pack, create_typed<Op>, kFloatsAndHalves},
          {kind, "reference", nhwc_only, pack,
           [](const BlobView& blob, Isa) { return create_typed<Op>(blob, Isa::kScalar); },
           kFloatsAndHalves}};
}

template <class Header>
Blob pack_header(const Header& header) {
  BlobWriter writer;
  writer.append(&header, 1);
  return writer.take();
}

}  // namespace activsparse
