// Which output tiles a Winograd convolution computes: a cover of the kept positions by tiles placed
// anywhere.
#pragma once
#include <cstdint>
#include <vector>

namespace activsparse {

// A tile of size x size output positions, the first of them at (y, x). Bit i * size + j of `keep`
// is set where the tile writes position (y + i, x + j); a tile may reach over other tiles and over
// the edge of the map, but never writes there.
struct CoverTile {
  int16_t y, x;
  uint16_t keep;
};

// Every kept position is written by exactly one tile. `mask` is (h, w), nonzero = kept, nullptr =
// all kept; h and w at most 32767, size at most 4.
//
// The map is cut into bands of at most `size` rows, and each band's kept columns are taken greedily
// from the left, which is optimal within a band; dynamic programming finds the cuts with the fewest
// tiles. The same is tried with bands of columns. The dense grid is one such cover, so there are
// never more tiles than in the dense grid, and a map of kept rows x kept columns gets (runs of
// rows) x (runs of columns) tiles.
std::vector<CoverTile> cover_with_tiles(const uint8_t* mask, int h, int w, int size);

}  // namespace activsparse
