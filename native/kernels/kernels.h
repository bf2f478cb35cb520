// The kernel table: what each instruction set offers, as plain function pointers. Operators call
// kernels through it and never name a vector type.
//
// table.inc lists every family, its data type, and the tiles each instruction set has of it; a
// member of `Kernels` is named <family>_<data type>. To add a family: declare its interface here
// (or in a header included here), write a template <family>_kernels over the vector type that
// returns it as a constant, and add its lines to table.inc.
//
// This header and everything the templates include is compiled with the flags of every instruction
// set. It must not use the standard library, and functions that are not templates over the vector
// type must have internal linkage: the linker would otherwise merge copies compiled for different
// sets, and a plain machine might run the AVX-512 one.
#pragma once
#include <cstddef>
#include <cstdint>

#include "common/activation.h"
#include "common/isa_enum.h"
#include "kernels/bytes.h"
#include "kernels/cache_sizes.h"
#include "kernels/halves.h"
#include "kernels/tile_sizes.h"
#include "kernels/winograd.h"

namespace activsparse {

// Register tiles of a matrix product whose left rows are addressed through pointers:
//   sums[r][o] = start[o] + sum over t < taps, c < channels of rows[t][r][c] * weights[t][c][o]
//   out[r][column + o]  = activation(sums[r][o] + residual[r][column + o])
// for r < tile rows, o < vectors * width. Reads exactly `channels` floats of every row.
struct GemmArgs {
  const float* const* rows;     // (1 + more, taps, tile rows)
  const float* const* weights;  // (taps): each (channels, vectors * width), 64-byte aligned, zero
                                // beyond the last lane
  int taps, channels;
  // Only for gather_gemm, (channels): channel c of a row lies at rows[t][r][distances[c]].
  const int32_t* distances;
  const float*
      start;  // (vectors * width), usually the bias; nullptr: sums go on from what `out` holds
  float* const* out;             // (1 + more, tile rows)
  const float* const* residual;  // (1 + more, tile rows) or nullptr
  const Epilogue*
      epilogue;  // nullptr: raw sums are left in `out`, no residual, no activation: more is to come
  int lanes;  // 1..width: lanes of the last vector that hold results; residual lanes that are read
  int store_lanes;  // lanes..width: lanes of the last vector that are written
  // Floats from a channel's weights to a cache line that a later call needs: each channel brings
  // two such lines into the second-level cache meanwhile, if the tile has at most kFetchRows rows.
  // 0: none.
  int64_t fetch[2];
  int64_t
      column;  // floats from where `out` and `residual` point to the tile's first output channel
  int more;    // tiles of as many rows, that follow in `rows`, `out` and `residual`
};
inline constexpr int kFetchRows = 8;  // taller tiles have no registers for it, and few weights

// tile[v - 1][r - 1] computes r rows by v vectors.
//
// Those of half_gemm have only half a vector of results in the last one, whose weights and `start`
// are there twice: `lanes` and `store_lanes` are at most width / 2.
struct GemmKernels {
  TileSizes sizes;
  void (*tile[kMaxTileVectors][kMaxTileRows])(const GemmArgs& args);
};

// One register tile of a matrix product that is added to what `out` holds:
//   out[r][o] += sum over c < channels of rows[r][first + c] * weights[c][o]
// for r < tile rows, o < vectors * width.
struct TapProductArgs {
  const float* const* rows;  // (tile rows)
  int64_t first;
  const float* weights;  // (channels, vectors * width), zero beyond the last lane
  int channels;
  float* const* out;  // (tile rows)
  int store_lanes;    // 1..width: lanes of the last vector that are read and written
  const float* next;  // what is fetched meanwhile
  int64_t fetch_floats;
};

// tile[v - 1][r - 1] has r rows by v vectors, for all numbers of vectors that `gemm` has.
struct TapProductKernels {
  TileSizes sizes;
  void (*tile[kMaxTileVectors][kMaxTileRows])(const TapProductArgs& args);
};

// Depthwise products of a few rows, one channel per lane:
//   out[r][c] = activation(start[c] + sum over t < taps of rows[t][r][c] * weights[t][c] +
//   residual[r][c])
struct DepthwiseArgs {
  const float* const* rows;     // (taps, tile rows)
  const float* const* weights;  // (taps): each (channels rounded up to whole vectors)
  int taps, channels;
  const float* start;            // (channels rounded up to whole vectors)
  float* const* out;             // (tile rows)
  const float* const* residual;  // (tile rows) or nullptr
  const Epilogue* epilogue;
  int whole_vectors;  // 1: every row may be read and written up to the next whole vector
};

inline constexpr int kDepthwiseRows = 8;

// tile[r - 1] has r rows, and goes through as many vectors of channels at once as `sizes` says.
struct DepthwiseKernels {
  TileSizes sizes;
  void (*tile[kDepthwiseRows])(const DepthwiseArgs& args);
};

// Products of a few rows with small groups of G channels, G a power of two, of one vector of
// channels, which are several groups; outputs and inputs of a group lie in the same lanes:
//   out[r][column + l] = activation(start[l] + sum over t < taps, inputs i of l's group of
//                        rows[t][r][column + i] * weight(t, l, i) + residual[r][column + l])
// `weights` of tap t are at weights + tap_list[t] * G * width, (G, width): that of lane l at
// distance d is for the output of lane l ^ d of the input of lane l.
struct GroupedArgs {
  const float* const* rows;  // (tiles, taps, tile rows)
  const float* weights;
  const int32_t* tap_list;  // (taps)
  int taps, tiles;
  const float* start;            // (width)
  float* const* out;             // (tiles, tile rows)
  const float* const* residual;  // (tiles, tile rows) or nullptr
  const Epilogue* epilogue;
  int64_t column;  // floats from where rows, `out` and `residual` point to the vector
  int lanes;       // 1..width: those that are read and written
};

// tile[log2(G) - 1][r - 1] has r rows; its `sizes` are by log2(G) in place of numbers of vectors.
struct GroupedKernels {
  TileSizes sizes;
  void (*tile[kMaxTileVectors][kMaxTileRows])(const GroupedArgs& args);
};

// Depthwise products of a block of neighbouring positions, H rows by `columns`, all of whose inputs
// are read once: `lines` are the (H - 1) * stride + kernel rows of (columns - 1) * stride + kernel
// inputs each that the block sees.
struct DepthwiseBlockArgs {
  const float* const* const* lines;
  const float* weights;  // (kernel * kernel, weight_stride)
  int64_t weight_stride;
  int columns, channels;
  const float* start;
  // Output (y, x) lies at out + y * out_row + x * out_column, the residual, if any, likewise.
  float* out;
  int64_t out_row, out_column;
  const float* residual;
  int64_t residual_row, residual_column;
  // Where keep[y * mask_row + x] is 0, the sum is replaced by `skipped`, (channels rounded up to
  // whole vectors). If that is nullptr, nobody reads the output: kernels that skip leave it as it
  // is, others store anything, to placed + places[y * mask_row + x], if given. There lies the
  // output of a kept position as well, where it would be without them. keep is nullptr: all are
  // kept.
  const uint8_t* keep;
  int64_t mask_row;
  float* placed;
  const int32_t* places;
  const float* skipped;
  const Epilogue* epilogue;
  int whole_vectors;  // as in DepthwiseArgs
  // Only for blocks of any kernel, whose strides are 1 and 2, and whose weights are (vectors of
  // channels, kernel_h * kernel_w, width).
  int kernel_h, kernel_w, stride_h, stride_w;
};

inline constexpr int kMaxBlockRows = 4, kMaxBlockColumns = 56;
inline constexpr int kMaxBlockLines = 9;  // 4 rows of 3x3 with stride 2
inline constexpr int kMaxBlockPixels = kMaxBlockLines * (2 * kMaxBlockColumns + 3);
inline constexpr int kMaxAnyKernel = 31;
inline constexpr int kMaxAnyLines = 2 * (kMaxBlockRows - 1) + kMaxAnyKernel;

// How a block is gone through (depthwise_block.h): kKept is by columns without a mask, and through
// what is kept with one, kKeptPairs two vectors of channels at once. In these forms, and by
// outputs, skipped ones are not computed.
enum class DepthwiseForm { kAny, kWindows, kColumns, kKept, kKeptPairs, kOutputs };

struct DepthwiseBlocks {
  int rows = 0;     // the most of a block; 0: there is none
  int columns = 0;  // up to which wider blocks are faster
  DepthwiseForm form = DepthwiseForm::kWindows;
  void (*block[kMaxBlockRows])(const DepthwiseBlockArgs& args) = {};  // [rows - 1]
  bool skips() const { return form >= DepthwiseForm::kKept; }
};

struct DepthwiseBlockKernels {
  DepthwiseBlocks of[2][2];  // [kernel 3 or 5][stride - 1]
  DepthwiseBlocks any;       // of any kernel
  const DepthwiseBlocks& at(int kernel, int stride) const { return of[kernel == 5][stride - 1]; }
};

// In-place activation of a run of numbers: `out` = activation(`in`); `in` may equal `out`. Touches
// `count` of them only.
template <class T>
struct ActivateKernelsOf {
  void (*run)(const T* in, T* out, int64_t count, const Epilogue& epilogue);
};
using ActivateKernels = ActivateKernelsOf<float>;

// Rows of `count` numbers; a row starts `stride` after the one before it, so stride 0 repeats one
// row. (Here and below T is float, or Half, of which arithmetic is in float32.)
template <class T>
struct RowsArgsOf {
  const T *a, *b, *c;
  T* out;
  int64_t rows, count;
  int64_t a_stride, b_stride, out_stride;
  const Epilogue* epilogue;
};

// `out` = activation(`a` op `b`); the *_scalar ones take one float of `b` per row. scale_shift is a
// * b + c with one row of `b` and `c` for all rows, prelu a where it is positive, else a * b, also
// with one row of `b`, keep_scalar the bits of a that are set in b.
template <class T>
struct ElementwiseKernelsOf {
  using Run = void (*)(const RowsArgsOf<T>& args);
  Run add, add_scalar, multiply, multiply_scalar;
  Run scale_shift, prelu, keep_scalar;  // of floats alone
};
using RowsArgs = RowsArgsOf<float>;
using ElementwiseKernels = ElementwiseKernelsOf<float>;

// `outputs` pixels, `out_step` elements apart; the first sees the window whose first pixel is `in`,
// each next one the window `in_step` elements further. Strides in elements; `count` channels;
// `scale` multiplies the sums of an average.
template <class T>
struct PoolArgsOf {
  const T* in;
  T* out;
  int64_t outputs, in_step, out_step;
  int window_h, window_w;
  int64_t row_stride, col_stride, count;
  float scale;
  const Epilogue* epilogue;
};

template <class T>
struct PoolKernelsOf {
  void (*max)(const PoolArgsOf<T>& args);
  void (*average)(const PoolArgsOf<T>& args);
};
using PoolArgs = PoolArgsOf<float>;
using PoolKernels = PoolKernelsOf<float>;

struct SoftmaxKernels {
  void (*run)(const float* in, float* out, int64_t count);
};

// One row: out = activation((x - mean) / sqrt(variance + epsilon) * scale + shift), mean and
// variance those of its `count` floats.
struct NormalizeArgs {
  const float *x, *scale, *shift;
  float* out;
  int64_t count;
  float epsilon;
  const Epilogue* epilogue;
};

// Of each of `count` columns of `rows` rows, `stride` floats apart: the mean, and the sum of the
// squares of what its elements deviate from it.
struct MomentsArgs {
  const float* x;
  int64_t rows, stride, count;
  float *means, *squares;
};

// out[r][i] = activation((x[r][i] - means[i]) * factors[i] + shifts[i]), strides in floats.
struct CentreArgs {
  const float *x, *means, *factors, *shifts;
  float* out;
  int64_t rows, stride, out_stride, count;
  const Epilogue* epilogue;
};

struct NormalizeKernels {
  void (*row)(const NormalizeArgs& args);
  void (*moments)(const MomentsArgs& args);
  void (*centre)(const CentreArgs& args);
};

// out[c][r] = in[r][c], strides in floats.
struct TransposeKernels {
  void (*run)(const float* in, int64_t in_stride, int64_t rows, int64_t columns, float* out,
              int64_t out_stride);
};

// Weights in float16 as float32 numbers: widen.h.
struct WidenKernels {
  void (*run)(const uint16_t* in, float* out, int64_t count, float scale);
};

// Nothing but independent fused multiply-adds: the ceiling benchmarks compare with.
struct PeakKernels {
  int64_t flops_per_round;
  float (*run)(int64_t rounds);
};

struct Kernels {
  const char* isa;
  int width;  // float32 lanes of a vector
  CacheSizes caches;
#define FAMILY(type, family, Interface) Interface family##_##type;
#include "kernels/table.inc"
};

extern const Kernels kScalarKernels, kNeonKernels, kAvx2Kernels, kAvx512Kernels;

// Of processors that have more than their instruction set says: kernels on bytes that replace those
// above. Same sizes, same layout of weights: a plan does not know of them.
struct BytesTable {
  const char* feature;
  ProductU8Kernels product_u8;
  BytesKernels maps_u8;
};
extern const BytesTable kAvxVnniKernels, kAvx512VnniKernels, kDotprodKernels;
extern const LookupU8 kAvx512VbmiLookup;  // which some of the former have besides

// Of processors that compute in float16 as well: kernels that the table of the instruction set
// has only the sizes of.
struct HalvesTable {
  ProductF16Kernels halves_f16;
  DepthwiseF16Kernels channels_f16;
  ConvertF16Kernels convert_f16;
  ActivateKernelsOf<Half> activate_f16;
  ElementwiseKernelsOf<Half> elementwise_f16;
  PoolKernelsOf<Half> pool_f16;
};
extern const HalvesTable kFp16Kernels;

// What else this processor has for an instruction set, "vnni", "dotprod" or "". The environment
// variable ACTIVSPARSE_FEATURES=none has it go unused.
const char* feature_of(Isa isa);

// Of instruction sets this library was not compiled for, the table holds sizes alone (foreign.cpp):
// enough to pack operators, and no kernel to run them.
const Kernels& kernels_for(Isa isa);

}  // namespace activsparse
