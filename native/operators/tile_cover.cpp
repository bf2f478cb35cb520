#include "operators/tile_cover.h"

#include <algorithm>
#include <climits>

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
  bool any(int begin, int end, int x) const {
    for (int y = begin; y < end; ++y)
      if (kept(y, x)) return true;
    return false;
  }
};

struct Piece {
  int begin, length;
};

// Cuts an axis of `count` places into pieces of 1 to `size` places or of one place at no cost, with
// the lowest sum of cost(begin, length); of equal sums the longest pieces first.
template <class Cost>
std::vector<Piece> cut(int count, int size, const Cost& cost, int64_t* sum) {
  std::vector<int64_t> best(count + 1, 0);
  std::vector<int> length(count + 1, 0);
  for (int at = count - 1; at >= 0; --at) {
    best[at] = INT64_MAX;
    for (int n = std::min(size, count - at); n > 0; --n) {
      const int64_t total = cost(at, n) + best[at + n];
      if (total >= best[at]) continue;
      best[at] = total;
      length[at] = n;
    }
  }
  *sum = best[0];
  std::vector<Piece> pieces;
  for (int at = 0; at < count; at += length[at]) pieces.push_back({at, length[at]});
  return pieces;
}

// Products along an axis for a piece: those of a short or a full tile.
int points(int length, int size, int stride) {
  return winograd_points(length <= winograd_short(size) ? winograd_short(size) : size, stride);
}

// The pieces of a band of rows; empty columns cost nothing.
std::vector<Piece> cut_band(const View& view, Piece band, int size, int stride, int64_t* sum) {
  std::vector<char> kept(view.w);
  for (int x = 0; x < view.w; ++x) kept[x] = view.any(band.begin, band.begin + band.length, x);
  return cut(
      view.w, size,
      [&](int at, int n) -> int64_t { return n == 1 && !kept[at] ? 0 : points(n, size, stride); },
      sum);
}

struct Cover {
  int64_t products;
  std::vector<CoverTile> tiles;
};

Cover cover(const View& view, int size, int stride) {
  int64_t products = 0, ignored;
  const std::vector<Piece> bands = cut(
      view.h, size,
      [&](int at, int n) {
        int64_t sum;
        cut_band(view, {at, n}, size, stride, &sum);
        return sum * points(n, size, stride);
      },
      &products);
  std::vector<CoverTile> tiles;
  for (const Piece& band : bands)
    for (const Piece& piece : cut_band(view, band, size, stride, &ignored)) {
      CoverTile tile{};
      for (int i = 0; i < band.length; ++i)
        for (int j = 0; j < piece.length; ++j)
          (view.kept(band.begin + i, piece.begin + j) ? tile.keep : tile.fill) |=
              uint64_t{1} << (view.swapped ? j * size + i : i * size + j);
      if (!tile.keep) continue;
      tile.y = static_cast<int16_t>(band.begin);
      tile.x = static_cast<int16_t>(piece.begin);
      tile.short_height = band.length <= winograd_short(size);
      tile.short_width = piece.length <= winograd_short(size);
      if (view.swapped) {
        std::swap(tile.y, tile.x);
        std::swap(tile.short_height, tile.short_width);
      }
      tiles.push_back(tile);
    }
  return {products, std::move(tiles)};
}

int order(const CoverTile& tile) {
  return tile.short_height ? 2 + tile.short_width : 1 - tile.short_width;
}

}  // namespace

std::vector<CoverTile> cover_with_tiles(const uint8_t* mask, int h, int w, int size, int stride) {
  Cover rows = cover({mask, h, w, false}, size, stride);
  Cover columns = cover({mask, w, h, true}, size, stride);
  std::vector<CoverTile> tiles =
      std::move(columns.products < rows.products ? columns.tiles : rows.tiles);
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const CoverTile& a, const CoverTile& b) { return order(a) < order(b); });
  return tiles;
}

}  // namespace activsparse
