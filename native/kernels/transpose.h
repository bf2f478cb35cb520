// out[c][r] = in[r][c] for a matrix of rows x columns. Square blocks of one vector's width go
// through registers where the vector type can transpose them (V::transpose); the rest, and one-lane
// vectors, go element by element.
#pragma once
#include "kernels/kernels.h"

namespace activsparse {

template <class V>
void transpose_run(const float* in, int64_t in_stride, int64_t rows, int64_t columns, float* out,
                   int64_t out_stride) {
  constexpr int kWidth = V::kWidth;
  const int64_t whole_rows = rows / kWidth * kWidth, whole_columns = columns / kWidth * kWidth;
  for (int64_t r = 0; r < whole_rows; r += kWidth) {
    for (int64_t c = 0; c < whole_columns; c += kWidth) {
      V block[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) block[i] = V::load(in + (r + i) * in_stride + c);
      V::transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) block[i].store(out + (c + i) * out_stride + r);
    }
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
      out[c * out_stride + r] = in[r * in_stride + c];
}

template <class V>
constexpr TransposeKernels transpose_kernels() {
  return {transpose_run<V>};
}

}  // namespace activsparse
