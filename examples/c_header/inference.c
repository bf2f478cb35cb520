/* A masked network in plain C, from two headers: masks.h, which `activsparse export --header`
 * writes, and weights.h. No library is needed.
 *
 *   python make_network.py .
 *   cc -std=c99 -O2 -I. inference.c -o inference
 *   ./inference image.raw          # 3 x 32 x 32 float32; prints the ten outputs
 *
 * A convolution is a matrix product (im2col + GEMM) with one row per output position. Which
 * positions are computed is known when the network is compiled, and the same for every image and
 * channel: a position that its mask leaves out is a row less, and what remains of the product is
 * dense. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "masks.h"
#include "weights.h"

enum { SIZE = 32, POSITIONS = SIZE * SIZE, CLASSES = 10, MOST = 16, TAPS = 9 };

static float rows[POSITIONS][TAPS * MOST]; /* im2col: what each kept position sees */
static int kept[POSITIONS];                /* the kept positions, in order */

/* One row per kept position: the 3x3 neighbourhood, zeros beyond the edge. Returns their number. */
static int im2col(const float* x, int channels, const uint8_t mask[SIZE][SIZE]) {
  int count = 0;
  for (int oy = 0; oy < SIZE; ++oy)
    for (int ox = 0; ox < SIZE; ++ox) {
      float* row = rows[count];
      if (!mask[oy][ox]) continue; /* the whole of activation sparsity */
      for (int ky = 0; ky < 3; ++ky)
        for (int kx = 0; kx < 3; ++kx, row += channels) {
          const int iy = oy + ky - 1, ix = ox + kx - 1;
          if (iy < 0 || ix < 0 || iy >= SIZE || ix >= SIZE)
            memset(row, 0, sizeof(float) * (size_t)channels);
          else
            memcpy(row, x + (iy * SIZE + ix) * channels, sizeof(float) * (size_t)channels);
        }
      kept[count++] = oy * SIZE + ox;
    }
  return count;
}

/* y = relu(mask * (weight x + bias)), y zero where the mask is. Images are [row][column][channel].
 */
static void convolve(const float* x, int inputs, const float* weight, const float* bias,
                     const uint8_t mask[SIZE][SIZE], float* y, int outputs) {
  const int count = im2col(x, inputs, mask), depth = TAPS * inputs;
  memset(y, 0, sizeof(float) * (size_t)(POSITIONS * outputs));
  for (int i = 0; i < count; ++i)
    for (int o = 0; o < outputs; ++o) {
      float sum = bias[o];
      for (int k = 0; k < depth; ++k) sum += rows[i][k] * weight[o * depth + k];
      y[kept[i] * outputs + o] = sum > 0 ? sum : 0;
    }
}

static void classify(const float* x, float scores[CLASSES]) {
  float mean[MOST] = {0};
  for (int p = 0; p < POSITIONS; ++p)
    for (int c = 0; c < MOST; ++c) mean[c] += x[p * MOST + c] / POSITIONS;
  for (int o = 0; o < CLASSES; ++o) {
    scores[o] = classify_bias[o];
    for (int c = 0; c < MOST; ++c) scores[o] += mean[c] * classify_weight[o][c];
  }
}

int main(int argc, char** argv) {
  static float planes[3][POSITIONS], a[POSITIONS * MOST], b[POSITIONS * MOST];
  float scores[CLASSES];
  FILE* file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (file == NULL || fread(planes, sizeof(planes), 1, file) != 1) {
    fprintf(stderr, "usage: inference IMAGE.raw, of %d float32 values\n", 3 * POSITIONS);
    return 1;
  }
  fclose(file);
  for (int p = 0; p < POSITIONS; ++p)
    for (int c = 0; c < 3; ++c) a[p * 3 + c] = planes[c][p];
  convolve(a, 3, &conv1_weight[0][0][0][0], conv1_bias, CONV1, b, 8);
  convolve(b, 8, &conv2_weight[0][0][0][0], conv2_bias, CONV2, a, 16);
  convolve(a, 16, &conv3_weight[0][0][0][0], conv3_bias, CONV3, b, 16);
  classify(b, scores);
  for (int o = 0; o < CLASSES; ++o) printf("%.7g\n", (double)scores[o]);
  return 0;
}
