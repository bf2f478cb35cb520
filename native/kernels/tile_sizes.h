// The register tiles of a product that an instruction set has.
#pragma once

namespace activsparse {

inline constexpr int kMaxTileRows = 16, kMaxTileVectors = 4;

// Tiles of v vectors, v <= max_vectors, have 1 to max_rows[v - 1] rows. best_rows are fastest where
// the weights lie in the first-level cache. max_vectors is 0 where there are none.
struct TileSizes {
  int max_vectors = 0;
  int max_rows[kMaxTileVectors] = {}, best_rows[kMaxTileVectors] = {};
};

}  // namespace activsparse
