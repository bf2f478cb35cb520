// Kernels on bytes: uint8 activations, int8 weights, int32 sums. All are exact up to the rounding
// that the operators define, on every instruction set.
//
// An activation q stands for (q - zero) * scale. Operators fold zero points of inputs into `start`
// (a padded position holds the zero point, so every tap counts), and turn a sum into an output in
// float32, as ONNX Runtime does: clip, round half to even, add the zero point.
//
// Channels are taken four at a time ("quads"), as the processors' dot products do: every uint8
// pixel may be read up to the next multiple of four channels, where weights are zero.
//
// This header is compiled with the flags of every instruction set; see kernels.h.
#pragma once
#include <cstdint>

#include "kernels/tile_sizes.h"

namespace activsparse {

// What becomes of a sum: v = clip(sum * scale[o] + shift[o], lo, hi), relative to a
// zero point (shift: what of a float32 bias is no whole sum). Where it is
// rescaled, round(v) goes on as clip(round(v) * kept, ...), and where there is a residual r as
// clip(round(v) * kept + r * residual_scale + shift, residual_lo, residual_hi).
struct FinishU8 {
  float lo, hi;
  float kept, residual_scale, shift;
  float residual_lo, residual_hi;
  int32_t zero;      // of the output
  int32_t rescaled;  // 1: without a residual
  int32_t to_float;  // 1: float32 results, sum * scale clipped and nothing else
  int32_t bounded;   // 1: no scaled sum leaves 32 bits, so that bytes can be clipped in place of it
};

// Steps of a tap where sums of products have to fit 16 bits (operators/safe_pairs.h): first steps
// of two quads whose products fit them together, then steps of one, all for every vector; then, for
// each vector, steps of two quads for it alone. Weights and offsets lie in this order, the quads of
// a step one after the other.
struct StepCounts {
  int32_t twos, ones, apart[kMaxTileVectors];
};

// Where the sums of a tile start from, and what becomes of them.
struct SumsU8Args {
  const int32_t* start;            // (vectors * width)
  const float *scale, *shift;      // (vectors * width)
  uint8_t* const* out;             // (tile rows): of uint8 or float32
  const uint8_t* const* residual;  // (tile rows) or nullptr
  int64_t column;  // of the tile's first lane, counted from where `out` and `residual` point to
  const FinishU8* finish;
  int lanes;  // of the last vector that are read of a residual, and written
};

// Register tiles of a product whose left rows are addressed through pointers:
//   sums[r][o] = start[o] + sum over t < taps, k < 4 * steps of rows[t][r][k] * weights[t][k][o]
struct ProductU8Args : SumsU8Args {
  const uint8_t* const* rows;  // row r of tap t: rows[t * row_step + r]
  int row_step;
  const int8_t* const* weights;    // (taps): each (steps, vectors * width, 4)
  const int32_t* const* offsets;   // (taps): where each step's quad starts in a row; see StepCounts
  const StepCounts* const* steps;  // (taps), where there are offsets
  int taps;
  int quads;  // steps of every tap, where there are no offsets
};

struct ProductU8Kernels {
  TileSizes sizes;
  // By how much activations are lowered before they are multiplied in even and in odd steps of a
  // tap: `start` has to hold as many times the sums of the weights of these steps more.
  int32_t lowered[2];
  void (*tile[kMaxTileVectors][kMaxTileRows])(const ProductU8Args& args);
};

// Register tiles of a product of 16-bit numbers, which is exact whatever the weights (words_u8.h):
//   sums[r][o] = start[o] + sum over k < 4 * quads of rows[r][k] * weights[k][o]
// for r < (1 + more) * tile rows. Of every quad the even elements come first, then the odd ones.
struct WordsU8Args : SumsU8Args {
  const uint16_t* rows;  // each `row_words` from the one before
  int64_t row_words;
  const int16_t* weights;  // (quads, 2, vectors * width, 2)
  int quads;
  int more;  // tiles of as many rows, that follow in `rows`, `out` and `residual`
};

struct WordsU8Kernels {
  TileSizes sizes;
  void (*tile[kMaxTileVectors][kMaxTileRows])(const WordsU8Args& args);
  // Rows of WordsU8Args, `words` apart: of each of them those of all taps, so many quads of each
  // of rows[t * row_step + r], one after the other.
  void (*widen_rows)(const uint8_t* const* rows, int row_step, int count, int taps, int quads,
                     uint16_t* out, int64_t words);
  // A tap's weights (quads, vectors * width, 4) as those of WordsU8Args.
  void (*widen_weights)(const int8_t* in, int quads, int vectors, int16_t* out);
};

// Depthwise products of one position, taps ("slots", a multiple of four) that may repeat. Channels
// go by blocks of four vectors; in a block, element (j, 4 l + i) of start, scale and every four
// slots' weights belongs to channel 16 l + 4 j + i: the order that interleaving bytes leads to.
struct DepthwiseU8Args {
  const uint8_t* const* rows;  // (slots)
  const int8_t* weights;       // (blocks, slots / 4, 4 * width, 4)
  int slots, channels;
  const int32_t* start;        // (blocks, 4 * width)
  const float *scale, *shift;  // (blocks, 4 * width)
  uint8_t* out;                // pixels of 16-channel groups, read and written whole
  const FinishU8* finish;
};

// Depthwise products by columns (depthwise_u8.h). Pixels of a line are interleaved four columns at
// a time: of every channel four bytes side by side, its *quad*, in blocks of channels in the order
// that DepthwiseU8Args has. A quad serves all outputs whose taps it holds, of every kernel row.
struct InterleaveU8Args {
  const uint8_t* const* pixels;  // quad i is made of pixels[i * step .. i * step + 3]
  int quads, step;
  int channels;  // a multiple of 16, read whole
  void* out;     // (quads, blocks, taps_bytes)
};

// Outputs of one row. Each is start + the sum over `lines` of `quads` neighbouring quads of the
// line times weights, and none of them leaves 32 bits when it is scaled.
struct DepthwiseColumnsU8Args {
  const uint8_t* const* lines;  // (line_count), of the row's first quad and the first block
  int line_count, quads;
  int64_t quad_bytes;  // from a quad of a line to the next
  // Output i takes its quads from quad_at[i] bytes on and its weights from weight_at[i] on.
  const int32_t *quad_at, *weight_at, *column;
  int outputs;
  const uint8_t* weights;  // (blocks): at weight_at (line_count, quads, taps_bytes)
  int64_t block_bytes;     // from a block's weights to the next
  const int32_t* start;    // (blocks, 4 * width)
  const float *scale, *shift;
  uint8_t* out;  // output i goes to out + column[i] * out_step
  int64_t out_step;
  int channels;  // a multiple of 16, written whole
  const FinishU8* finish;
};

// Runs of bytes. `count` is a number of elements, all of which are read and written, and no others.
struct MapU8Args {
  const void* a;
  const void* b;
  void* out;
  int64_t count;
  float a_scale, b_scale, shift, lo, hi;
  int32_t a_zero, b_zero, zero;
};

// Rows of bytes, each replaced by what the table has for it: `count` of every row, and no others. A
// row may be replaced in place.
struct LookupU8Args {
  const uint8_t* table;      // (256)
  const uint8_t* const* in;  // (rows)
  uint8_t* const* out;       // (rows)
  int rows;
  int64_t count;
};
using LookupU8 = void (*)(const LookupU8Args& args);

// What types of bytes_*.h say that multiply activations as they are, one quad after the other.
struct QuadByQuad {
  static constexpr bool kOwnSteps = false;
  static constexpr bool kWords = false;  // whether there are products of words_u8.h
  static constexpr int kLowered = 0, kLoweredOdd = 0;
  static constexpr bool kLooksUp = false;  // faster than one byte after the other
  static constexpr int rows_at_once(int) { return kMaxTileRows; }
  // Has a compiler keep in a register what it would load again and again.
  template <class T>
  static void keep(T&) {}
};

struct BytesKernels {
  // float32 to uint8: round(a * a_scale), clipped, plus zero.
  void (*quantise)(const MapU8Args& args);
  // uint8 to float32: (a - a_zero) * a_scale.
  void (*dequantise)(const MapU8Args& args);
  // round(a * a_scale + b * b_scale + shift), clipped, plus zero.
  void (*add)(const MapU8Args& args);
  // round((a - a_zero) * (b - b_zero) * a_scale), clipped, plus zero.
  void (*multiply)(const MapU8Args& args);
  void (*maximum)(const MapU8Args& args);
  LookupU8 lookup;
  // int32 sums += uint8 elements.
  void (*accumulate)(const uint8_t* a, int32_t* sums, int64_t count);
  void (*depthwise)(const DepthwiseU8Args& args);
  // Bytes of a block's quads. Where that is 32 times the width, quads are 16-bit numbers, and so
  // are weights: first the even ones of every four, then the odd ones.
  int taps_bytes;
  int32_t lowered;  // as in ProductU8Kernels, of both depthwise ones
  void (*interleave)(const InterleaveU8Args& args);
  void (*depthwise_columns)(const DepthwiseColumnsU8Args& args);
};

}  // namespace activsparse
