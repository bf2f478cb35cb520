// Interfaces of the kernels on float16, of tensors whose elements are `Half`.
//
// Products are multiplied and added in float16, at most kMostHalfTerms of them to a sum, and such
// sums are added in float32: the longer a sum, the coarser the last place of what it has reached,
// and the more each further product loses. Bias, residual and activation are of float32, and a
// result is rounded once. docs/numerics.md derives the bound.
//
// This header is compiled with the flags of every instruction set; see kernels.h.
#pragma once
#include <cstdint>

#include "common/activation.h"
#include "common/half.h"
#include "kernels/tile_sizes.h"

namespace activsparse {

// Products to a sum in float16. Adding a sum of 64 to float32 ones takes a tenth of the time of its
// products; docs/numerics.md has what it is worth.
inline constexpr int kMostHalfTerms = 64;

// Register tiles of a matrix product whose left rows are addressed through pointers:
//   out[r][o] = activation(start[o] + sum over t < taps, c < channels of
//               rows[t][r][c] * weights[t][c][o] + residual[r][o])
// for r < tile rows, o < vectors * width. Reads exactly `channels` elements of every row.
struct ProductF16Args {
  const Half* const* rows;  // (taps, tile rows)
  const Half* const*
      weights;  // (taps): each (channels, vectors * width), zero beyond the last lane
  int taps, channels;
  const float* start;           // (vectors * width)
  Half* const* out;             // (tile rows)
  const Half* const* residual;  // (tile rows) or nullptr
  const Epilogue* epilogue;
  int lanes;        // 1..width: lanes of the last vector that hold results; residual lanes read
  int store_lanes;  // lanes..width: lanes of the last vector that are written
};

// tile[v - 1][r - 1] computes r rows by v vectors.
struct ProductF16Kernels {
  TileSizes sizes;
  void (*tile[kMaxTileVectors][kMaxTileRows])(const ProductF16Args& args);
};

// Depthwise products of a few rows, one channel per lane, of at most kMostHalfTerms taps:
//   out[r][c] = activation(start[c] + sum over t < taps of rows[t][r][c] * weights[t][c] +
//   residual[r][c])
struct DepthwiseF16Args {
  const Half* const* rows;     // (taps, tile rows)
  const Half* const* weights;  // (taps): each (channels rounded up to whole vectors)
  int taps, channels;
  const float* start;           // (channels rounded up to whole vectors)
  Half* const* out;             // (tile rows)
  const Half* const* residual;  // (tile rows) or nullptr
  const Epilogue* epilogue;
  int whole_vectors;  // 1: every row may be read and written up to the next whole vector
};

inline constexpr int kDepthwiseF16Rows = 8;

// tile[r - 1] has r rows, and goes through as many vectors of channels at once as `sizes` says.
struct DepthwiseF16Kernels {
  TileSizes sizes;
  void (*tile[kDepthwiseF16Rows])(const DepthwiseF16Args& args);
};

// To the nearest float16, halves to even, infinite from 65520 on; and back, exactly.
struct ConvertF16Kernels {
  void (*narrow)(const float* in, Half* out, int64_t count);
  void (*widen)(const Half* in, float* out, int64_t count);
};

}  // namespace activsparse
