// Winograd convolutions of 6x6, 4x4 and 2x2 outputs by 3x3 taps, fp32: the interface between the
// operator and the instruction sets.
//
//   y = A^T [ (G g G^T) . (B^T d B) ] A        d: input patch, g: kernel, y: output tile, . element
//   by element
//
// Along each axis a tile is *full* (kOut outputs from kIn = (kOut - 1) * stride + 3 inputs, which
// become as many products; stride 1 or 2) or *short* (4 of 6, 2 of 4, or 1 of 2 outputs). A short
// axis interpolates at a subset of the full one's points, so that its transformed weights are the
// full one's up to constant factors, which its input transform takes over: ragged edges cost less
// and no weights of their own.
//
// Summed over C input channels, each of the kIn^2 elements k = i * kIn + j is a matrix product M[k]
// = V[k] U[k] with V[k] (tiles, C), U[k] (C, N). Layouts, in floats:
//   v   [k][tile][channel]: element k of a tile starts at v + k * v_stride + tile * row_stride
//   u   [block of vectors of outputs][k][C][vecs * width], made at pack time
//   m   [tile][k][vecs * width], one block of output channels at a time
// Padded channels of v (up to the next whole vector) are written as zeros and never read by the
// product. Elements of a short tile whose points it does not use are neither written nor read.
//
// On a chequerboard half of the elements are enough: winograd_chequered.h.
#pragma once
#include <cstdint>

#include "common/activation.h"
#include "kernels/tile_sizes.h"

namespace activsparse {

// Which axes of a tile are short. Tiles are sorted in this order: whatever points an element k
// belongs to, the tiles that have it are neighbours.
enum WinogradShape : int { kShortWidth = 0, kFull = 1, kShortHeight = 2, kShortBoth = 3 };
inline constexpr int kWinogradShapes = 4;

// Outputs of the short axis of a family, by those of its full one.
constexpr int winograd_short(int out) { return out == 6 ? 4 : out / 2; }

// One image of an NHWC tensor. `x` points at pixel (0, 0), channel 0.
struct WinogradSource {
  const float* x;
  int32_t h, w, channels;
  int64_t row, stride;  // floats between rows, which may run upwards, and between pixels
};

// Where one tile's results go. Pointers are at the tile's first pixel and the block's first
// channel; bit row * kOut + column of `keep` and `fill` stands for a position, others are not
// touched. Those of `fill` take activation(skipped + residual), without a residual just `skipped`.
struct WinogradTarget {
  float* y;
  int64_t row, stride;    // floats between rows, which may run upwards, and between pixels
  const float* residual;  // nullptr: none
  int64_t residual_row, residual_stride;
  const float* bias;
  int32_t channels;  // of this block; may end inside a vector
  int32_t padded;    // 1: whole vectors may be stored
  uint64_t keep, fill;
  const float* skipped;
};

// A part of the weights that is fetched while others are used.
struct WinogradFetch {
  const float* next;
  int64_t floats;
};

// U of one block of output channels: in float32, or in float16 times a power of two for each
// element k (scales[k] takes it back), of which `room` holds an element's as float32 while they are
// used.
struct WinogradWeights {
  const float* u;
  const uint16_t* half;  // nullptr: u has them
  const float* scales;
  float* room;
};

// tile[n - 1][r - 1]: m[r] = sum over c < channels of v[r][c] * u[c], for r tiles and n vectors of
// outputs; `more` adds to m instead.
struct WinogradProducts {
  TileSizes sizes;
  void (*tile[kMaxTileVectors][kMaxTileRows])(const float* v, int64_t row_stride, int channels,
                                              const float* u, float* m, int64_t m_stride, bool more,
                                              const WinogradFetch& fetch);
};

struct WinogradKernels {
  int max_vecs;  // largest `vecs` of a block of output channels, at most kMaxTileVectors
  // B^T d B of the patch whose first element is pixel (top, left), zeros outside of the image.
  void (*transform_input[kWinogradShapes])(const WinogradSource& source, int top, int left,
                                           float* v, int64_t v_stride);
  // All products of consecutive tiles with one block of `vecs` vectors of output channels; the
  // tiles of shape s are the rows first[s] to first[s + 1] of v and m.
  void (*multiply)(const float* v, int64_t v_stride, int64_t row_stride,
                   const int (&first)[kWinogradShapes + 1], int channels,
                   const WinogradWeights& weights, int vecs, float* m);
  // activation(A^T m A + bias + residual) of one tile, and its skipped positions.
  void (*transform_output[kWinogradShapes])(const float* m, int vecs, const WinogradTarget& target,
                                            const Epilogue& epilogue);
};

}  // namespace activsparse
