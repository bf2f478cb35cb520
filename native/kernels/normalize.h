// Means and variances, in two passes: of what deviates from the mean there are squares, so that a
// large mean costs no digits. Sums run over blocks of kBlock elements first, so that the error of
// long ones grows with the number of blocks. Memory-bound: no unrolling. Reads and writes exactly
// `count` floats of each row.
#pragma once
#include "kernels/finish.h"
#include "kernels/kernels.h"

namespace activsparse {

inline constexpr int64_t kBlock = 128;

// Sum over i < count of term(vector of x at i), the lanes beyond the end left out.
template <class V, class Term>
inline float sum_of_terms(const float* x, int64_t count, const Term& term) {
  float lanes[V::kWidth], sum = 0;
  int64_t i = 0;
  for (const int64_t whole = count - count % V::kWidth; i < whole;) {
    const int64_t end = whole - i > kBlock ? i + kBlock : whole;
    V block = V::zero();
    for (; i < end; i += V::kWidth) block = block + term(V::load(x + i));
    block.store(lanes);
    float part = 0;
    for (float lane : lanes) part += lane;
    sum += part;
  }
  term(V::load_partial(x + i, static_cast<int>(count - i))).store(lanes);
  for (int lane = 0; lane < count - i; ++lane) sum += lanes[lane];
  return sum;
}

// out[i] = activation((x[i] - mean) / sqrt(variance + epsilon) * scale[i] + shift[i]).
template <class V>
void normalize_row(const NormalizeArgs& args) {
  const float size = static_cast<float>(args.count);
  const V mean = V::set1(sum_of_terms<V>(args.x, args.count, [](V x) { return x; }) / size);
  const auto squares = [=](V x) { return (x - mean) * (x - mean); };
  const float variance = sum_of_terms<V>(args.x, args.count, squares) / size;
  const V factor = V::set1(1.0f / __builtin_sqrtf(variance + args.epsilon));
  with_finish<V>(*args.epilogue, [&](auto finish) {
    int64_t i = 0;
    for (; i + V::kWidth <= args.count; i += V::kWidth)
      finish(fma((V::load(args.x + i) - mean) * factor, V::load(args.scale + i),
                 V::load(args.shift + i)))
          .store(args.out + i);
    const int rest = static_cast<int>(args.count - i);
    if (rest > 0)
      finish(fma((V::load_partial(args.x + i, rest) - mean) * factor,
                 V::load_partial(args.scale + i, rest), V::load_partial(args.shift + i, rest)))
          .store_partial(args.out + i, rest);
  });
}

// Sum over the rows of term(vector of each at column i), of `lanes` lanes.
template <class V, class Term>
inline V sum_of_column(const MomentsArgs& args, int64_t i, int lanes, const Term& term) {
  V sum = V::zero();
  for (int64_t row = 0; row < args.rows;) {
    const int64_t end = args.rows - row > kBlock ? row + kBlock : args.rows;
    V block = V::zero();
    for (; row < end; ++row) {
      const float* x = args.x + row * args.stride + i;
      block = block + term(lanes == V::kWidth ? V::load(x) : V::load_partial(x, lanes));
    }
    sum = sum + block;
  }
  return sum;
}

// Of every column: its mean, and the sum of the squares of what its elements deviate from that.
template <class V>
void column_moments(const MomentsArgs& args) {
  const V share = V::set1(1.0f / static_cast<float>(args.rows));
  for (int64_t i = 0; i < args.count; i += V::kWidth) {
    const int lanes = args.count - i < V::kWidth ? static_cast<int>(args.count - i) : V::kWidth;
    const V mean = sum_of_column<V>(args, i, lanes, [](V x) { return x; }) * share;
    const V squares =
        sum_of_column<V>(args, i, lanes, [=](V x) { return (x - mean) * (x - mean); });
    mean.store_partial(args.means + i, lanes);
    squares.store_partial(args.squares + i, lanes);
  }
}

template <class V>
constexpr NormalizeKernels normalize_kernels() {
  if constexpr (kCompact) return {};
  return {normalize_row<V>, column_moments<V>};
}

}  // namespace activsparse
