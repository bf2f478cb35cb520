// Weights of a Winograd convolution, transformed and packed.
#pragma once
#include <cstdint>

namespace activsparse {

// First vector of output channels of block `block`: `vectors` are shared among `blocks` as evenly
// as possible.
inline int block_start(int vectors, int blocks, int block) {
  return static_cast<int>(int64_t{vectors} * block / blocks);
}

// The algorithm that the weights are for.
struct WinogradForm {
  int out, stride;         // tile size 6, 4 or 2; stride 1 or (not with 6) 2
  bool chequered = false;  // kernels/winograd_chequered.h; size 6 or 4, stride 1
  bool flipped = false;    // the kernel upside down
  constexpr int points() const { return (out - 1) * stride + 3; }
  constexpr int elements() const {
    return chequered ? points() * points() / 2 : points() * points();
  }
};

// U = G g G^T, computed in double precision and rounded once. `weight` is (O, C, 3, 3); `width` the
// floats of a vector. Result: per block of output channels [k][C][block's vectors * width], k = row
// * points + column of U, or the numbering of winograd_chequered.h. What lies beyond O is left as
// it is: zero, where it is packed.
void transform_winograd_weights(const float* weight, int outputs, int channels,
                                const WinogradForm& form, int width, int blocks, float* u);

// G of 3 or 4 taps at the points of winograd6: F(6, 3) or F(5, 4).
void winograd8_matrix(int taps, double (*g)[4]);

}  // namespace activsparse
