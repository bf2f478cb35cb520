// What becomes of a tile's sums in float16: added to float32, finished there, stored as float16.
#pragma once
#include "kernels/activate.h"
#include "kernels/halves.h"

namespace activsparse {

// The float32 sums of a tile: `from` holds those so far, (rows, row), row 0 where all rows have the
// same.
struct WideSums {
  const float* from;
  int row;
};

// Adds a tile's sums to those so far, in `wide`, and starts them again.
template <class P, int R, int N>
__attribute__((always_inline)) inline void widen_sums(P (&sums)[R][N], float* wide,
                                                      WideSums& so_far) {
  using F = typename P::Floats;
  constexpr int W = P::kWidth, kRow = N * W;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
#pragma GCC unroll 2
      for (int i = 0; i < W / F::kWidth; ++i) {
        const int lane = v * W + i * F::kWidth;
        (F::load(so_far.from + r * so_far.row + lane) + sums[r][v].part(i))
            .store(wide + r * kRow + lane);
      }
      sums[r][v] = P::zero();
    }
  so_far = {wide, kRow};
}

// Where a tile's results go, from its first channel on; `lanes` and `store_lanes` as in
// ProductF16Args.
struct FinishedRows {
  Half* const* out;
  const Half* const* residual;
  int64_t channel;
  const Epilogue* epilogue;
  int lanes, store_lanes;
};

// Of float32 sums in `room`, (rows, row), what no tile has code of its own for: activations other
// than a clip, vectors of which a part is stored.
template <class F>
__attribute__((noinline)) void finish_room(float* room, int rows, int row, int width,
                                           const FinishedRows& to) {
  const int read = row - width + to.lanes, stored = row - width + to.store_lanes;
  if (to.residual != nullptr)
    for (int r = 0; r < rows; ++r)
      for (int i = 0; i < read; ++i) room[r * row + i] += float_of(to.residual[r][to.channel + i]);
  activate_run<F>(room, room, int64_t{rows} * row, *to.epilogue);
  for (int r = 0; r < rows; ++r) {
    Half* const out = to.out[r] + to.channel;
    for (int i = 0; i < stored; i += F::kWidth) {
      Half some[F::kWidth];
      F::load(room + r * row + i).narrow(some);
      for (int l = 0; l < F::kWidth && i + l < stored; ++l) out[i + l] = some[l];
    }
  }
}

// Sums of whole vectors, clipped. Rounding keeps the order of numbers, so that a clip may come
// behind it.
template <bool kAdds, class P, int R, int N>
__attribute__((always_inline)) inline void finish_registers(const P (&sums)[R][N],
                                                            const WideSums& so_far,
                                                            const FinishedRows& to) {
  using F = typename P::Floats;
  constexpr int W = P::kWidth;
  const bool clips = to.epilogue->activation == Activation::kClip;
  const P lo = P::set1(clips ? to.epilogue->lo : -__builtin_inff());
  const P hi = P::set1(clips ? to.epilogue->hi : __builtin_inff());
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      F parts[W / F::kWidth];
#pragma GCC unroll 2
      for (int i = 0; i < W / F::kWidth; ++i) {
        const int lane = v * W + i * F::kWidth;
        parts[i] = F::load(so_far.from + r * so_far.row + lane) + sums[r][v].part(i);
        if constexpr (kAdds) parts[i] = parts[i] + F::load_half(to.residual[r] + to.channel + lane);
      }
      min(hi, max(lo, P::of(parts))).store(to.out[r] + to.channel + v * W);
    }
}

// `room`: (R, N * width) floats, where sums so far may lie.
template <class P, int R, int N>
__attribute__((always_inline)) inline void finish_sums(P (&sums)[R][N], WideSums& so_far,
                                                       float* room, const FinishedRows& to) {
  if (to.epilogue->activation > Activation::kClip || to.store_lanes < P::kWidth ||
      (to.residual != nullptr && to.lanes < P::kWidth)) {
    widen_sums(sums, room, so_far);
    finish_room<typename P::Floats>(room, R, N * P::kWidth, P::kWidth, to);
  } else if (to.residual != nullptr) {
    finish_registers<true>(sums, so_far, to);
  } else {
    finish_registers<false>(sums, so_far, to);
  }
}

}  // namespace activsparse
