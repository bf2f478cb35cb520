// Which output tiles a Winograd convolution computes: a cover of the kept positions by tiles placed
// anywhere.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/winograd.h"

namespace activsparse {

// A tile of output positions, the first of them at (y, x). Along each axis it is `size` positions
// long, or winograd_short(size). Bit i * size + j stands for position (y + i, x + j): in `keep` if
// the tile computes it, in `fill` if it is skipped and no other tile's. A tile may reach over other
// tiles and over the edge of the map, but never writes there.
struct CoverTile {
  uint64_t keep, fill;
  int16_t y, x;
  uint8_t short_height, short_width;
  uint16_t unused;
};

// Products of a tile of `outputs` outputs along an axis: as many as inputs that it sees.
constexpr int winograd_points(int outputs, int stride) { return (outputs - 1) * stride + 3; }

// Every kept position is written by exactly one tile, a skipped one by at most one. `mask` is (h,
// w), nonzero = kept, nullptr = all kept; h and w at most 32767, size 6, 4 or 2. A tile of h x w
// outputs costs the product of winograd_points(h, stride) and winograd_points(w, stride) per pair
// of channels.
//
// The map is cut into bands of rows and each band into tiles, both by dynamic programming, so that
// the products are the fewest of all such covers; and again with bands of columns. The dense grid
// is one such cover, so no mask costs more than the dense map, and a map of kept rows x kept
// columns costs (its rows' runs) x (its columns' runs). The tiles come sorted by shape: short
// width, full, short height, short both (WinogradShape).
std::vector<CoverTile> cover_with_tiles(const uint8_t* mask, int h, int w, int size, int stride);

}  // namespace activsparse
