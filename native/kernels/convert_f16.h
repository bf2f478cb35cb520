// Between float32 and float16; see ConvertF16Kernels in halves.h.
#pragma once
#include "kernels/halved.h"

namespace activsparse {

// From and to the memory of two vector types with the same arithmetic.
template <class From, class To>
void convert_run(const typename From::Element* in, typename To::Element* out, int64_t count) {
  using V = typename From::Arithmetic;
  int64_t i = 0;
  for (; i + V::kWidth <= count; i += V::kWidth) To(V(From::load(in + i))).store(out + i);
  const int rest = static_cast<int>(count - i);
  if (rest > 0) To(V(From::load_partial(in + i, rest))).store_partial(out + i, rest);
}

template <class H>
constexpr ConvertF16Kernels convert_kernels() {
  using V = typename H::Arithmetic;
  return {convert_run<V, H>, convert_run<H, V>};
}

}  // namespace activsparse
