// out[r][i] = activation(combine(a[r][i], b[r][i or 0])) over rows of numbers. Memory-bound: one
// pass, no unrolling. Reads and writes exactly `count` numbers of each row; `out` may equal `a` or
// `b`.
#pragma once
#include "kernels/finish.h"
#include "kernels/kernels.h"

namespace activsparse {

template <class V>
struct Add {
  static V combine(V a, V b) { return a + b; }
};

template <class V>
struct Multiply {
  static V combine(V a, V b) { return a * b; }
};

template <class V>
struct Keep {
  static V combine(V a, V b) { return a & b; }
};

template <class V, class Combine>
void elementwise_vector(const RowsArgsOf<typename V::Element>& args) {
  with_finish<V>(*args.epilogue, [&](auto finish) {
    for (int64_t r = 0; r < args.rows; ++r) {
      const auto* a = args.a + r * args.a_stride;
      const auto* b = args.b + r * args.b_stride;
      auto* out = args.out + r * args.out_stride;
      int64_t i = 0;
      for (; i + V::kWidth <= args.count; i += V::kWidth)
        finish(Combine::combine(V::load(a + i), V::load(b + i))).store(out + i);
      const int rest = static_cast<int>(args.count - i);
      if (rest > 0)
        finish(Combine::combine(V::load_partial(a + i, rest), V::load_partial(b + i, rest)))
            .store_partial(out + i, rest);
    }
  });
}

template <class V, class Combine>
void elementwise_scalar(const RowsArgsOf<typename V::Element>& args) {
  with_finish<V>(*args.epilogue, [&](auto finish) {
    for (int64_t r = 0; r < args.rows; ++r) {
      const auto* a = args.a + r * args.a_stride;
      const V b = V::broadcast(args.b + r * args.b_stride);
      auto* out = args.out + r * args.out_stride;
      int64_t i = 0;
      for (; i + V::kWidth <= args.count; i += V::kWidth)
        finish(Combine::combine(V::load(a + i), b)).store(out + i);
      const int rest = static_cast<int>(args.count - i);
      if (rest > 0)
        finish(Combine::combine(V::load_partial(a + i, rest), b)).store_partial(out + i, rest);
    }
  });
}

template <class V>
void elementwise_scale_shift(const RowsArgsOf<typename V::Element>& args) {
  with_finish<V>(*args.epilogue, [&](auto finish) {
    for (int64_t r = 0; r < args.rows; ++r) {
      const auto* a = args.a + r * args.a_stride;
      auto* out = args.out + r * args.out_stride;
      int64_t i = 0;
      for (; i + V::kWidth <= args.count; i += V::kWidth)
        finish(fma(V::load(a + i), V::load(args.b + i), V::load(args.c + i))).store(out + i);
      const int rest = static_cast<int>(args.count - i);
      if (rest > 0)
        finish(fma(V::load_partial(a + i, rest), V::load_partial(args.b + i, rest),
                   V::load_partial(args.c + i, rest)))
            .store_partial(out + i, rest);
    }
  });
}

// Without an activation behind, which no network has. max and min give NaN where their second
// operand is one.
template <class V>
void elementwise_prelu(const RowsArgsOf<typename V::Element>& args) {
  const V zero = V::set1(0);
  const auto bend = [&](V a, V slope) { return fma(min(zero, a), slope, max(zero, a)); };
  for (int64_t r = 0; r < args.rows; ++r) {
    const auto* a = args.a + r * args.a_stride;
    auto* out = args.out + r * args.out_stride;
    int64_t i = 0;
    for (; i + V::kWidth <= args.count; i += V::kWidth)
      bend(V::load(a + i), V::load(args.b + i)).store(out + i);
    const int rest = static_cast<int>(args.count - i);
    if (rest > 0)
      bend(V::load_partial(a + i, rest), V::load_partial(args.b + i, rest))
          .store_partial(out + i, rest);
  }
}

template <class V>
constexpr ElementwiseKernelsOf<typename V::Element> elementwise_kernels() {
  ElementwiseKernelsOf<typename V::Element> kernels{};
  kernels.add = elementwise_vector<V, Add<V>>;
  kernels.multiply = elementwise_vector<V, Multiply<V>>;
  if constexpr (sizeof(typename V::Element) == sizeof(float)) {  // the others have constants
    kernels.scale_shift = elementwise_scale_shift<V>;
    kernels.prelu = elementwise_prelu<V>;
    kernels.keep_scalar = elementwise_scalar<V, Keep<V>>;
  }
  // The small library is given no operand that repeats over channels.
  if constexpr (!kCompact) {
    kernels.add_scalar = elementwise_scalar<V, Add<V>>;
    kernels.multiply_scalar = elementwise_scalar<V, Multiply<V>>;
  }
  return kernels;
}

}  // namespace activsparse
