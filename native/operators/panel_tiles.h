// The tiles of one panel of a matrix product over a list of rows.
//
// A tile takes some time to start and to store. Tiles of the same call hide it from each other
// (kernels/gemm.h), so calls are as long as fetching lets them be.
#pragma once
#include "operators/fetch.h"
#include "operators/panels.h"

namespace activsparse {

// Rows cut into tiles: `count` of `height` rows each, and `last_count` of `last_height` behind.
struct TileCut {
  int height, count, last_height, last_count;
  int tiles() const { return count + last_count; }

  // Tiles of `best` rows, and what is left: with the last of them where that is not more than
  // `most`. If these are the same, the fewest tiles, of heights as equal as can be.
  static TileCut of(int rows, int best, int most) {
    if (best < most && rows >= best) {
      const int rest = rows % best;
      const bool joined = best + rest <= most;
      return {best, rows / best - joined, joined ? best + rest : rest, 1};
    }
    const int tiles = (rows + most - 1) / most;
    if (tiles == 0) return {0, 0, 0, 0};
    return {rows / tiles + 1, rows % tiles, rows / tiles, tiles - rows % tiles};
  }
};

inline TileCut cut_rows(const Panels& panels, const Panel& panel, int rows) {
  return TileCut::of(rows, panels.best_rows(panel), panels.most_rows(panel));
}

// Computes `rows` rows, of which `args` has the lists and everything but what concerns the panel.
// `fetch` is spread over the tiles; without it, all of them fetch args.fetch.
inline void run_panel(const Panels& panels, const Panel& panel, const float* weights, int rows,
                      GemmArgs args, Fetch* fetch) {
  const TileCut cut = cut_rows(panels, panel, rows);
  const auto* tile = panels.gemm(panel).tile[panel.vectors - 1];
  args.weights = &weights;
  args.column = panel.first;
  const auto run = [&](int height, int64_t count) {
    for (int64_t done; count > 0; count -= done) {
      args.more = 0;
      if (fetch != nullptr) {
        fetch->share(args, weights, panel.vectors * panel.width);
        if (args.fetch[0] == 0) args.more = static_cast<int>(fetch->skip(count - 1));
      }
      tile[height - 1](args);
      done = 1 + args.more;
      args.rows += done * height;
      args.out += done * height;
      if (args.residual != nullptr) args.residual += done * height;
    }
  };
  run(cut.height, cut.count);
  run(cut.last_height, cut.last_count);
}

}  // namespace activsparse
