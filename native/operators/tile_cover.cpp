#include "operators/tile_cover.h"

#include <algorithm>

namespace activsparse {
namespace {

// The mask seen with rows and columns swapped, or as it is.
struct View {
  const uint8_t* mask;
  int h, w;
  bool swapped;
  bool kept(int y, int x) const {
    return !mask || mask[swapped ? int64_t{x} * h + y : int64_t{y} * w + x];
  }
};

// First columns of the tiles that cover the kept positions of rows [begin, end).
std::vector<int> band_tiles(const View& view, int begin, int end, int size) {
  std::vector<int> starts;
  for (int x = 0; x < view.w;) {
    bool any = false;
    for (int y = begin; y < end; ++y) any = any || view.kept(y, x);
    if (any) starts.push_back(x);
    x += any ? size : 1;
  }
  return starts;
}

struct Band {
  int begin, end;
  std::vector<int> starts;
};

// The bands of the cover with the fewest tiles; equal counts prefer high bands.
std::vector<Band> best_bands(const View& view, int size) {
  std::vector<int> count(view.h + 1, 0), next(view.h + 1, view.h);
  for (int y = view.h - 1; y >= 0; --y) {
    count[y] = -1;
    for (int end = std::min(y + size, view.h); end > y; --end) {
      const int tiles = static_cast<int>(band_tiles(view, y, end, size).size()) + count[end];
      if (count[y] >= 0 && tiles >= count[y]) continue;
      count[y] = tiles;
      next[y] = end;
    }
  }
  std::vector<Band> bands;
  for (int y = 0; y < view.h; y = next[y])
    bands.push_back({y, next[y], band_tiles(view, y, next[y], size)});
  return bands;
}

size_t tiles_in(const std::vector<Band>& bands) {
  size_t n = 0;
  for (const Band& band : bands) n += band.starts.size();
  return n;
}

}  // namespace

std::vector<CoverTile> cover_with_tiles(const uint8_t* mask, int h, int w, int size) {
  View view{mask, h, w, false};
  std::vector<Band> bands = best_bands(view, size);
  const View swapped{mask, w, h, true};
  std::vector<Band> columns = best_bands(swapped, size);
  if (tiles_in(columns) < tiles_in(bands)) {
    bands = std::move(columns);
    view = swapped;
  }
  std::vector<CoverTile> tiles;
  for (const Band& band : bands)
    for (int start : band.starts) {
      uint16_t keep = 0;
      for (int y = band.begin; y < band.end; ++y)
        for (int x = start; x < std::min(start + size, view.w); ++x) {
          const int i = y - band.begin, j = x - start;
          if (view.kept(y, x))
            keep = static_cast<uint16_t>(keep | 1u << (view.swapped ? j * size + i : i * size + j));
        }
      CoverTile tile{static_cast<int16_t>(band.begin), static_cast<int16_t>(start), keep};
      if (view.swapped) std::swap(tile.y, tile.x);
      tiles.push_back(tile);
    }
  return tiles;
}

}  // namespace activsparse
