#include "operators/winograd_weights.h"

#include <algorithm>
#include <vector>

namespace activsparse {
namespace {

constexpr int kMaxPoints = 9;
constexpr int kLanes = 64;

constexpr double kPoints6[] = {0, 0.5, -0.5, 2, -2, 1, -1};

// Row p of G for a finite point p: (1, p, p^2), with stride 2 (1, 0, p), over the product of (p -
// q) over the other finite points q. For the point at infinity: (0, 0, 1). With stride 2 then one
// row (0, 1, 0) for each output. See docs/numerics.md.
void transform_matrix(int out, int stride, double (*g)[3]) {
  static constexpr double kPoints4[] = {0, 0.625, -0.625, 1.5, -1.5}, kPoints2[] = {0, 1, -1};
  static constexpr double kStrided4[] = {0.375, -0.375, 1.375, -1.375}, kStrided2[] = {0, 1};
  const double* points = stride == 2 ? (out == 4 ? kStrided4 : kStrided2)
                                     : (out == 6   ? kPoints6
                                        : out == 4 ? kPoints4
                                                   : kPoints2);
  const int count = stride == 2 ? out : out + 1;
  for (int i = 0; i < count; ++i) {
    double scale = 1;
    for (int j = 0; j < count; ++j)
      if (j != i) scale *= points[i] - points[j];
    g[i][0] = 1 / scale;
    g[i][1] = stride == 2 ? 0 : points[i] / scale;
    g[i][2] = points[i] * (stride == 2 ? 1 : points[i]) / scale;
  }
  g[count][0] = g[count][1] = 0;
  g[count][2] = 1;
  for (int i = count + 1; i < (out - 1) * stride + 3; ++i) {
    g[i][0] = g[i][2] = 0;
    g[i][1] = 1;
  }
}

// An element of U that is kept: its place in G g G^T, and how many equal ones it stands for.
struct Element {
  int row, column;
  double count;
};

std::vector<Element> elements_of(const WinogradForm& form) {
  std::vector<Element> elements;
  const int points = form.points(), pairs = points / 2 - 1;
  if (!form.chequered) {
    for (int k = 0; k < points * points; ++k) elements.push_back({k / points, k % points, 1});
    return elements;
  }
  for (int k = 0; k < pairs * points; ++k)
    elements.push_back({1 + 2 * (k / points), k % points, 2});
  for (const int end : {0, points - 1}) {
    for (int q = 0; q < pairs; ++q) elements.push_back({end, 1 + 2 * q, 2});
    elements.push_back({end, end, 1});
  }
  return elements;
}

}  // namespace

void winograd8_matrix(int taps, double (*g)[4]) {
  for (int i = 0; i < 7; ++i) {
    double power = 1;
    for (int j = 0; j < 7; ++j)
      if (j != i) power /= kPoints6[i] - kPoints6[j];
    for (int t = 0; t < taps; ++t, power *= kPoints6[i]) g[i][t] = power;
  }
  std::fill_n(g[7], taps - 1, 0.0);
  g[7][taps - 1] = 1;
}

void transform_winograd_weights(const float* weight, int outputs, int channels,
                                const WinogradForm& form, int width, int blocks, float* u) {
  const int in = form.points();
  const std::vector<Element> elements = elements_of(form);
  double g[kMaxPoints][3];
  transform_matrix(form.out, form.stride, g);

  // Many output channels at once, which lie side by side in U: compilers make vectors of them.
  double taps[9][kLanes], columns[kMaxPoints][3][kLanes];
  const int vectors = (outputs + width - 1) / width;
  for (int block = 0; block < blocks; ++block) {
    const int first = block_start(vectors, blocks, block) * width;
    const int lanes = block_start(vectors, blocks, block + 1) * width - first;
    float* packed = u + int64_t{first} * form.elements() * channels;
    for (int begin = 0; begin < std::min(lanes, outputs - first); begin += kLanes) {
      const int count = std::min({kLanes, lanes - begin, outputs - first - begin});
      for (int c = 0; c < channels; ++c) {
        for (int o = 0; o < count; ++o) {
          const float* w = weight + (int64_t{first + begin + o} * channels + c) * 9;
          for (int t = 0; t < 9; ++t) {
            const int from = form.flipped ? (2 - t / 3) * 3 + t % 3 : t;
            taps[t][o] = form.chequered && t % 2 == 1 ? 0 : w[from];  // the others meet zeros
          }
        }
        for (int i = 0; i < in; ++i)
          for (int j = 0; j < 3; ++j)
            for (int o = 0; o < count; ++o)
              columns[i][j][o] =
                  g[i][0] * taps[j][o] + g[i][1] * taps[3 + j][o] + g[i][2] * taps[6 + j][o];
        for (std::size_t k = 0; k < elements.size(); ++k) {
          const double (*column)[kLanes] = columns[elements[k].row];
          double factors[3];
          for (int t = 0; t < 3; ++t) factors[t] = elements[k].count * g[elements[k].column][t];
          float* row = packed + (static_cast<int64_t>(k) * channels + c) * lanes + begin;
          for (int o = 0; o < count; ++o)
            row[o] = static_cast<float>(column[0][o] * factors[0] + column[1][o] * factors[1] +
                                        column[2][o] * factors[2]);
        }
      }
    }
  }
}

}  // namespace activsparse
