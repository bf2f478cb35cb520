// Means and variances, in two passes: of what deviates from the mean there are squares, so that a
// large mean costs no digits. The deviations are summed, too: what they do not cancel is the mean's
// rounding, and corrects it and the squares (Chan, Golub and LeVeque, 1983, "Algorithms for
// computing the sample variance"), so that values all alike deviate by nothing. Sums run over
// blocks of kBlock elements first, so that the error of long ones grows with the number of blocks.
// Memory-bound: no unrolling. Reads and writes exactly `count` floats of each row.
#pragma once
#include <array>

#include "kernels/finish.h"
#include "kernels/kernels.h"

namespace activsparse {

inline constexpr int64_t kBlock = 128;

// One vector of each of N sums.
template <class V, int N>
struct Sums {
  V of[N];

  static Sums zero() {
    Sums sums;
    for (V& sum : sums.of) sum = V::zero();
    return sums;
  }
  void add(const Sums& more) {
    for (int k = 0; k < N; ++k) of[k] = of[k] + more.of[k];
  }
};

template <class V>
inline auto values() {
  return [](V x) { return Sums<V, 1>{{x}}; };
}

// What deviates from `mean`, and its square.
template <class V>
inline auto deviations(V mean) {
  return [=](V x) { return Sums<V, 2>{{x - mean, (x - mean) * (x - mean)}}; };
}

// Sums over i < count of terms(vector of x at i), the lanes beyond the end left out.
template <class V, class Terms>
inline auto sums_of_row(const float* x, int64_t count, const Terms& terms) {
  using Vectors = decltype(terms(V::zero()));
  constexpr int kSums = sizeof(Vectors::of) / sizeof(V);
  std::array<float, kSums> sums{};
  float lanes[V::kWidth];
  const auto add = [&](const Vectors& block, int64_t width) {
    for (int k = 0; k < kSums; ++k) {
      block.of[k].store(lanes);
      float part = 0;
      for (int64_t lane = 0; lane < width; ++lane) part += lanes[lane];
      sums[k] += part;
    }
  };
  int64_t i = 0;
  for (const int64_t whole = count - count % V::kWidth; i < whole;) {
    const int64_t end = whole - i > kBlock ? i + kBlock : whole;
    Vectors block = Vectors::zero();
    for (; i < end; i += V::kWidth) block.add(terms(V::load(x + i)));
    add(block, V::kWidth);
  }
  add(terms(V::load_partial(x + i, static_cast<int>(count - i))), count - i);
  return sums;
}

// out[i] = activation((x[i] - mean) / sqrt(variance + epsilon) * scale[i] + shift[i]).
template <class V>
void normalize_row(const NormalizeArgs& args) {
  const float size = static_cast<float>(args.count);
  const float rounded = sums_of_row<V>(args.x, args.count, values<V>())[0] / size;
  const auto [sum, squares] = sums_of_row<V>(args.x, args.count, deviations(V::set1(rounded)));
  const float off = sum / size, square = squares / size - off * off;
  // Not std::max: it would take 0 for NaN.
  const float variance = square < 0 ? 0 : square;
  const float inverse = 1.0f / __builtin_sqrtf(variance + args.epsilon);
  const V mean = V::set1(rounded), factor = V::set1(inverse), offset = V::set1(-off * inverse);
  with_finish<V>(*args.epilogue, [&](auto finish) {
    int64_t i = 0;
    for (; i + V::kWidth <= args.count; i += V::kWidth)
      finish(fma(fma(V::load(args.x + i) - mean, factor, offset), V::load(args.scale + i),
                 V::load(args.shift + i)))
          .store(args.out + i);
    const int rest = static_cast<int>(args.count - i);
    if (rest > 0)
      finish(fma(fma(V::load_partial(args.x + i, rest) - mean, factor, offset),
                 V::load_partial(args.scale + i, rest), V::load_partial(args.shift + i, rest)))
          .store_partial(args.out + i, rest);
  });
}

// Sums over the rows of terms(vector of each at column i), of `lanes` lanes.
template <class V, class Terms>
inline auto sums_of_column(const MomentsArgs& args, int64_t i, int lanes, const Terms& terms) {
  using Vectors = decltype(terms(V::zero()));
  Vectors sums = Vectors::zero();
  for (int64_t row = 0; row < args.rows;) {
    const int64_t end = args.rows - row > kBlock ? row + kBlock : args.rows;
    Vectors block = Vectors::zero();
    for (; row < end; ++row) {
      const float* x = args.x + row * args.stride + i;
      block.add(terms(lanes == V::kWidth ? V::load(x) : V::load_partial(x, lanes)));
    }
    sums.add(block);
  }
  return sums;
}

// Of every column: its mean, and the sum of the squares of what its elements deviate from that.
template <class V>
void column_moments(const MomentsArgs& args) {
  const V share = V::set1(1.0f / static_cast<float>(args.rows));
  for (int64_t i = 0; i < args.count; i += V::kWidth) {
    const int lanes = args.count - i < V::kWidth ? static_cast<int>(args.count - i) : V::kWidth;
    const V mean = sums_of_column<V>(args, i, lanes, values<V>()).of[0] * share;
    const Sums<V, 2> sums = sums_of_column<V>(args, i, lanes, deviations(mean));
    const V off = sums.of[0] * share;
    (mean + off).store_partial(args.means + i, lanes);
    // The second operand of max, so that NaN stays.
    max(V::zero(), sums.of[1] - off * sums.of[0]).store_partial(args.squares + i, lanes);
  }
}

template <class V>
void centre_rows(const CentreArgs& args) {
  with_finish<V>(*args.epilogue, [&](auto finish) {
    for (int64_t r = 0; r < args.rows; ++r) {
      const float* x = args.x + r * args.stride;
      float* out = args.out + r * args.out_stride;
      int64_t i = 0;
      for (; i + V::kWidth <= args.count; i += V::kWidth)
        finish(fma(V::load(x + i) - V::load(args.means + i), V::load(args.factors + i),
                   V::load(args.shifts + i)))
            .store(out + i);
      const int rest = static_cast<int>(args.count - i);
      if (rest > 0)
        finish(fma(V::load_partial(x + i, rest) - V::load_partial(args.means + i, rest),
                   V::load_partial(args.factors + i, rest), V::load_partial(args.shifts + i, rest)))
            .store_partial(out + i, rest);
    }
  });
}

template <class V>
constexpr NormalizeKernels normalize_kernels() {
  if constexpr (kCompact) return {};
  return {normalize_row<V>, column_moments<V>, centre_rows<V>};
}

}  // namespace activsparse
